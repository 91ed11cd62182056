"""`every` as schedules: one per rhythm of a connection, all of them for the one job `sync`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from integrations_pipeline.orchestration.describing import kind_key, stream_key
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.forms import Every
from integrations_pipeline.store.reports import StreamClock, postpone, stream_clocks
from integrations_pipeline.sync.asking import can_be_asked
from integrations_pipeline.sync.due import every_of, interval_now

SYNC_JOB = "sync"
CONNECTION_TAG = "integrations/connection"
REASON_TAG = "integrations/reason"
UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]
HOUR, DAY = 60, 24 * 60


def rhythms(connection: Connection) -> Mapping[Every, list[str]]:
    """The streams that are polled by runs, by when: at their own `every`, else the connection's."""
    found: dict[Every, list[str]] = {}
    for name in connection.selected:
        if not is_asked(connection, name):
            found.setdefault(every_of(connection, name), []).append(name)
    return found


def is_asked(connection: Connection, name: str) -> bool:
    """Whether the sensor `ask_sources` polls the stream: a 304 then costs no run. A cron is kept to the minute."""
    return can_be_asked(connection.streams[name]) and every_of(connection, name).interval is not None


def cron_of(every: Every, name: str) -> str | None:
    """The cron of a rhythm; None for a duration that divides neither an hour nor a day.

    A duration's minute follows from the name, so that a hundred connections don't all start on the hour.
    """
    if every.cron is not None:
        return every.cron
    assert every.interval is not None
    minutes, seconds = divmod(every.interval.total_seconds(), 60)
    if seconds:
        return None
    spread, minutes = zlib.crc32(name.encode()), int(minutes)
    hours = minutes // HOUR
    if minutes < HOUR and HOUR % minutes == 0:
        return f"{spread % minutes}-59/{minutes} * * * *"
    if minutes % HOUR == 0 and hours and DAY % minutes == 0:
        at = {1: "*", 24: f"{spread % 24}"}.get(hours, f"{spread % hours}-23/{hours}")
        return f"{spread % HOUR} {at} * * *"
    return None


def schedules_of(connection: Connection) -> Iterator[ScheduleDefinition]:
    """A schedule per rhythm that cron can say; the sensor `poll_due` sees to the others."""
    for every, streams in rhythms(connection).items():
        whole = streams == rhythms(connection).get(connection.every)
        name = connection.name if whole else f"{connection.name}__{streams[0]}"
        cron = cron_of(every, name)
        if cron is not None:
            yield poll(connection, name, cron, every.zone, streams)


def poll(connection: Connection, name: str, cron: str, zone: str, streams: Sequence[str]) -> ScheduleDefinition:
    """Asks for one run of the streams: not while one is under way, not for those stopped or deferred to a time."""

    @schedule(
        name=f"poll_{name}",
        cron_schedule=cron,
        execution_timezone=zone,
        job_name=SYNC_JOB,
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Polls {', '.join(streams)} of {connection.name}.",
        tags={CONNECTION_TAG: connection.name},
        required_resource_keys={"store"},
    )
    def due(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        if context.instance.get_runs_count(unfinished(connection.name)):
            return SkipReason(f"a sync of {connection.name} is still under way")
        now = datetime.now(UTC)
        with context.resources.store.store.borrow() as session:
            clocks = stream_clocks(session, ((connection.name, stream) for stream in streams))
            waiting = {clock.stream for clock in clocks if webhooks_suffice(connection, clock, now)}
            postpone(session, connection.name, [stream for stream in streams if stream not in waiting])
        ready = {clock.stream for clock in clocks if may_run(clock, now)} - waiting
        if not ready and waiting:
            return SkipReason(f"webhooks bring the changes of {connection.name}: a later poll is soon enough")
        if not ready:
            return SkipReason(f"{connection.name} is disconnected, deferred to a later time, or its source is down")
        return request(connection, [stream for stream in streams if stream in ready], "schedule")

    return due


def may_run(clock: StreamClock, now: datetime) -> bool:
    """Whether a poll makes sense: the stream isn't stopped, nor told to wait, nor its source down."""
    return clock.may_run(now) and (clock.resume_at is None or clock.resume_at <= now)


def webhooks_suffice(connection: Connection, clock: StreamClock, now: datetime) -> bool:
    """Whether a poll that `every` asks for can be left out. Half an interval is no matter: a run begins a little after
    its tick, which is then the nearest one."""
    every = every_of(connection, clock.stream).interval
    if every is None or clock.last_started is None:
        return False
    return now + every / 2 < clock.last_started + interval_now(connection, clock, now)


def unfinished(connection: str) -> RunsFilter:
    return RunsFilter(tags={CONNECTION_TAG: connection}, statuses=UNFINISHED)


def request(
    connection: Connection,
    streams: Sequence[str],
    reason: str,
    *,
    run_key: str | None = None,
    job_name: str = SYNC_JOB,
    tags: Mapping[str, str] | None = None,
) -> RunRequest:
    """One run for some streams of a connection and the kinds they feed."""
    maps = [connection.streams[name].map for name in streams]
    kinds = dict.fromkeys(kind_key(one.to) for one in maps if one)
    return RunRequest(
        run_key=run_key,
        job_name=job_name,
        asset_selection=[*(stream_key(connection.name, name) for name in streams), *kinds],
        tags={CONNECTION_TAG: connection.name, REASON_TAG: reason, **(tags or {})},
    )
