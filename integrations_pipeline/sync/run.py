"""The verb `sync`: pull and shape each stream of a connection, and say what became of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from uuid import UUID, uuid4

from integrations_pipeline.boundary import Boundary
from integrations_pipeline.client import Client
from integrations_pipeline.mapping import Mapping as Mapped
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, Failed, IntegrationError, LeaseHeld, OffPeak
from integrations_pipeline.spec.running import in_run
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lease import Lease, take_lease
from integrations_pipeline.store.outbox import answered_streams
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.answers import land_answers
from integrations_pipeline.sync.children import pull_children
from integrations_pipeline.sync.judging import judged
from integrations_pipeline.sync.own_list import pull_list
from integrations_pipeline.sync.progress import Progress, Unwatched
from integrations_pipeline.sync.pull import Pull
from integrations_pipeline.sync.result import StreamResult, SyncResult
from integrations_pipeline.sync.retrying import heal_after_edit
from integrations_pipeline.sync.shape import Following, follow, shape
from integrations_pipeline.sync.telling import tell_end, tell_error
from integrations_pipeline.sync.written import WrittenStream

RESUME_AFTER = timedelta(minutes=5)
"""When a deferred stream is tried again where the source named no time."""


def sync(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    streams: Iterable[str] = (),
    full: bool = False,
    now: bool = False,
    run_id: UUID | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> SyncResult:
    """Pulls and shapes the named streams (all selected ones unless named), parents first.

    ``full`` reads everything again, only within `off_peak` unless ``now``. One stream's failure leaves the others
    alone. Raises ConfigError for an unknown stream or a disconnected connection, DestinationError where our own
    database is away.
    """
    clock = clock or SystemClock()
    chosen = choose(connection, list(streams))
    store.refuse_stopped(connection)
    refuse_unfit(connection, chosen, client, kinds)
    store.prepare(connection, kinds)
    result = SyncResult(connection.name)
    with rarely_collected():
        for name in chosen:
            job = StreamJob(connection, name, client, store, kinds, run_id or uuid4(), clock, progress or Unwatched())
            result.streams.append(job.run(full=full, now=now))
    return result


def refuse_unfit(connection: Connection, names: list[str], client: Client, kinds: Mapping[str, Kind]) -> None:
    """Raises ConfigError, before the first request, for a stream whose declaration can't be put to work."""
    for name in names:
        stream = connection.streams[name]
        try:
            client.prepare(name)
            Boundary(connection.name, name, stream)
            if stream.map is not None:
                Mapped(stream, kinds[stream.map.to])
        except ConfigError as error:
            raise error.at(f"{connection.name}/{name}") from None


SWITCH_SECONDS = 0.0005
"""A thread that has waited for the database goes on this soon, not after 5 ms of another one's work."""


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Rows are many and hold no cycles: Python's search for cycles among them took a quarter of a sync's time. And its
    threads, which mostly hand work to the database, take turns more often."""
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)


def choose(connection: Connection, names: list[str]) -> list[str]:
    """The streams to sync, parents before children. Raises ConfigError for a name that isn't one of them."""
    known = list(connection.selected)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigError(
                f"connection {connection.name} has no stream {name}{hint}", next=f"choose of: {', '.join(known)}"
            )
    return [name for name in known if not names or name in names]


