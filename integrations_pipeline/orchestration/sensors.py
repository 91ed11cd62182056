"""What cron can't say: streams that never ran, odd intervals, deferred streams, full refreshes that are due.

Our own tables are the truth (when a stream last began, when it may go on); a run key only keeps one tick from asking
twice for the same thing. A key holds the time at which it fell due, and changes after a while: a request that came to
nothing is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from integrations_pipeline.orchestration.jobs import FULL_REFRESH_JOB
from integrations_pipeline.orchestration.schedules import CONNECTION_TAG, SYNC_JOB, cron_of, request, unfinished
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.reports import StreamClock, stream_clocks

AGAIN_AFTER = timedelta(minutes=10)
"""When a request that came to nothing is made again."""

Connections = Mapping[str, Connection]
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
    """Never synced, or an interval that cron can't say is over. Who waits for a time of its own isn't polled."""
    every = connection.streams[clock.stream].every or connection.every
    if clock.last_started is None:
        return now
    if every.interval is None or cron_of(every, connection.name) is not None or clock.resume_at is not None:
        return None
    at = clock.last_started + every.interval
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


def sensors(connections: Connections) -> list[SensorDefinition]:
    """Three for all connections together: a tick is one query."""
    return [sensor_of(watch, connections) for watch in WATCHES]


def sensor_of(watch: Watch, connections: Connections) -> SensorDefinition:
    @sensor(
        name=watch.name,
        job_name=watch.job_name,
        minimum_interval_seconds=watch.seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description=watch.description,
        required_resource_keys={"store"},
    )
    def evaluate(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        with context.resources.store.store.borrow() as session:
            clocks = stream_clocks(session, ((c.name, s) for c in connections.values() for s in c.selected))
        found = list(requests(watch, connections, clocks, datetime.now(UTC)))
        ready = [one for one in found if not context.instance.get_runs_count(unfinished(one.tags[CONNECTION_TAG]))]
        yield from ready
        if not ready:
            yield SkipReason(f"{len(found)} connections have a run under way" if found else "nothing is due")

    return evaluate


def requests(
    watch: Watch, connections: Connections, clocks: Iterable[StreamClock], now: datetime
) -> Iterator[RunRequest]:
    """One request per connection, for all of its streams that are due, parents before their children."""
    due: dict[str, dict[str, datetime]] = {}
    for clock in clocks:
        at = watch.due(connections[clock.connection], clock, now) if clock.active else None
        if at is not None:
            due.setdefault(clock.connection, {})[clock.stream] = at
    for name, streams in due.items():
        ordered = [stream for stream in connections[name].selected if stream in streams]
        key = f"{watch.name}/{name}/{'+'.join(ordered)}/{key_time(min(streams.values()), now)}"
        yield request(connections[name], ordered, watch.reason, run_key=key, job_name=watch.job_name)


def key_time(at: datetime, now: datetime) -> str:
    """The moment it fell due, and how often the time to ask again has passed since the epoch."""
    again = int(now.timestamp() // AGAIN_AFTER.total_seconds())
    return f"{at:%Y%m%dT%H%M%S}/{again}" if at != now else f"never/{again}"
