"""The verb `receive`: inbox events become rows, through the boundary, the mapping and the transaction of a poll.

A batch is leased and sorted by stream. Under the stream's lease deletions land first, then what was told or fetched;
each chunk marks its events done in its own transaction, so that a killed run has done all of an event or nothing. What
can't be applied now is given back, what can't be applied at all is tried a few times and then dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID

from integrations_pipeline.boundary import Boundary
from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import IntegrationError, LeaseHeld
from integrations_pipeline.spec.limits import EVENT_BATCH
from integrations_pipeline.spec.running import in_run
from integrations_pipeline.store import inbox
from integrations_pipeline.store.inbox import Batch
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.applying import NOT_THE_EVENTS_FAULT, StreamEvents
from integrations_pipeline.sync.events import Asked, sort_events
from integrations_pipeline.sync.heartbeat import kept_alive
from integrations_pipeline.sync.result import EXIT_CODES, WORST_FIRST, Status, StreamResult
from integrations_pipeline.sync.retrying import lenient
from integrations_pipeline.sync.run import RESUME_AFTER, defect, sync
from integrations_pipeline.sync.telling import tell_end, tell_error

HOLD = timedelta(minutes=2)
"""A killed run's events are leased again after this; a living run extends it."""

SOON = timedelta(seconds=5)
"""When events are tried again whose stream another run holds."""

Mode = Literal["events", "immediately"]


@dataclass
class Received:
    """What became of the events: ``events`` counts them by outcome, with ``failed`` (tried again later), ``dead`` and
    ``given_back``. ``streams`` have the counters of their rows, which balance."""

    connection: str
    events: Counter[str] = field(default_factory=Counter)
    streams: dict[str, StreamResult] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        found = {one.status for one in self.streams.values()} | ({"failed"} if self.events["dead"] else set())
        return next((status for status in WORST_FIRST if status in found), "succeeded")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    def stream(self, name: str) -> StreamResult:
        return self.streams.setdefault(name, StreamResult(name))

    def as_dict(self) -> dict[str, Any]:
        streams = [one.as_dict() for one in self.streams.values()]
        return {"connection": self.connection, "events": dict(+self.events), "streams": streams}


class Receiver:
    """Applies the events of one connection, batch by batch; what it learned of a stream's rules it keeps."""

    def __init__(
        self,
        connection: Connection,
        client: Client,
        store: Store,
        kinds: Mapping[str, Kind],
        *,
        mode: Mode = "events",
        clock: Clock | None = None,
    ):
        self.connection, self.client, self.store, self.kinds, self.mode = connection, client, store, kinds, mode
        self.clock = clock or SystemClock()
        self._boundaries: dict[str, Boundary] = {}

    def boundary(self, name: str) -> Boundary:
        """A bad row of an event is set aside, and never stops the others."""
        if name not in self._boundaries:
            stream = self.connection.streams[name]
            self._boundaries[name] = Boundary(self.connection.name, name, lenient(stream))
        return self._boundaries[name]

    def warm(self) -> None:
        """Prepares the tables and imports what the first event needs: seconds, which it would wait."""
        self.store.prepare(self.connection, self.kinds)
        for name in self.connection.selected:
            self.boundary(name).warm()

    def run(self, run_id: UUID) -> Received:
        """Applies all that is due now. Raises ConfigError for a disconnected connection, DestinationError where our own
        database is away; what else goes wrong is in the result."""
        with in_run(run_id):
            try:
                received = self.received(run_id)
            finally:
                self.client.flush_log()
            for result in received.streams.values():
                tell_end(self.connection.name, result)
        return received

    def received(self, run_id: UUID) -> Received:
        self.store.refuse_stopped(self.connection)
        self.store.prepare(self.connection, self.kinds)
        received = Received(self.connection.name)
        with closing(self.store.connect()) as session:
            while True:
                batch = inbox.lease(session, self.connection.name, limit=EVENT_BATCH, hold=HOLD)
                if not batch.events:
                    break
                with kept_alive(partial(self.extend, batch), "events held"):
                    BatchJob(self, batch, session, received, run_id).run()
            inbox.prune(session)
        return received

    def extend(self, batch: Batch) -> None:
        with self.store.borrow() as session:
            inbox.extend(session, batch, hold=HOLD)


