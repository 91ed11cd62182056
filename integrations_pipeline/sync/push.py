"""The verb `push`: what was changed here leaves, in order per record, several records at once, within the rate limit.

Each change is leased, sent and settled on its own, so that any number of pushes may run beside each other, and a killed
one costs nothing. Answers land when the stream is free; a poll under way lands them at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, IntegrationError, LeaseHeld
from integrations_pipeline.spec.limits import PUSH_AT_ONCE
from integrations_pipeline.spec.running import carried, in_run
from integrations_pipeline.store import outbox
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.outbox import Change
from integrations_pipeline.store.sessions import Sessions, exact
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.answers import Landed, land_answers
from integrations_pipeline.sync.heartbeat import kept_alive
from integrations_pipeline.sync.merge import merge
from integrations_pipeline.sync.result import EXIT_CODES, Status, StreamResult, iso
from integrations_pipeline.sync.run import defect
from integrations_pipeline.sync.sending import Sender, Stopped
from integrations_pipeline.sync.written import WrittenStream

LOOK_SECONDS = 5.0
"""How often a long push looks for further edits, and lands what was answered meanwhile. One that has taken as long goes
before polls no more."""


@dataclass
class PushResult:
    """``changes`` counts what became of them: sent, read_back, gone, nothing_to_send; put_off, waits_for_reference,
    merged_again, unsure, taken_over (go on by themselves); parked, dead (somebody must act). ``landed``: answers.
    ``error`` ended the push early."""

    connection: str
    changes: Counter[str] = field(default_factory=Counter)
    landed: int = 0
    requests: int = 0
    duration_seconds: float = 0.0
    error: IntegrationError | None = None
    streams: dict[str, StreamResult] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """Failed where somebody must act."""
        if self.changes["dead"] or self.changes["parked"]:
            return "failed"
        found = StreamResult(self.connection)
        if self.error is not None:
            found.end_with(self.error)
        return found.status

    @property
    def resume_at(self) -> datetime | None:
        return self.error.resume_at if self.error is not None else None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    def as_dict(self) -> dict[str, Any]:
        return {
            "connection": self.connection,
            "status": self.status,
            "error": self.error.as_dict() if self.error else None,
            "changes": dict(+self.changes),
            "landed": self.landed,
            "requests": self.requests,
            "duration_seconds": round(self.duration_seconds, 3),
            "resume_at": iso(self.resume_at),
            "streams": [one.as_dict() for one in self.streams.values()],
        }


def push(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    rivals: Collection[str] = (),
    run_id: UUID | None = None,
    clock: Clock | None = None,
    limit: int | None = None,
) -> PushResult:
    """Finds what was changed here and sends it until nothing more is due, or ``limit`` changes were taken.

    ``rivals``: as for ``merge``. Raises ConfigError for a disconnected connection or a map that can't be run backwards,
    DestinationError where our own database is away at the beginning; what else goes wrong is in the result.
    """
    store.refuse_stopped(connection)
    store.prepare(connection, kinds)
    clock, run_id = clock or SystemClock(), run_id or uuid4()
    result, began, asked = PushResult(connection.name), clock.monotonic_seconds(), client.meter.requests
    with ExitStack() as stack:
        stack.enter_context(in_run(run_id))
        stack.callback(client.flush_log)
        session = stack.enter_context(closing(exact(store.connect())))
        sessions = stack.enter_context(closing(Sessions(store.connect)))
        work = Pushing(connection, client, store, kinds, rivals, run_id, clock, result, session, sessions)
        try:
            work.run(limit)
            work.tell_denied()
            outbox.close_gone(session, connection.name)
            outbox.prune(session)
        except IntegrationError as error:
            result.error = result.error or error
        except Exception as caught:  # noqa: BLE001 - a defect is this connection's error, not its caller's end
            result.error = result.error or defect(caught).at(connection.name)
    result.requests = client.meter.requests - asked
    result.duration_seconds = clock.monotonic_seconds() - began
    return result


class Pushing:
    """One push of a connection."""

    def __init__(
        self,
        connection: Connection,
        client: Client,
        store: Store,
        kinds: Mapping[str, Kind],
        rivals: Collection[str],
        run_id: UUID,
        clock: Clock,
        result: PushResult,
        session: Any,
        sessions: Sessions,
    ):
        self.connection, self.client, self.store, self.kinds, self.rivals = connection, client, store, kinds, rivals
        self.run_id, self.clock, self.result, self.session, self.sessions = run_id, clock, result, session, sessions
        written = [name for name, stream in connection.selected.items() if stream.write is not None]
        self.streams = {name: WrittenStream(connection, name, kinds) for name in written}
        self.senders = {
            name: Sender(to, client, store, sessions, clock, run_id) for name, to in self.streams.items()
        }  # fmt: skip
        self.sizes = {
            (name, operation): to.size(operation)
            for name, to in self.streams.items()
            for operation in ("create", "update")
        }
        self.lags = {name: to.lag_seconds for name, to in self.streams.items()}
        self.under_way: dict[Future[list[str]], list[Change]] = {}
        self.left = 0

    def run(self, limit: int | None) -> None:
        if not self.streams:
            return
        self.left = limit if limit is not None else 2**62
        self.merge()
        alive = kept_alive(self.extend, "changes held")
        with ThreadPoolExecutor(PUSH_AT_ONCE, thread_name_prefix="push") as pool, alive, ExitStack() as sharing:
            looked, long = self.clock.monotonic_seconds(), False
            while True:
                self.fill(pool)
                if not self.under_way:
                    self.land()
                    if self.result.error is not None or self.left <= 0 or not self.merge():
                        break
                    continue
                self.gather()
                if self.clock.monotonic_seconds() - looked >= LOOK_SECONDS:
                    if not long:  # thousands of changes would keep polls waiting until the last of them has left
                        sharing.enter_context(self.client.beside_reads())
                    long = True
                    self.land()
                    self.merge()
                    looked = self.clock.monotonic_seconds()

    def tell_denied(self) -> None:
        """A refusal after which nothing was taken any more: it may be everybody's."""
        for sender in self.senders.values():
            self.result.error = self.result.error or sender.denied

    def merge(self) -> int:
        """How many changes it has found."""
        return merge(self.connection, self.store, self.kinds, rivals=self.rivals, run_id=self.run_id).total

    def fill(self, pool: ThreadPoolExecutor) -> None:
        """Leases as long as a thread is free. No more once the push was stopped."""
        while self.result.error is None and self.left > 0 and len(self.under_way) < PUSH_AT_ONCE:
            sizes = {key: min(size, self.left) for key, size in self.sizes.items()}
            name = self.connection.name
            changes = outbox.lease(self.session, name, run_id=self.run_id, sizes=sizes, lags=self.lags)
            if not changes:
                return
            self.left -= len(changes)
            self.under_way[pool.submit(carried(self.send), changes)] = changes

    def send(self, changes: list[Change]) -> list[str]:
        sender = self.senders.get(changes[0].stream)
        if sender is not None:
            return sender.send(changes)
        unknown = ConfigError(f"{changes[0].stream} isn't written by {self.connection.name} any more")
        unknown.next = f"take its `write` back into the file, or `integrations outbox discard {changes[0].id}`"
        with self.sessions.one() as session:
            outbox.mark_dead(session, changes[0], unknown.at(changes[0].where).as_dict())
        return ["dead"]

    def gather(self) -> None:
        """Waits for one that is under way to end."""
        done, _ = wait(self.under_way, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            del self.under_way[future]
            try:
                self.result.changes.update(future.result())
            except Stopped as stopped:
                self.result.error = self.result.error or stopped.error
            except Exception as caught:  # noqa: BLE001 - the leases end by themselves; the others go on to their end
                error = caught if isinstance(caught, IntegrationError) else defect(caught)
                self.result.error = self.result.error or error.at(self.connection.name)

    def land(self) -> None:
        """What was answered, stream by stream; a stream that another run holds is left to it."""
        waiting = outbox.answered_streams(self.session, self.connection.name)
        for name in waiting & self.streams.keys():
            to, result = self.streams[name], self.result.streams.setdefault(name, StreamResult(name))
            try:
                with to.landing, take_lease(self.store.connect, self.connection.name, name, self.run_id) as lease:
                    lease.start_run("push", self.clock.now())
                    landed = land_answers(lease, to)
                    lease.finish_run("succeeded", shaped=landed.shaped.as_dict())
            except LeaseHeld:
                continue
            except IntegrationError as error:  # of this stream's mapping or boundary: the others go on
                result.end_with(error.at(f"{self.connection.name}/{name}"))
                continue
            self.count(result, landed)

    def count(self, result: StreamResult, landed: Landed) -> None:
        self.result.landed += landed.answers
        result.counters += landed.counters
        result.shaped += landed.shaped

    def extend(self) -> None:
        """The leases of what is under way."""
        leases = {one.lease for changes in list(self.under_way.values()) for one in changes if one.lease}
        with self.sessions.one() as session:
            outbox.extend(session, leases)
