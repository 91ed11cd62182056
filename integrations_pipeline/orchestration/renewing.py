"""Subscriptions that end are renewed in time: the job `connect` does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from dagster import DefaultSensorStatus, RunRequest, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from integrations_pipeline.orchestration.sensors import key_time
from integrations_pipeline.spec.connection import Connection

SECONDS = 300


def renewing_sensors(connections: Mapping[str, Connection]) -> list[SensorDefinition]:
    """One, where any connection's subscription may end."""
    hooks = [connection.webhook for connection in connections.values() if connection.webhook]
    return [renewing(connections)] if any(hook.subscribe and hook.subscribe.expires for hook in hooks) else []


def renewing(connections: Mapping[str, Connection]) -> SensorDefinition:
    @sensor(
        name="renew_subscriptions",
        job_name="connect",
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Renews a webhook's subscription a day before the provider ends it.",
        required_resource_keys={"store"},
    )
    def renew_subscriptions(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        now = datetime.now(UTC)
        due = context.resources.store.store.subscriptions.due(now)
        for name, ends in due.items():
            if name in connections:
                configuration = {"ops": {"prove_and_prepare": {"config": {"connection": name}}}}
                yield RunRequest(run_key=f"renew/{name}/{key_time(ends, now)}", run_config=configuration)
        if not due:
            yield SkipReason("no subscription ends soon")

    return renew_subscriptions
