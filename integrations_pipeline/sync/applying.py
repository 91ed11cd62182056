"""Applying the events of one stream, under its lease: deletions first, then whole records, told or fetched.

Each chunk marks its events done in its own transaction. An event that is late by the version fence changes nothing, and
is counted as superseded like a late row of a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from integrations_pipeline.boundary import Boundary, Landing, Split
from integrations_pipeline.boundary.keys import Keys
from integrations_pipeline.boundary.outcome import digest
from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import (
    ConfigError,
    CredentialsError,
    Deferred,
    DestinationError,
    IntegrationError,
    LeaseHeld,
    PermissionDenied,
)
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.store.deleting import FeedOrder
from integrations_pipeline.store.fencing import Known, known_records, landed_outcomes, sample_version
from integrations_pipeline.store.inbox import Batch, Leased, mark_done
from integrations_pipeline.store.landing import Chunk
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.sync.declared import rows_edited
from integrations_pipeline.sync.events import Asked, Told
from integrations_pipeline.sync.fence import State, is_time, may_delete, may_say, time_of, version_to_land
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.shape import Following, follow, shape

NOT_THE_EVENTS_FAULT = (Deferred, CredentialsError, PermissionDenied, ConfigError, DestinationError)
"""What would meet every event of the connection: none of them is tried up for it."""

TOLD, GONE = "told by an event", "the source doesn't know it any more"


@dataclass
class Row:
    """One record to land, with all events it answers. ``asked_at``: of a fetched one, when it was asked for."""

    key: str
    record: Any
    events: list[Leased]
    asked_at: datetime | None = None

    @property
    def latest(self) -> Leased:
        return max(self.events, key=place)

    def state(self, version: str | None) -> State:
        """What it says, at the record's own version; what was fetched is the present, whatever its events' order."""
        if self.asked_at is not None:
            return State(version, None, version_text(self.asked_at))
        return State(version, self.latest.order_value, time_of(self.latest))


@dataclass
class Fetched:
    """What the source answered: records, those it doesn't know, and what it refused; ``error`` leaves the rest."""

    rows: list[Row] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    failed: dict[int, IntegrationError] = field(default_factory=dict)
    error: IntegrationError | None = None


