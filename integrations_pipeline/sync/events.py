"""What inbox events ask for: by the rules of `webhook: events`, stream by stream, before anything is applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from integrations_pipeline.boundary.keys import external_id
from integrations_pipeline.client import Client
from integrations_pipeline.client.records import row_of
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ContractError, IntegrationError
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import EventRule
from integrations_pipeline.store.inbox import Leased


@dataclass(frozen=True, slots=True)
class Told:
    """What one event says of one record: all of it (``row``), or its key; ``parts`` are the values of the key."""

    event: Leased
    key: str
    row: Any = None
    parts: tuple[Any, ...] = ()


@dataclass
class Asked:
    """What the events of a batch ask of one stream."""

    upserts: list[Told] = field(default_factory=list)
    fetches: list[Told] = field(default_factory=list)
    deletes: list[Told] = field(default_factory=list)
    syncs: list[Leased] = field(default_factory=list)

    @property
    def told(self) -> list[Told]:
        return [*self.upserts, *self.fetches, *self.deletes]

    @property
    def ids(self) -> list[int]:
        return [*(one.event.id for one in self.told), *(one.id for one in self.syncs)]


@dataclass
class Sorted:
    """A batch by stream. ``ignored`` are of a type nobody named; ``failed`` say nothing that can be understood."""

    streams: dict[str, Asked] = field(default_factory=dict)
    ignored: list[int] = field(default_factory=list)
    failed: dict[int, IntegrationError] = field(default_factory=dict)


def sort_events(connection: Connection, client: Client, events: Iterable[Leased]) -> Sorted:
    """Reads each event; one that can't be read costs no other. Parents come before the streams below them."""
    found = Sorted()
    for event in events:
        rule = connection.webhook.rule_for(event.event_type) if connection.webhook else None
        if rule is None or rule.stream not in connection.selected:
            found.ignored.append(event.id)
            continue
        try:
            ask(found.streams.setdefault(rule.stream, Asked()), connection, client, rule, event)
        except IntegrationError as error:
            found.failed[event.id] = error.at(f"{connection.name}/{rule.stream} event {event.event_id}")
    found.streams = {name: found.streams[name] for name in connection.selected if name in found.streams}
    return found


def ask(asked: Asked, connection: Connection, client: Client, rule: EventRule, event: Leased) -> None:
    stream = connection.streams[rule.stream]
    if rule.sync is not None:
        asked.syncs.append(event)
    elif rule.upsert is not None and rule.record is not None:
        row = client.as_read(rule.stream, row_in(stream, rule.record, event.payload))
        asked.upserts.append(Told(event, "", row))
    elif rule.key is not None:
        key, parts = key_in(stream, rule.key, event.payload)
        (asked.fetches if rule.fetch is not None else asked.deletes).append(Told(event, key, parts=parts))


def row_in(stream: Stream, record: Path, payload: Any) -> Any:
    """The record as a poll would have it. Where the stream's list holds the same events (`unwrap` is the event's
    `record`), `include` reads around it in the event; else in the record. Page and parent aren't there."""
    found = record.get(payload)
    if not isinstance(found, dict):
        raise ContractError(f"the event holds no object at `{record}`, where the record should be")
    records = stream.rows
    item = payload if records.unwrap is not None and records.unwrap == record else found
    around = {name: place.path for name, place in records.include.items() if place.kind == "here"}
    return row_of(records.model_copy(update={"unwrap": record if item is payload else None}), item, {}, around)


def key_in(stream: Stream, path: Path, payload: Any) -> tuple[str, tuple[Any, ...]]:
    """The external id, and the values of the key's fields: a single value, a list of them, or an object with them."""
    found = path.get(payload)
    if isinstance(found, dict):
        parts = tuple(one.get(found) for one in stream.primary_key)
    else:
        parts = tuple(found) if isinstance(found, list) else (found,)
    if len(parts) != len(stream.primary_key) or MISSING in parts:
        raise ContractError(f"the event holds no key at `{path}`")
    try:
        return external_id(parts), parts
    except ValueError as error:
        raise ContractError(f"the event's key at `{path}` is none: {error}") from None
