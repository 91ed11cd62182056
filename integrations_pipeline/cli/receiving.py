"""`integrations receive`, and `integrations inbox list`, `show`, `replay` and `discard`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from integrations_pipeline.cli import output
from integrations_pipeline.cli.deciding import Waiting, given_reason
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.client.redaction import redactor
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store import inbox
from integrations_pipeline.store.inboxed import EventGroup, InboxEvent, event_groups, ids_of, inbox_event
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.result import iso


def run_receive(name: str, *, json: bool) -> int:
    """Applies what waits now."""
    from integrations_pipeline.sync.receive import Receiver

    with opened(name, Priority.EVENT) as found:
        received = Receiver(found.connection, found.client, found.store, found.kinds).run(uuid4())
    if json:
        output.print_json(received.as_dict())
        return received.exit_code
    counts = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in received.events.items() if count)
    output.console.print(f"{received.connection}: {counts or 'no event waits'}", markup=False)
    for one in received.streams.values():
        if one.error is not None:
            output.show_error(one.error)
    return received.exit_code


def run_list(connection: str | None, *, status: str | None, json: bool) -> int:
    with open_store(home=Home.from_environment()) as store, store.borrow() as session:
        groups = event_groups(session, connection, status)
    if json:
        output.print_json({"inbox": [group_document(one) for one in groups]})
        return 0
    if not groups:
        output.console.print("no events")
        return 0
    table = output.table("connection", "type", "status", "outcome", "events", "last", "ids", right=("events",))
    for one in groups:
        ids = ", ".join(map(str, one.ids)) + (" …" if one.events > len(one.ids) else "")
        last = output.local(one.last)
        table.add_row(
            one.connection, one.event_type or "–", one.status, one.outcome or "–", f"{one.events:,}", last, ids
        )
    output.console.print(table)
    output.console.print("one event whole: `integrations inbox show ID`")
    return 0


def group_document(one: EventGroup) -> dict[str, Any]:
    return {**one._asdict(), "first": iso(one.first), "last": iso(one.last)}


def run_show(number: int, *, json: bool) -> int:
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        event = inbox_event(session, number)
    if event is None:
        raise ConfigError(f"no event has the id {number}", who=output.TYPED, next="see `integrations inbox list`")
    event = InboxEvent(*redactor(event.connection, home).document(event))
    if json:
        output.print_json({"event": event_document(event)})
        return 0
    what = f"{event.event_type or 'no type'} {event.event_id}: {event.status}"
    output.console.print(f"{event.connection}: {what}, {event.tries} tries", markup=False)
    output.console.print(f"received {output.local(event.received_at)}", markup=False)
    if event.stream is not None:
        output.console.print(f"{event.outcome}: {event.stream} {event.external_id}", markup=False)
    if event.reason is not None:
        output.console.print(f"{event.reason['message']} ({event.reason['who']}: {event.reason['next']})", markup=False)
    output.console.print(event.payload, markup=False)
    return 0


def event_document(event: InboxEvent) -> dict[str, Any]:
    times = {name: iso(getattr(event, name)) for name in ("received_at", "next_try_at", "finished_at")}
    return {**event._asdict(), **times}


EVENTS = Waiting("event", ids_of, "see `integrations inbox list`; one that a run holds is left alone")


def run_replay(what: list[str], *, json: bool) -> int:
    """Named by ids any event that no run holds; by connection the dead ones."""
    return EVENTS.decide("replayed", what, ("dead",), inbox.replay, json=json)


def run_discard(what: list[str], *, reason: str, json: bool) -> int:
    said = given_reason(reason)
    return EVENTS.decide(
        "discarded", what, ("dead",), lambda session, ids: inbox.discard(session, ids, said), json=json
    )
