"""The sensor `alerts`: looks each half minute what is wrong, and tells people. Dagster's own alerts need its cloud.

Our own tables say what is wrong, also of a sync that was started in the terminal. From Dagster come only the runs that
died without a word in them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRecord,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.storage.tags import WILL_RETRY_TAG

from integrations_pipeline.orchestration.inbox import EVENTS_TAG
from integrations_pipeline.orchestration.notifying import Apprise
from integrations_pipeline.orchestration.schedules import CONNECTION_TAG
from integrations_pipeline.spec.loading import Loaded
from integrations_pipeline.store.alerts import Alert, Condition
from integrations_pipeline.store.health import Histories, runs_that_told
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.alerting import UI_URL, Link, alert, asset_link
from integrations_pipeline.sync.conditions import RUNNER

SECONDS = 30
LOOK_BACK = timedelta(days=7)
"""A run that died longer ago is no news: freshness tells of what it left."""
LOOK_RUNS = 200


def alerts_sensor(loaded: Loaded) -> SensorDefinition:
    """One for all of the home. It is there also where nobody is told: pages and metrics show what is open."""
    histories = Histories()

    @sensor(
        name="alerts",
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Looks what is wrong with the connections and tells whom their `alerts` name: once when it breaks, "
        "once when it heals, and a reminder while it lasts.",
        required_resource_keys={"store"},
    )
    def evaluate(context: SensorEvaluationContext) -> SkipReason:
        store = context.resources.store.store
        died = list(crashed(context.instance, store, loaded.connections))
        found = alert(loaded, store, Apprise(), crashed=died, link=run_link(context.instance), histories=histories)
        return SkipReason(f"{found.open} open alerts, {found.told} messages sent, {found.failed} not taken")

    return evaluate


def run_link(instance: DagsterInstance) -> Link:
    """The run's page where Dagster knows the run, else its asset's: a sync in the terminal is no run of Dagster."""

    def link(one: Alert) -> str | None:
        url = os.environ.get(UI_URL, "").strip().rstrip("/")
        if url and one.run_id is not None and instance.has_run(str(one.run_id)):
            return f"{url}/runs/{one.run_id}"
        return asset_link(one)

    return link


def crashed(instance: DagsterInstance, store: Store, connections: Collection[str]) -> Iterator[Condition]:
    """Of each job of a connection the latest failed run that no success came after, unless our own log tells of it."""
    failed = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=datetime.now(UTC) - LOOK_BACK)
    latest: dict[tuple[str, str], RunRecord] = {}
    for record in instance.get_run_records(failed, limit=LOOK_RUNS):
        latest.setdefault((connection_of(record.dagster_run) or "", record.dagster_run.job_name), record)
    with store.borrow() as session:
        known = runs_that_told(session, [one.dagster_run.run_id for one in latest.values()])
    for (name, _), record in latest.items():
        run = record.dagster_run
        ours = name in connections and run.run_id not in known and run.tags.get(WILL_RETRY_TAG) != "true"
        if ours and not succeeded_since(instance, name, record):
            yield died(instance, name, record)


def connection_of(run: DagsterRun) -> str | None:
    """Whose run it is: by its tag, or by the configuration of jobs that name one connection."""
    for tag in (CONNECTION_TAG, EVENTS_TAG):
        if tag in run.tags:
            return run.tags[tag]
    ops: Any = run.run_config.get("ops", {})
    return next((str(op["config"]["connection"]) for op in ops.values() if "connection" in op.get("config", {})), None)


def succeeded_since(instance: DagsterInstance, connection: str, record: RunRecord) -> bool:
    later = RunsFilter(
        job_name=record.dagster_run.job_name,
        statuses=[DagsterRunStatus.SUCCESS],
        created_after=record.create_timestamp,
    )
    return any(connection_of(one) == connection for one in instance.get_runs(later, limit=LOOK_RUNS))


def died(instance: DagsterInstance, connection: str, record: RunRecord) -> Condition:
    """What the run itself said, where it came to say something."""
    run = record.dagster_run
    said = {
        "what": "its process ended without a word",
        "who": RUNNER,
        "next": "see the run's page",
        **told(instance, run),
    }
    return Condition(
        connection,
        "",
        f"run_failure_{run.job_name}",
        "error",
        f"a run of the job {run.job_name} failed: {said['what']}",
        said["who"],
        said["next"],
        record.update_timestamp,
        UUID(run.run_id),
    )


def told(instance: DagsterInstance, run: DagsterRun) -> dict[str, str]:
    """What, who and next of the failure that `reporting.failure` made; empty where there is none."""
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        data = event.step_failure_data.user_failure_data if event else None
        if data is not None:
            values = {name: data.metadata[name].value for name in ("what", "who", "next") if name in data.metadata}
            return {name: str(value) for name, value in values.items()}
    return {}
