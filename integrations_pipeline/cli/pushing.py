"""`integrations push`, and `integrations outbox list`, `show`, `retry`, `discard` and `resolve`."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.deciding import Waiting, given_reason
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.client.redaction import redactor, redactors
from integrations_pipeline.spec.cautions import creating_nothing
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store import outbox
from integrations_pipeline.store.outboxed import ChangeGroup, OutboxChange, change_groups, change_ids, outbox_change
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.result import iso


def run_push(name: str | None, *, json: bool) -> int:
    """What was changed here leaves, of all connections that write unless one is named. The worst exit code counts."""
    from integrations_pipeline.sync.push import PushResult, push

    loaded = load_all(Home.from_environment()).connections
    rivals = creating_nothing(loaded.values())
    writing = [one.name for one in loaded.values() if any(stream.write for stream in one.selected.values())]
    results: list[PushResult] = []
    for each in [name] if name is not None else writing:
        with opened(each, Priority.EVENT) as found:
            parts = (found.connection, found.client, found.store, found.kinds)
            results.append(push(*parts, rivals=rivals.get(found.connection.name, ())))
    if json:
        output.print_json({"pushes": [one.as_dict() for one in results]})
    else:
        for one in results:
            show(one)
        if not results:
            output.console.print("no connection writes anything")
    return max((one.exit_code for one in results), key=(0, 3, 2, 1).index, default=0)


def show(result: Any) -> None:
    counts = ", ".join(f"{count:,} {became.replace('_', ' ')}" for became, count in result.changes.items() if count)
    output.console.print(f"{result.connection}: {counts or 'nothing to send'}", markup=False)
    if result.error is not None:
        output.show_error(output.by_hand(result.error))
    for stream in result.streams.values():
        if stream.error is not None:
            output.show_error(stream.error)
    if result.changes["dead"] or result.changes["parked"]:
        output.console.print("what needs you: `integrations outbox list`")


def run_list(connection: str | None, *, status: str | None, json: bool) -> int:
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        groups = change_groups(session, connection, status)
    knows = redactors((one.connection for one in groups), home)
    groups = [one._replace(why=knows[one.connection].text(one.why)) for one in groups]
    if json:
        output.print_json({"outbox": [group_document(one) for one in groups]})
        return 0
    if not groups:
        output.console.print("no changes")
        return 0
    table = output.table("stream", "operation", "status", "why", "changes", "since", "ids", right=("changes",))
    for one in groups:
        ids = ", ".join(map(str, one.ids)) + (" …" if one.changes > len(one.ids) else "")
        place, since = f"{one.connection}/{one.stream}", output.local(one.first)
        table.add_row(place, one.operation, one.status, one.why or "–", f"{one.changes:,}", since, ids)
    output.console.print(table)
    output.console.print("one change whole, and who must act: `integrations outbox show ID`")
    return 0


def group_document(one: ChangeGroup) -> dict[str, Any]:
    times = {name: iso(getattr(one, name)) for name in ("first", "last", "next_try_at")}
    return {**one._asdict(), **times}


def run_show(number: int, *, json: bool) -> int:
    home = Home.from_environment()
    change = change_of(number, home)
    change = OutboxChange(*redactor(change.connection, home).document(change))
    if json:
        output.print_json({"change": change_document(change)})
        return 0
    record = change.external_id or "new"
    output.console.print(
        f"{change.connection}/{change.stream} {change.operation} {record}: {change.status}"
        f"{f' ({change.outcome})' if change.outcome else ''}, {change.tries} tries",
        markup=False,
    )
    output.console.print(f"edited {output.local(change.edited_at)}, {change.kind} {change.canonical_id}", markup=False)
    if change.first_sent_at is not None:
        output.console.print(
            f"first sent {output.local(change.first_sent_at)}, key {change.idempotency_key}", markup=False
        )
    if change.next_try_at is not None:
        output.console.print(f"next try {output.local(change.next_try_at)}", markup=False)
    if change.reason is not None:
        reason = change.reason
        told = f" ({reason['who']}: {reason['next']})" if reason.get("who") else ""
        output.console.print(f"{reason.get('message', '')}{told}", markup=False)
    if change.before is not None:
        output.console.print(f"there: {change.before}", markup=False)
    output.console.print(f"ours:  {change.changes}", markup=False)
    return 0


def change_document(change: OutboxChange) -> dict[str, Any]:
    times = {name: iso(value) for name, value in change._asdict().items() if name.endswith("_at")}
    ids = {"canonical_id": str(change.canonical_id), "idempotency_key": str(change.idempotency_key)}
    return {**change._asdict(), **times, **ids}


def change_of(number: int, home: Home) -> OutboxChange:
    with open_store(home=home) as store, store.borrow() as session:
        change = outbox_change(session, number)
    if change is None:
        raise ConfigError(f"no change has the id {number}", who=output.TYPED, next="see `integrations outbox list`")
    return change


CHANGES = Waiting(
    "change", change_ids, "see `integrations outbox list --status …`; one that is being sent is left alone"
)


def run_retry(what: list[str], *, json: bool) -> int:
    """Named by ids what waits or is dead; by connection all of that."""
    return CHANGES.decide("retried", what, ("dead", "queued", "unsure"), outbox.retry, json=json)


def run_discard(what: list[str], *, reason: str, json: bool) -> int:
    said = given_reason(reason)
    return CHANGES.decide(
        "discarded", what, ("dead",), lambda session, ids: outbox.discard(session, ids, said), json=json
    )


def run_resolve(number: int, *, external_id: str | None, not_there: bool, json: bool) -> int:
    """Tells what became of a parked create: it is there, under that id, or it isn't."""
    from integrations_pipeline.sync.resolving import resolve

    if (external_id is None) != not_there:
        raise ConfigError(
            "either --external-id or --not-there was expected", who=output.TYPED, next="look for it at the source first"
        )
    change = change_of(number, Home.from_environment())
    if external_id is None:
        with open_store(home=Home.from_environment()) as store, store.borrow() as session:
            if not outbox.not_there(session, number):
                raise CHANGES.undecided([number])
        became = "queued"
    else:
        with opened(change.connection, Priority.USER) as found:
            became = resolve(found.connection, found.client, found.store, found.kinds, change, external_id)
    if json:
        output.print_json({"resolved": {"id": number, "became": became}})
    else:
        output.console.print(f"change {number}: {became}", markup=False)
    return 0
