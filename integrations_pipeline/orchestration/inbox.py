"""The sensor `inbox`: where events wait, one run applies all of a connection's. Also the net below the fast lane.

Our own inbox is the truth: a run that dies leaves its events, which are due again when its lease on them has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetMaterialization,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from integrations_pipeline.orchestration.describing import stream_key
from integrations_pipeline.orchestration.jobs import RECEIVE_JOB
from integrations_pipeline.orchestration.schedules import REASON_TAG, UNFINISHED
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.inbox import waiting
from integrations_pipeline.store.reports import AppliedRun, applied_since, stream_clocks

EVENTS_TAG = "integrations/events"
"""On a run: whose events it applies. Not the tag of polls, which would wait for it."""

LOOK_SECONDS = 5
AGAIN_SECONDS = 600
"""When a run that came to nothing is asked for again."""

REPORTED = timedelta(hours=1)
"""How far the first tick looks back."""

Connections = Mapping[str, Connection]


def has_webhooks(connections: Connections) -> bool:
    return any(one.webhook is not None for one in connections.values())


def inbox_sensors(connections: Connections) -> list[SensorDefinition]:
    """One for all connections together; none where no connection has a webhook."""
    return [inbox_sensor(connections)] if has_webhooks(connections) else []


def inbox_sensor(connections: Connections) -> SensorDefinition:
    @sensor(
        name="inbox",
        job_name=RECEIVE_JOB,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Looks for events that wait in the inbox, and starts one run per connection that applies them all.",
        required_resource_keys={"store"},
    )
    def evaluate(context: SensorEvaluationContext) -> SensorResult:
        requests = list(due_runs(context, connections))
        applied = applied_at_once(context, connections)
        return SensorResult(
            run_requests=requests,
            skip_reason=None if requests else SkipReason("no event waits, or a run applies them already"),
            asset_events=[materialization(one) for one in applied],
            cursor=applied[-1].started_at.isoformat() if applied else context.cursor,
        )

    return evaluate


def applied_at_once(context: SensorEvaluationContext, connections: Connections) -> list[AppliedRun]:
    """What the gateway applied since it was last reported, a minute of a stream together."""
    since = datetime.fromisoformat(context.cursor) if context.cursor else datetime.now(UTC) - REPORTED
    with context.resources.store.store.borrow() as session:
        found = applied_since(session, since)
    return [one for one in found if one.connection in connections and one.stream in connections[one.connection].streams]


def materialization(one: AppliedRun) -> AssetMaterialization:
    counts = {name: count for name, count in vars(one).items() if isinstance(count, int)}
    return AssetMaterialization(stream_key(one.connection, one.stream), description="by the gateway", metadata=counts)


def due_runs(context: SensorEvaluationContext, connections: Connections) -> Iterator[RunRequest]:
    """One run for each connection with due events, unless one is under way or it is disconnected."""
    with context.resources.store.store.borrow() as session:
        found = [(name, mark) for name, _, _, mark in waiting(session) if name in connections]
        streams = [(name, stream) for name, _ in found for stream in connections[name].selected]
        stopped = {clock.connection for clock in stream_clocks(session, streams) if not clock.active}
    for name, mark in found:
        if name not in stopped and not context.instance.get_runs_count(applying(name)):
            yield run_for(name, mark)


def applying(connection: str) -> RunsFilter:
    return RunsFilter(tags={EVENTS_TAG: connection}, statuses=UNFINISHED)


def run_for(connection: str, mark: str) -> RunRequest:
    """The key names the oldest event and its try, so that two ticks don't ask twice for the same work."""
    return RunRequest(
        run_key=f"inbox/{connection}/{mark}/{int(time.time() // AGAIN_SECONDS)}",
        run_config={"ops": {"apply_events": {"config": {"connection": connection}}}},
        tags={EVENTS_TAG: connection, REASON_TAG: "events"},
    )
