"""`integrations drift list` and `accept`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from integrations_pipeline.cli import output
from integrations_pipeline.cli.naming import connection_of, numbers_in, place_of
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.profiles import OpenFinding, finding_places, open_findings
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.drift import accept_findings
from integrations_pipeline.sync.result import iso


def run_list(what: str | None, *, json: bool) -> int:
    connection, stream = place_of(what)
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        found = open_findings(session, connection, stream)
    if json:
        output.print_json({"drift": [finding_document(one) for one in found]})
        return 0
    if not found:
        output.console.print("no drift: the sources look as they did")
        return 0
    table = output.table("id", "stream", "field", "what", "severity", "rows", "such as", right=("id", "rows"))
    for one in found:
        place, samples = f"{one.connection}/{one.stream}", ", ".join(one.samples) or "–"
        table.add_row(str(one.id), place, one.path, one.kind.replace("_", " "), one.severity, f"{one.rows:,}", samples)
    output.console.print(table)
    output.console.print("edit the file, or `integrations drift accept ID` where it is right so")
    return 0


def finding_document(one: OpenFinding) -> dict[str, Any]:
    return {**vars(one), "first_seen": iso(one.first_seen), "last_seen": iso(one.last_seen)}


def run_accept(what: list[str], *, json: bool) -> int:
    home = Home.from_environment()
    with open_store(home=home) as store:
        counts = {
            place: accept_findings(*place, store, uuid4(), ids) for place, ids in chosen(store, what, home).items()
        }
    if json:
        entries = [{"connection": name, "stream": stream, "accepted": n} for (name, stream), n in counts.items()]
        output.print_json({"accepted": entries})
        return 0
    for (name, stream), count in counts.items():
        output.console.print(f"{name}/{stream}: {count:,} accepted", markup=False)
    if not counts:
        output.console.print("no drift: the sources look as they did")
    return 0


def chosen(store: Store, what: list[str], home: Home) -> dict[tuple[str, str], list[int] | None]:
    """The findings that are meant, by stream. Raises ConfigError for what isn't open, or isn't there at all."""
    numbers = numbers_in(what)
    found: dict[tuple[str, str], list[int] | None] = {}
    with store.borrow() as session:
        if numbers is None:
            for name, stream in (connection_of(one, home) for one in what):
                found |= {(one.connection, one.stream): None for one in open_findings(session, name, stream)}
            return found
        found |= finding_places(session, numbers)
    missing = sorted(set(numbers) - {number for ids in found.values() for number in ids or ()})
    if missing:
        raise ConfigError(
            f"no open finding has the id {missing[0]}", who=output.TYPED, next="see `integrations drift list`"
        )
    return found
