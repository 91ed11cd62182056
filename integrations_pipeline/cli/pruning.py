"""`integrations prune`."""

from __future__ import annotations

from integrations_pipeline.cli import output
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.pruning import prune
from integrations_pipeline.store.store import open_store


def run_prune(*, json: bool) -> int:
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        taken = prune(session)
    if json:
        output.print_json({"pruned": taken})
        return 0
    said = ", ".join(f"{count:,} of {table}" for table, count in taken.items() if count)
    output.console.print(f"pruned: {said}" if said else "nothing is old enough to be pruned")
    return 0
