"""`integrations delivery list`, `show` and `replay`: changes on their way to the addresses of `on_change`."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.naming import numbers_in
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.delivered import (
    DeliveredChange,
    DeliveryGroup,
    dead_of,
    delivered_change,
    delivery_groups,
    replay,
)
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.result import iso


def run_list(kind: str | None, *, status: str | None, json: bool) -> int:
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        groups = delivery_groups(session, kind, status)
    if json:
        output.print_json({"deliveries": [group_document(one) for one in groups]})
        return 0
    if not groups:
        output.console.print("no changes")
        return 0
    table = output.table("kind", "address", "status", "changes", "last", "ids", "reason", right=("changes",))
    for one in groups:
        ids = ", ".join(map(str, one.ids)) + (" …" if one.changes > len(one.ids) else "")
        last = output.local(one.last)
        table.add_row(one.kind, one.target, one.status, f"{one.changes:,}", last, ids, one.reason or "–")
    output.console.print(table)
    output.console.print("one change whole: `integrations delivery show ID`")
    return 0


def group_document(one: DeliveryGroup) -> dict[str, Any]:
    return {**one._asdict(), "first": iso(one.first), "last": iso(one.last)}


def run_show(number: int, *, json: bool) -> int:
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        change = delivered_change(session, number)
    if change is None:
        raise ConfigError(f"no change has the id {number}", who=output.TYPED, next="see `integrations delivery list`")
    change = DeliveredChange(*Redactor().document(change))
    if json:
        output.print_json({"delivery": change_document(change)})
        return 0
    said = (
        f"{change.kind} {change.record_id} {change.change}, to {change.target}: {change.status}, {change.tries} tries"
    )
    output.console.print(said, markup=False)
    output.console.print(f"changed {output.local(change.changed_at)}", markup=False)
    if change.reason is not None:
        output.console.print(change.reason, markup=False)
    output.console.print(f"before {change.before or 'null'}\nafter  {change.after}", markup=False)
    return 0


def change_document(change: DeliveredChange) -> dict[str, Any]:
    times = {name: iso(getattr(change, name)) for name in ("next_try_at", "changed_at", "finished_at")}
    ids = {"message_id": f"msg_{change.message_id.hex}", "record_id": str(change.record_id)}
    return {**change._asdict(), **times, **ids}


def run_replay(what: list[str], *, json: bool) -> int:
    """Named by ids, or by kinds: all their dead ones."""
    numbers = numbers_in(what)
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        ids = numbers if numbers is not None else [id for kind in what for id in dead_of(session, kind)]
        done = sorted(replay(session, ids))
    if numbers is not None and (missing := sorted(set(numbers) - set(done))):
        named = ", ".join(map(str, missing[:5]))
        raise ConfigError(
            f"no dead change has the id {named}",
            who=output.TYPED,
            next="see `integrations delivery list --status dead`",
        )
    if json:
        output.print_json({"replayed": done})
        return 0
    output.console.print(f"{len(done):,} replayed", markup=False)
    return 0
