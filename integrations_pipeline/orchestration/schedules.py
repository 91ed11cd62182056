"""`every` as schedules: one per rhythm of a connection, all of them for the one job `sync`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

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
    """The streams by when they are polled: their own `every`, else the connection's."""
    found: dict[Every, list[str]] = {}
    for name, stream in connection.selected.items():
        found.setdefault(stream.every or connection.every, []).append(name)
    return found


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
    spread = zlib.crc32(name.encode())
    if HOUR % minutes == 0:
        first = spread % int(minutes)
        return f"{first}-59/{int(minutes)} * * * *" if minutes > 1 else "* * * * *"
    if minutes % HOUR == 0 and DAY % minutes == 0:
        hours = int(minutes // HOUR)
        return f"{spread % 60} {spread % hours}-23/{hours} * * *" if hours < 24 else f"{spread % 60} 0 * * *"
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
    """Asks for one run of the streams, unless a run of theirs is still under way."""

    @schedule(
        name=f"poll_{name}",
        cron_schedule=cron,
        execution_timezone=zone,
        job_name=SYNC_JOB,
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Polls {', '.join(streams)} of {connection.name}.",
        tags={CONNECTION_TAG: connection.name},
    )
    def due(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        under_way = context.instance.get_runs_count(unfinished(connection.name))
        if under_way:
            return SkipReason(f"a sync of {connection.name} is still under way")
        return request(connection, streams, "schedule")

    return due


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