@dataclass
class BatchJob:
    """One leased batch: each event ends done, failed or given back."""

    receiver: Receiver
    batch: Batch
    session: Any
    received: Received
    run_id: UUID
    again_at: datetime | None = None

    def run(self) -> None:
        connection = self.receiver.connection
        try:
            found = sort_events(connection, self.receiver.client, self.batch.events)
            with self.session.transaction():
                inbox.mark_done(self.session, self.batch, dict.fromkeys(found.ignored, "ignored"))
            self.received.events["ignored"] += len(found.ignored)
            self.fail(found.failed)
            for name, asked in found.streams.items():
                self.apply(name, asked)
        finally:
            back = inbox.give_back(self.session, self.batch, self.again_at)
            self.received.events["given_back"] += back

    def apply(self, name: str, asked: Asked) -> None:
        """One stream's events. An error of the connection gives them back; a defect fails them, and each is tried again
        in a smaller batch, so that what causes it is alone at last."""
        result = self.received.stream(name)
        began = self.receiver.clock.monotonic_seconds()
        try:
            if asked.told:
                self.land(name, asked, result)
            if asked.syncs:
                self.sync(name, asked.syncs, result)
        except LeaseHeld as error:
            self.put_off(result, error, SOON)
        except NOT_THE_EVENTS_FAULT as error:
            self.put_off(result, error, RESUME_AFTER)
        except Exception as caught:  # noqa: BLE001 - a defect of ours in one stream leaves the others alone
            found = caught if isinstance(caught, IntegrationError) else defect(caught)
            result.end_with(found.at(f"{self.batch.connection}/{name}"))
            tell_error(self.batch.connection, name, found)
            self.fail(dict.fromkeys(asked.ids, found))
        result.duration_seconds += self.receiver.clock.monotonic_seconds() - began

    def put_off(self, result: StreamResult, error: IntegrationError, wait: timedelta) -> None:
        """The events are given back and due again then; that was no try."""
        now = self.receiver.clock.now()
        at = now + wait if isinstance(error, LeaseHeld) or error.resume_at is None else error.resume_at
        result.end_with(error.at(f"{self.batch.connection}/{result.stream}"))
        tell_error(self.batch.connection, result.stream, error)
        result.resume_at = at
        self.again_at = min(self.again_at or at, at)

    def fail(self, errors: Mapping[int, IntegrationError]) -> None:
        with self.session.transaction():
            for id, error in errors.items():
                dead = inbox.mark_failed(self.session, self.batch, id, error.as_dict())
                if dead is not None:  # what is done already stays done
                    self.received.events["dead" if dead else "failed"] += 1

    def sync(self, name: str, events: list[inbox.Leased], result: StreamResult) -> None:
        """Any number of events start one incremental sync, as a run of its own."""
        receiver = self.receiver
        what = (receiver.connection, receiver.client, receiver.store, receiver.kinds)
        done = sync(*what, streams=[name], clock=receiver.clock).streams[0]
        if done.error is not None:
            raise done.error
        result.counters += done.counters
        result.shaped += done.shaped
        with self.session.transaction():
            inbox.mark_done(self.session, self.batch, {one.id: "applied" for one in events})
        self.received.events["applied"] += len(events)

    def land(self, name: str, asked: Asked, result: StreamResult) -> None:
        """Under the stream's lease, as a run in the log: rows, then their shape."""
        receiver = self.receiver
        stream = receiver.connection.streams[name]
        with take_lease(receiver.store.connect, receiver.connection.name, name, self.run_id) as lease:
            lease.start_run(receiver.mode, receiver.clock.now())
            kind = receiver.kinds[stream.map.to] if stream.map else None
            work = StreamEvents(
                stream, receiver.client, lease, self.batch, receiver.boundary(name), kind, receiver.clock
            )
            try:
                work.run(asked)
            except Exception as error:  # noqa: BLE001 - also then the run's end is logged
                work.end_with(error)
            result.counters += work.result.counters
            result.shaped += work.result.shaped
            self.received.events.update(work.outcomes)
            found = work.result.error
            lease.finish_run(
                work.result.status,
                error=found.as_dict() if found else None,
                requests=work.requests(),
                shaped=work.result.shaped.as_dict(),
            )
        self.fail(work.failed)
        if work.error is not None:
            raise work.error