class StreamEvents:
    """``outcomes`` counts the events that are done, ``failed`` has those that can't be; ``error`` says why the others
    were left."""

    def __init__(
        self,
        stream: Stream,
        client: Client,
        lease: Lease,
        batch: Batch,
        boundary: Boundary,
        kind: Kind | None,
        clock: Clock,
    ):
        self.stream, self.client, self.lease, self.batch = stream, client, lease, batch
        self.boundary, self.kind, self.clock = boundary, kind, clock
        self.result = StreamResult(lease.stream)
        self.outcomes: Counter[str] = Counter()
        self.failed: dict[int, IntegrationError] = {}
        self.error: Exception | None = None
        self.version_path = stream.version or (stream.cursor.field if stream.cursor else None)
        self.following: Following | None = None
        self.refresh_id: UUID | None = None
        self._requests = client.meter.requests

    def requests(self) -> int:
        """Sent since the beginning."""
        return self.client.meter.requests - self._requests

    def run(self, asked: Asked) -> None:
        """Raises what the database does; what the source says is in ``error``."""
        state = self.lease.state()
        if rows_edited(self.stream, state):
            raise LeaseHeld("the stream's key or order was edited: the next sync reads it anew first")
        self.refresh_id = state.refresh_id
        self.following = self.follow()
        told = self.keyed(asked.upserts)
        deleted = [Row(one.key, key_record(self.stream, one), [one.event]) for one in asked.deletes]
        top = highest([*told, *deleted])
        self.delete(deleted, top)
        fetched = self.fetch(asked.fetches)
        self.failed = fetched.failed
        self.bury(fetched.gone)
        self.upsert([one for one in told if not overtaken(one, top)] + fetched.rows)
        self.leave([one for one in told if overtaken(one, top)] + fetched.late)
        self.shape()
        if fetched.error is not None:
            raise fetched.error

    def end_with(self, error: Exception) -> None:
        """What was committed before it stays."""
        self.error = error
        if isinstance(error, IntegrationError):
            self.result.end_with(error.at(self.lease.where))

    def follow(self) -> Following | None:
        """Shapes what lands from memory, unless something stands in its way, which ``shape`` then meets."""
        try:
            return follow(self.lease, self.stream, self.kind) if self.kind is not None else None
        except IntegrationError:
            return None

    def keyed(self, told: list[Told]) -> list[Row]:
        """In their order; a record whose key can't be read has none, and goes to quarantine."""
        keys, _ = Keys(self.stream.primary_key).read([one.row for one in told])
        rows = [Row(key or "", one.row, [one.event]) for one, key in zip(told, keys, strict=True)]
        return sorted(rows, key=lambda row: place(row.latest))

    def known(self, rows: Iterable[Row]) -> dict[str, Known]:
        return known_records(self.lease, sorted({row.key for row in rows if row.key}))

    def delete(self, rows: list[Row], top: Mapping[str, str]) -> None:
        """Tombstones by key; of several deletions of a record the latest counts."""
        if not rows:
            return
        known, ordered = self.known(rows), self.version_path is not None
        standing: dict[str, Row] = {}
        late: list[Row] = []
        for row in sorted(rows, key=lambda one: place(one.latest)):
            if overtaken(row, top) or not may_delete(row.state(None), known[row.key], ordered=ordered):
                late.append(row)
                continue
            if row.key in standing:
                late.append(standing[row.key])
            standing[row.key] = row
        feed = FeedOrder(timed=True, ordered=ordered and self.versions_are_times(), reason=TOLD)
        good = {key: tombstone(row, time_of(row.latest)) for key, row in standing.items()}
        self.commit(good, list(standing.values()), late=late, feed=feed)

    def bury(self, gone: list[Row]) -> None:
        """What the source doesn't know any more is deleted at the version it has."""
        if gone:
            feed = FeedOrder(timed=False, ordered=False, reason=GONE)
            self.commit({row.key: tombstone(row, "") for row in gone}, gone, feed=feed)

    def versions_are_times(self) -> bool:
        """By its declared type, else by what is stored."""
        declared = self.stream.fields.get(str(self.version_path))
        if declared is not None:
            return declared.type in ("timestamp", "date")
        return is_time(sample_version(self.lease))

    def fetch(self, told: list[Told]) -> Fetched:
        """Asks once for each record, however many events speak of it; not for one whose later event was applied."""
        rows: dict[str, Row] = {}
        parts = {one.key: one.parts for one in told}
        for one in told:
            rows.setdefault(one.key, Row(one.key, key_record(self.stream, one), [])).events.append(one.event)
        known, found = self.known(rows.values()), Fetched()
        for key, row in rows.items():
            if overtaken(row, {key: known[key].order or ""}):
                found.late.append(row)
                continue
            asked_at, fields = self.clock.now(), dict(zip(map(str, self.stream.primary_key), parts[key], strict=True))
            try:
                record = self.client.get(self.lease.stream, key, fields)
            except NOT_THE_EVENTS_FAULT as error:
                found.error = error
                break
            except IntegrationError as error:
                found.failed |= {event.id: error for event in row.events}
                continue
            if record is None:
                found.gone.append(replace(row, asked_at=asked_at))
            else:
                found.rows.append(replace(row, record=record, asked_at=asked_at))
        return found

    def upsert(self, rows: list[Row]) -> None:
        """Whole records through the boundary and the fence; what was fetched comes last, since it is the present."""
        if not rows:
            return
        split = self.boundary.split([row.record for row in rows], self.clock.now())
        known = self.known(rows)
        standing, late, good = [], [], {}
        for found, position in zip(split.good, split.positions, strict=True):
            row = rows[position]
            state = row.state(self.own_version(found))
            if may_say(state, known[found.external_id]):
                standing.append(row)
                good[row.key] = found._replace(version=version_to_land(state, known[row.key]))
            else:
                late.append(row)
        self.commit(good, standing, late=late, split=split, others=self.others(rows, split))

    def others(self, rows: list[Row], split: Split) -> dict[int, str]:
        """What became of the events whose rows aren't good: quarantined, skipped, or overtaken within the batch."""
        settled: dict[int, str] = dict.fromkeys(split.rejected_positions, "quarantined")
        settled |= dict.fromkeys(split.positions, "")
        skip = self.stream.skip
        found: dict[int, str] = {}
        for position, row in enumerate(rows):
            left_out = "skipped" if skip is not None and skip.holds(row.record) else "superseded"
            outcome = settled.get(position, left_out)
            if outcome:
                found |= {event.id: outcome for event in row.events}
        return found

    def own_version(self, row: Landing) -> str | None:
        """The record's own place in the source's order; None where it names none, and would count as of now."""
        if self.version_path is None or self.version_path.get(row.record) in (None, "", MISSING):
            return None
        return row.version

    def commit(
        self,
        good: dict[str, Landing],
        standing: list[Row],
        *,
        late: Sequence[Row] = (),
        split: Split | None = None,
        others: Mapping[int, str] | None = None,
        feed: FeedOrder | None = None,
    ) -> None:
        """Lands rows and marks all their events done, in one transaction."""
        split = split or Split()
        keys = {event.id: row.key for row in (*standing, *late) for event in row.events}
        told: dict[int, str] = {}

        def mark(session: Any) -> None:
            became = landed_outcomes(session, self.lease.connection, self.lease.stream) if good else {}
            told.update(others or {})
            told.update({event.id: "superseded" for row in late for event in row.events})
            told.update({e.id: became.get(row.key, "quarantined") for row in standing for e in row.events})
            mark_done(session, self.batch, told, stream=self.lease.stream, keys=keys)

        superseded = [*split.superseded, *((row.key, row.latest.order_value or "") for row in late)]
        chunk = Chunk(
            good=[row[:5] for row in good.values()],
            rejected=split.rejected,
            skipped=split.skipped,
            superseded=superseded,
            fetched=len(good) + len(split.rejected) + len(split.skipped) + len(superseded),
            read_at=min((moment_of(row) for row in standing), default=self.clock.now()),
            refresh_id=self.refresh_id,
            feed=feed,
            then=mark,
        )
        self.result.counters += self.lease.commit_chunk(chunk)
        self.outcomes.update(told.values())
        if self.following is not None:
            self.following.landed(good)

    def leave(self, late: list[Row]) -> None:
        """Events that a later one has overtaken: counted, and marked as such."""
        if late:
            self.commit({}, [], late=late)

    def shape(self) -> None:
        """What landed becomes canonical; an error here is the mapping's, and no event is tried again for it."""
        if self.kind is None:
            return
        if self.following is not None:
            self.following.close()
            self.result.shaped += self.following.counters
        try:
            self.result.shaped += shape(self.lease, self.stream, self.kind)
        except IntegrationError as error:
            self.result.end_with(error.at(self.lease.where))


