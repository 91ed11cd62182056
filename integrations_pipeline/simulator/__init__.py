"""Floor 2: a fake of any declared connector, served over real HTTP from its YAML. It imports only ``spec``.

`subjects` and `values` what a field looks like · `stamps` and `keys` the order and identity of records · `records` a
record from its number · `dataset` the seeded records and what changed since · `shaping` rows to an answer's body ·
`paging` the server side of each pagination kind · `views` which request asks for what, `writeforms` what a write says ·
`access` credentials and limits · `reading` and `writes` the answers, `accepting` what is taken of a written record,
`idempotency` its keys · `simulation` the whole source, `server` the HTTP around it.
"""
