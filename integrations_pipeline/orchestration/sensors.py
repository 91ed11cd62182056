"""What cron can't say: streams that never ran, odd intervals, deferred streams, full refreshes that are due.

Our own tables are the truth (when a stream last began, when it may go on); a run key only keeps one tick from asking
twice for the same thing. A key holds the time at which it fell due, and changes after a while: a request that came to
nothing is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from integrations_pipeline.orchestration.jobs import FULL_REFRESH_JOB
from integrations_pipeline.orchestration.schedules import (
    SYNC_JOB,
    cron_of,
    is_asked,
    request,
    unfinished,
)
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.store.reports import StreamClock, stream_clocks
from integrations_pipeline.sync.asking import anything_new
from integrations_pipeline.sync.due import every_of, interval_now

AGAIN_AFTER = timedelta(minutes=10)
"""When a request that came to nothing is made again."""

ASKING_SECONDS = 20.0
"""A tick that asks sources ends by then; Dagster gives up on one after a minute."""

Connections = Mapping[str, Connection]
DueStreams = dict[str, dict[str, datetime]]
"""Connection → stream → when it fell due."""
Due = Callable[[Connection, StreamClock, datetime], datetime | None]
"""When the stream fell due; None while it isn't."""


@dataclass(frozen=True)
class Watch:
    """What one sensor looks for."""

    name: str
    job_name: str
    seconds: int
    reason: str
    description: str
    due: Due


def poll_due(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    """Never synced, or an interval that cron can't say is over."""
    if clock.last_started is None:
        return now
    if is_asked(connection, clock.stream) or cron_of(every_of(connection, clock.stream), connection.name) is not None:
        return None
    return interval_over(connection, clock, now)


def ask_due(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    """A stream whose source can say whether anything is new, at its interval."""
    if not is_asked(connection, clock.stream):
        return None
    return interval_over(connection, clock, now)


def interval_over(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    """When the interval ended; None while it lasts, or while the stream waits for a time of its own."""
    every = every_of(connection, clock.stream)
    if every.interval is None or clock.last_started is None or clock.resume_at is not None:
        return None
    at = clock.last_started + interval_now(connection, clock, now)
    return at if at <= now else None


def resume_due(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    return clock.resume_at if clock.resume_at is not None and clock.resume_at <= now else None


def full_due(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    """`deletes.snapshot` has passed since the last full refresh, and it is off-peak."""
    stream = connection.streams[clock.stream]
    if stream.deletes is None or stream.deletes.snapshot is None or stream.cursor is None:
        return None  # without a cursor each poll is a full refresh
    if clock.last_full_refresh is None:
        return None  # the first sync is one
    at = clock.last_full_refresh + stream.deletes.snapshot
    off_peak = connection.off_peak is None or connection.off_peak.holds(now)
    return at if at <= now and off_peak else None


WATCHES = (
    Watch("poll_due", SYNC_JOB, 30, "poll", "Streams never synced yet, and intervals that cron can't say.", poll_due),
    Watch("resume_deferred", SYNC_JOB, 15, "resumed", "Goes on with deferred streams at their time.", resume_due),
    Watch(
        "full_refresh_due",
        FULL_REFRESH_JOB,
        60,
        "full refresh",
        "Reads a stream whole when its `snapshot` has passed, in its off-peak hours.",
        full_due,
    ),
)
ASKING = Watch(
    "ask_sources",
    SYNC_JOB,
    30,
    "the source has something new",
    "Asks the sources that can say so whether anything is new (ETag, Last-Modified, a count); a run starts only then.",
    ask_due,
)


def sensors(connections: Connections) -> list[SensorDefinition]:
    """A few for all connections together: a tick is one query."""
    asked = any(is_asked(c, name) for c in connections.values() for name in c.selected)
    return [sensor_of(watch, connections) for watch in (*WATCHES, *((ASKING,) if asked else ()))]


def sensor_of(watch: Watch, connections: Connections) -> SensorDefinition:
    @sensor(
        name=watch.name,
        job_name=watch.job_name,
        minimum_interval_seconds=watch.seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description=watch.description,
        required_resource_keys={"store", "client"},
    )
    def evaluate(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        now = datetime.now(UTC)
        found = due_streams(context, watch, connections, now)
        idle = {name: due for name, due in found.items() if not context.instance.get_runs_count(unfinished(name))}
        if watch is ASKING:
            idle = with_news(context, connections, idle)
        for name, due in idle.items():
            yield request_of(watch, connections[name], due, now)
        if not idle:
            yield SkipReason("what is due has a run under way, or nothing new" if found else "nothing is due")

    return evaluate


def due_streams(context: SensorEvaluationContext, watch: Watch, connections: Connections, now: datetime) -> DueStreams:
    """What is due by our own tables."""
    with context.resources.store.store.borrow() as session:
        clocks = stream_clocks(session, ((c.name, s) for c in connections.values() for s in c.selected))
    due: DueStreams = {}
    for clock in clocks:
        at = watch.due(connections[clock.connection], clock, now) if clock.may_run(now) else None
        if at is not None:
            due.setdefault(clock.connection, {})[clock.stream] = at
    return due


def with_news(context: SensorEvaluationContext, connections: Connections, due: DueStreams) -> DueStreams:
    """Without the streams whose source says that nothing is new. A tick asks for a while; the rest is for the next."""
    until = time.monotonic() + ASKING_SECONDS
    found: DueStreams = {}
    for name, streams in due.items():
        for stream, at in streams.items():
            if time.monotonic() < until and has_news(context, connections[name], stream):
                found.setdefault(name, {})[stream] = at
    return found


def has_news(context: SensorEvaluationContext, connection: Connection, stream: str) -> bool:
    """Whether a run is needed; also where the source can't even be asked, so that the run tells why."""
    try:
        client = context.resources.client.of(connection)
    except IntegrationError:
        return True
    return anything_new(connection, stream, client, context.resources.store.store, uuid4())


def request_of(watch: Watch, connection: Connection, due: Mapping[str, datetime], now: datetime) -> RunRequest:
    """One request for all streams of a connection that are due, parents before their children."""
    ordered = [stream for stream in connection.selected if stream in due]
    key = f"{watch.name}/{connection.name}/{'+'.join(ordered)}/{key_time(min(due.values()), now)}"
    return request(connection, ordered, watch.reason, run_key=key, job_name=watch.job_name)


def key_time(at: datetime, now: datetime) -> str:
    """The moment it fell due, and how often the time to ask again has passed since the epoch."""
    again = int(now.timestamp() // AGAIN_AFTER.total_seconds())
    return f"{at:%Y%m%dT%H%M%S}/{again}" if at != now else f"never/{again}"
