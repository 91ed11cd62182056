"""The verb `plan`: what a sync and a push would do, without writing anything here or there.

The verbs themselves run, in a rehearsal that is undone (``store.rehearsing``). It never waits for the source: what the
verbs ask for is read between two rehearsals (``replaying``), so lists below parents take as many as they are deep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

from integrations_pipeline.client import Client
from integrations_pipeline.mapping import Mapping as Mapped
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, DataError, IntegrationError
from integrations_pipeline.spec.limits import PLAN_REQUESTS, PLAN_ROWS
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lease import Lease, take_lease
from integrations_pipeline.store.limiter import seconds_for
from integrations_pipeline.store.outgoing import compare
from integrations_pipeline.store.planned import Sample, brought, holds_more, leaving, rehearse, untried
from integrations_pipeline.store.rehearsing import Rehearsal, rehearsal
from integrations_pipeline.store.sessions import exact
from integrations_pipeline.store.state import read_state
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.merge import merge
from integrations_pipeline.sync.progress import Unwatched
from integrations_pipeline.sync.replaying import Replayed, Spent
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import StreamJob, choose, rarely_collected, refuse_unfit
from integrations_pipeline.sync.sending import planned, sendable
from integrations_pipeline.sync.shape import Following
from integrations_pipeline.sync.written import WrittenStream

SAMPLES = 3
"""Of each sort."""

COUNTS = ("created", "updated", "deleted", "conflicts", "quarantined")


@dataclass
class StreamPlan:
    """One stream. ``incoming`` and ``outgoing`` count records by sort. Of a list that was cut short they are those of
    the part read, and ``share`` is that part, where it is known; deletions can't be known then."""

    stream: str
    incoming: dict[str, int] = field(default_factory=dict)
    outgoing: dict[str, int] = field(default_factory=dict)
    samples_in: list[Sample] = field(default_factory=list)
    samples_out: list[Sample] = field(default_factory=list)
    read: Spent = field(default_factory=Spent)
    reads: int = 0
    writes: int = 0
    share: float | None = 1.0
    result: StreamResult | None = None

    def as_dict(self) -> dict[str, Any]:
        error = self.result.error if self.result else None
        return {
            "stream": self.stream,
            "in": self.incoming,
            "out": self.outgoing,
            "samples": {
                "in": [one._asdict() for one in self.samples_in],
                "out": [one._asdict() for one in self.samples_out],
            },
            "requests": {"made": self.read.requests, "read": self.reads, "write": self.writes},
            "sampled": {"rows": self.read.rows, "share": self.share} if self.read.cut else None,
            "note": self.result.note if self.result else None,
            "error": error.as_dict() if error is not None and not self.read.cut else None,
        }