def place(event: Leased) -> tuple[str, int]:
    """In the order of the source, then of arrival."""
    return event.order_value or "", event.id


def highest(rows: Iterable[Row]) -> dict[str, str]:
    """By key the highest order among the events of a batch."""
    found: dict[str, str] = {}
    for row in rows:
        found[row.key] = max(found.get(row.key, ""), row.latest.order_value or "")
    return found


def overtaken(row: Row, top: Mapping[str, str]) -> bool:
    """Whether a later event speaks of the same record; what names no order is never overtaken."""
    order = row.latest.order_value
    return bool(row.key) and order is not None and order < top.get(row.key, "")


def moment_of(row: Row) -> datetime:
    """When what it says was true, as far as is known: no later poll's answer is taken for older than it."""
    return row.asked_at or datetime.fromisoformat(time_of(row.latest))


def key_record(stream: Stream, told: Told) -> dict[str, Any]:
    """All that is known of a record when only its key was told."""
    record: dict[str, Any] = {}
    for path, part in zip(stream.primary_key, told.parts, strict=True):
        path.put(record, part)
    return record


def tombstone(row: Row, version: str) -> Landing:
    """``record`` of the row holds its key only."""
    payload = encode(row.record)
    return Landing(row.key, payload, digest(payload), version, True, row.record)