class StreamJob:
    """One stream's sync: lease, pull, shape, and the run's entry in the log."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        client: Client,
        store: Store,
        kinds: Mapping[str, Kind],
        run_id: UUID,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.connection, self.name, self.client, self.store = connection, name, client, store
        self.kinds, self.run_id, self.clock, self.progress = kinds, run_id, clock, progress
        self.result = StreamResult(name)
        self.where = f"{connection.name}/{name}"

    def run(self, *, full: bool, now: bool) -> StreamResult:
        """Raises nothing but what ends the process; the result says what went wrong."""
        began = self.clock.monotonic_seconds()
        with in_run(self.run_id):
            try:
                if full and not now:
                    self.check_off_peak()
                with take_lease(self.store.connect, self.connection.name, self.name, self.run_id) as lease:
                    self.work(lease, full=full)
            except Exception as error:  # noqa: BLE001 - a defect of ours in one stream leaves the others alone
                self.end_with(error)
            if untold := self.client.flush_log():
                self.result.note = "; ".join(filter(None, [self.result.note, untold]))
            self.result.duration_seconds = self.clock.monotonic_seconds() - began
            tell_end(self.connection.name, self.result)
        return self.result

    def end_with(self, caught: Exception) -> None:
        error = caught if isinstance(caught, IntegrationError) else defect(caught)
        error.at(self.where)
        self.result.end_with(error)
        if self.result.status == "deferred" and self.result.resume_at is None:
            self.result.resume_at = error.resume_at = self.clock.now() + RESUME_AFTER
        self.tell(error)

    def tell(self, error: IntegrationError) -> None:
        tell_error(self.connection.name, self.name, error)

    def check_off_peak(self) -> None:
        hours, moment = self.connection.off_peak, self.clock.now()
        if hours is not None and not hours.holds(moment):
            raise OffPeak(
                f"a full refresh of {self.where} belongs into its off-peak hours",
                next="it is due then; `--now` does it at once",
                resume_at=hours.next_start(moment),
            )

    def refresh_due(self, pull: Pull) -> bool:
        """Whether `deletes.snapshot` asks for a full refresh by now, and the hour is right for one."""
        deletes, hours, moment = pull.stream.deletes, self.connection.off_peak, self.clock.now()
        if deletes is None or deletes.snapshot is None or (hours is not None and not hours.holds(moment)):
            return False
        last = pull.lease.state().last_full_refresh
        return last is not None and last + deletes.snapshot <= moment

    def work(self, lease: Lease, *, full: bool) -> None:
        """Pull, then shape what landed: also after a pull that ended early, since each committed row is whole."""
        pull = Pull(
            self.connection,
            self.name,
            self.client,
            lease,
            self.clock,
            self.progress,
            self.result,
            self.clock.now(),
        )
        pull.following = self.following(lease)
        try:
            self.pull(pull, full=full)
        except Exception as error:  # noqa: BLE001 - also then the run's end is logged
            self.end_with(error)
        if not isinstance(self.result.error, LeaseHeld):
            self.heal(lease, pull.stream)
            self.shape(lease)
            self.land_answers(lease)
        self.finish(lease, pull)

    def finish(self, lease: Lease, pull: Pull) -> None:
        """The run's end, in the log and in what the stream remembers."""
        if self.result.status == "succeeded":
            self.result.judged = judged(self.connection, lease, edited=pull.edited)
        lease.finish_run(
            self.result.status,
            error=self.result.error.as_dict() if self.result.error else None,
            resume_at=self.result.resume_at,
            requests=pull.spent()[0],
            shaped=self.result.shaped.as_dict(),
            note=self.result.note,
            judged=self.result.judged,
        )

    def pull(self, pull: Pull, *, full: bool) -> None:
        """Reads the stream; whatever was committed before an error is counted."""
        self.progress.phase(self.name, "reading")
        full = full or self.refresh_due(pull)
        try:
            if pull.stream.parent_stream:
                pull_children(pull, full=full)
            else:
                pull_list(pull, full=full)
        finally:
            pull.close()

    def heal(self, lease: Lease, stream: Stream) -> None:
        """After an edit of its rules the boundary looks again at what it had rejected, whatever the source does."""
        try:
            self.result.healed = heal_after_edit(lease, stream)
        except Exception as error:  # noqa: BLE001 - also then the run's end is logged
            self.end_with(error)

    def following(self, lease: Lease) -> Following | None:
        """Shapes what is pulled chunk by chunk, unless something stands in its way."""
        stream = self.connection.streams[self.name]
        try:
            return follow(lease, stream, self.kinds[stream.map.to]) if stream.map else None
        except IntegrationError:  # ``shape`` meets it again, after the pull, and says so
            return None

    def shape(self, lease: Lease) -> None:
        stream = self.connection.streams[self.name]
        if stream.map is None:
            return
        self.progress.phase(self.name, "shaping")
        try:
            self.result.shaped += shape(lease, stream, self.kinds[stream.map.to])
        except Exception as error:  # noqa: BLE001 - also then the run's end is logged
            self.end_with(error)

    def land_answers(self, lease: Lease) -> None:
        """What the source answered to our own writes while this run held the stream."""
        if self.connection.streams[self.name].write is None or self.result.error is not None:
            return
        try:
            with self.store.borrow() as session:
                waiting = answered_streams(session, self.connection.name)
            if self.name in waiting:
                landed = land_answers(lease, WrittenStream(self.connection, self.name, self.kinds))
                self.result.counters += landed.counters
                self.result.shaped += landed.shaped
        except Exception as error:  # noqa: BLE001 - also then the run's end is logged
            self.end_with(error)


def defect(error: Exception) -> Failed:
    """What no room foresaw, as an error that names it; `--debug` shows its cause."""
    found = Failed(
        f"unexpected {type(error).__name__}: {error}",
        who="the makers of this program",
        next="run it again with --debug and report what it prints",
    )
    found.__cause__ = error
    return found
