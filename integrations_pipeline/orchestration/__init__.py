"""Floor 3: connection files as Dagster definitions. The only room that imports dagster, besides `definitions`.

`building` all of a home, broken files beside the good ones · `streams` and `kinds` the assets · `describing` what is
said of them before a run, `reporting` after it · `jobs`, `schedules`, `sensors` when they run · `resources` what they
run with · `storage` and `launcher`, named in dagster.yaml: where Dagster keeps its events, and which runs are alive.
"""
