"""The verb `backfill`: reads a window of the past again. What the stream knows of where it is stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from uuid import UUID, uuid4

from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, CursorExpired, IntegrationError, LeaseHeld
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.listing import Listing, dated, window_end
from integrations_pipeline.sync.lists import read_windows
from integrations_pipeline.sync.progress import Progress, Unwatched
from integrations_pipeline.sync.pull import Pull
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import StreamJob


def can_backfill(stream: Stream) -> bool:
    """Whether the stream can be asked for a span of time: a list of its own, by a cursor that counts time."""
    cursor = stream.cursor
    if cursor is None or cursor.field is None or stream.parent_stream is not None:
        return False
    declared = stream.fields.get(str(cursor.field))
    return cursor.format is not None or declared is None or declared.type in ("timestamp", "date")


def backfill(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    stream: str,
    since: datetime,
    until: datetime,
    *,
    now: bool = False,
    run_id: UUID | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> StreamResult:
    """Pulls and shapes what the source says changed from ``since`` to ``until``; neither bookmark nor watermark moves.

    Only within `off_peak`, unless ``now``. A source that takes no upper end is read from ``since`` on. Never raises
    for what the source does. Raises ConfigError for a stream without such a cursor, and DestinationError.
    """
    if stream not in connection.selected or not can_backfill(connection.selected[stream]):
        raise ConfigError(
            f"{connection.name}/{stream} has no cursor that counts time",
            next="read it whole: integrations sync --full",
        )
    store.refuse_stopped(connection)
    store.prepare(connection, kinds)
    job = Backfill(
        connection, stream, client, store, kinds, run_id or uuid4(), clock or SystemClock(), progress or Unwatched()
    )
    job.since, job.until = since, until
    return job.run(full=True, now=now)


class Backfill(StreamJob):
    """A stream's job that reads a window instead of what is new."""

    since: datetime
    until: datetime

    def work(self, lease: Lease, *, full: bool) -> None:
        present = Until(self.clock, self.until)
        pull = WindowPull(
            self.connection, self.name, self.client, lease, present, self.progress, self.result, self.clock.now()
        )
        pull.following = self.following(lease)
        lease.start_run("backfill", pull.started_at)
        try:
            self.read(pull)
        except IntegrationError as error:
            self.end_with(error)
        if not isinstance(self.result.error, LeaseHeld):
            self.shape(lease)
        self.finish(lease, pull)

    def read(self, pull: Pull) -> None:
        """From the window's start to its end, in the steps that the cursor declares."""
        self.progress.phase(self.name, f"reading from {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}")
        begin, end = typed(pull.stream, self.since), typed(pull.stream, self.until)
        step = window_end(pull.stream, begin)
        try:
            read_windows(pull, Listing("incremental", since=begin, window_end=min(step, end) if step else end), None)
        finally:
            pull.close()


def typed(stream: Stream, moment: datetime) -> date | datetime:
    """The moment as the stream's cursor counts time."""
    return moment.astimezone(UTC).date() if dated(stream) else moment


class WindowPull(Pull):
    """Lands rows and moves nothing else."""

    def submit(self, *states: StateChange) -> None:
        super().submit()

    def begin_refresh(self, under_way: UUID | None) -> None:
        """Called where the source refused the window's start; a backfill never turns into a full refresh."""
        raise CursorExpired("the source doesn't know that far back", next="choose a later window, or sync with --full")


class Until:
    """A clock at whose present the window ends."""

    def __init__(self, clock: Clock, until: datetime):
        self.clock, self.until = clock, until

    def now(self) -> datetime:
        return min(self.until, self.clock.now())

    def monotonic_seconds(self) -> float:
        return self.clock.monotonic_seconds()

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