@dataclass
class Plan:
    """What a sync and a push of a connection would do. ``seconds``: at the rate limit as it is now."""

    connection: str
    streams: list[StreamPlan] = field(default_factory=list)
    read_seconds: float = 0.0
    write_seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all was read that a sync would read."""
        return not any(one.read.cut for one in self.streams)

    def as_dict(self) -> dict[str, Any]:
        return {
            "connection": self.connection,
            "complete": self.complete,
            "requests": {
                name: sum(one.as_dict()["requests"][name] for one in self.streams) for name in ("made", "read", "write")
            },
            "seconds": {"read": round(self.read_seconds, 1), "write": round(self.write_seconds, 1)},
            "streams": [one.as_dict() for one in self.streams],
        }


class PlannedClock(SystemClock):
    """The present stands still, so that each rehearsal asks the same."""

    def __init__(self) -> None:
        self._now = super().now()

    def now(self) -> datetime:
        return self._now


class PlannedJob(StreamJob):
    """A stream's sync that isn't logged. Its rows are all shaped from raw: what is shaped beside needs a session of its
    own."""

    def rehearse(self, *, full: bool) -> StreamResult:
        try:
            with take_lease(self.store.connect, self.connection.name, self.name, self.run_id) as lease:
                self.work(lease, full=full)
        except IntegrationError as error:
            self.end_with(error)
        return self.result

    def following(self, lease: Lease) -> Following | None:
        return None

    def tell(self, error: IntegrationError) -> None:
        pass


def plan(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    streams: Iterable[str] = (),
    full: bool = False,
    requests: int = PLAN_REQUESTS,
    rivals: Collection[str] = (),
) -> Plan:
    """Asks the source what a sync would ask it, up to ``requests`` pages of each stream, and tells what would become
    of it and of what was changed here. ``rivals`` as for ``merge``.

    Nothing is written but what reading takes: the shared limit, the breaker, a renewed token. Raises what ``sync``
    does, and DestinationError where a row that is needed is held by somebody else.
    """
    chosen = choose(connection, list(streams))
    store.refuse_stopped(connection)
    replayed = Replayed(client, requests)
    refuse_unfit(connection, chosen, cast(Client, replayed), kinds)
    rehearsing = Rehearsing(connection, kinds, chosen, replayed, full, rivals)
    with rarely_collected():
        while True:
            with rehearsal(store) as stage:
                found = rehearsing.run(stage)
            if not replayed.read():
                return found


@dataclass
class Rehearsing:
    """One rehearsal after the other, until all is heard that is asked for."""

    connection: Connection
    kinds: Mapping[str, Kind]
    chosen: list[str]
    client: Replayed
    full: bool
    rivals: Collection[str]
    clock: PlannedClock = field(default_factory=PlannedClock)

    def run(self, stage: Rehearsal) -> Plan:
        """All streams, then what is written; a stream below one whose list isn't heard yet waits for the next time."""
        run_id = uuid4()
        stage.prepare(self.connection, self.kinds)
        results = {}
        for name in self.chosen:
            self.refuse_much(stage, name)
            if not self.client.wishes_for(self.connection.streams[name].parent_stream):
                results[name] = self.sync(stage, name, run_id)
        if self.client.wishes:
            return Plan(self.connection.name)
        merge(self.connection, stage, self.kinds, streams=self.chosen, rivals=self.rivals, run_id=run_id)
        return self.told(stage, results, run_id)

    def refuse_much(self, stage: Rehearsal, name: str) -> None:
        """Raises ConfigError where an edit of the mapping means more work than rows may stay locked for."""
        stream = self.connection.streams[name]
        if stream.map is None:
            return
        with stage.borrow() as session:
            known = read_state(session, self.connection.name, name).mapping_hash
            edited = known is not None and known != Mapped(stream, self.kinds[stream.map.to]).digest
            if edited and holds_more(session, self.connection.name, name, PLAN_ROWS):
                raise ConfigError(
                    f"the mapping was edited, and the next sync shapes more than {PLAN_ROWS:,} rows again",
                    where=f"{self.connection.name}/{name}",
                    next=f"see what the edit changes: integrations plan {self.connection.name} --mapping",
                )

    def sync(self, stage: Rehearsal, name: str, run_id: UUID) -> StreamResult:
        client = cast(Client, self.client)
        job = PlannedJob(self.connection, name, client, stage, self.kinds, run_id, self.clock, Unwatched())
        return job.rehearse(full=self.full)

    def told(self, stage: Rehearsal, results: Mapping[str, StreamResult], run_id: UUID) -> Plan:
        found = Plan(self.connection.name)
        with stage.borrow() as session:
            for name, result in results.items():
                stream = self.connection.streams[name]
                one = StreamPlan(name, result=result, read=self.client.spent.get(name, Spent()))
                asked = (session, self.connection.name, name)
                conflicts, one.samples_in = brought(*asked, run_id, mapped=stream.map is not None, samples=SAMPLES)
                one.incoming = incoming(stream, result, conflicts)
                if stream.write is not None:
                    self.fix(session, name)
                    one.outgoing, one.samples_out = leaving(*asked, samples=SAMPLES)
                    one.writes = writes_for(stream, one.outgoing)
                one.reads, one.share = extent(one.read)
                found.streams.append(one)
            self.time(session, found)
        return found

    def fix(self, session: Any, name: str) -> None:
        """What waits becomes what a push would send of it; what it would send nothing of, or refuse, isn't told."""
        to = WrittenStream(self.connection, name, self.kinds)
        for one in untried(exact(session), self.connection.name, name):
            compared = compare(session, one, to.kind, to.writeback)
            record = compared.record if compared is not None else None
            try:
                payload = sendable(to, planned(to, one, compared), record)
            except DataError:
                payload = None
            rehearse(session, one, payload)

    def time(self, session: Any, found: Plan) -> None:
        """The longest of what the limits allow and what the source took to answer."""
        streams = self.connection.streams
        reading = [(streams[one.stream].request, one.reads) for one in found.streams]
        writing = [(call, one.writes) for one in found.streams for call in write_calls(streams[one.stream])[:1]]
        pace = sum(one.read.seconds for one in found.streams) / max(sum(one.read.requests for one in found.streams), 1)
        found.read_seconds = self.seconds(session, reading, pace, Priority.POLL)
        found.write_seconds = self.seconds(session, writing, pace, Priority.EVENT)

    def seconds(self, session: Any, calls: Sequence[tuple[str | None, int]], pace: float, priority: Priority) -> float:
        limits = self.connection.api.limits
        total = sum(count for _, count in calls) * pace
        for limit in limits:
            counted = sum(count for call, count in calls if call and limit.applies_to(*call.split(None, 1)))
            total = max(total, seconds_for(session, self.connection.name, [limit], counted, priority))
        return total


def incoming(stream: Stream, result: StreamResult, conflicts: int) -> dict[str, int]:
    """By sort. Of a stream without `map` raw records are counted."""
    raw, shaped = result.counters, result.shaped
    if stream.map is None:
        counts = (raw.created, raw.updated, raw.deleted + raw.tombstoned, conflicts, raw.quarantined)
    else:
        counts = (shaped.created, shaped.updated, shaped.deleted, conflicts, raw.quarantined + shaped.quarantined)
    return {**dict(zip(COUNTS, counts, strict=True)), "fetched": raw.fetched, "healed": result.healed}


def extent(spent: Spent) -> tuple[int, float | None]:
    """Requests that all of it takes, and the part that was read; None where nobody knows how long the list is."""
    if not spent.cut:
        return spent.requests, 1.0
    if spent.wanted > spent.lists and spent.lists:
        share = spent.lists / spent.wanted
    elif spent.total and spent.rows:
        share = min(spent.rows / spent.total, 1.0)
    else:
        return spent.requests, None
    return math.ceil(spent.pages / share), share


def write_calls(stream: Stream) -> list[str]:
    """The calls that write, as ``METHOD /path``."""
    write = stream.write
    if write is None:
        return []
    return [call.request for call in (write.update, write.upsert, write.create, write.delete) if call is not None]


def writes_for(stream: Stream, counts: Mapping[str, int]) -> int:
    """Requests that writing takes: one each, or one for as many as a batch holds; and one where it is read again."""
    write = stream.write
    assert write is not None
    total = 0
    for sort, name in (("created", "create"), ("updated", "update"), ("deleted", "delete")):
        count = counts.get(sort, 0)
        batched = write.batch is not None and name != "delete" and (getattr(write.batch, name) or write.batch.upsert)
        total += math.ceil(count / write.batch.size) if write.batch is not None and batched else count
        total += count if write.answer == "reread" and name != "delete" else 0
    return total
