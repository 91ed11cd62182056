"""The sensor `alerts`: looks each half minute what is wrong, and tells people. Dagster's own alerts need its cloud.

Our own tables say what is wrong, also of a sync that was started in the terminal. From Dagster come only the runs that
died without a word in them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
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
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG, WILL_RETRY_TAG

from integrations_pipeline.orchestration.delivering import DELIVER_JOB
from integrations_pipeline.orchestration.files import Files
from integrations_pipeline.orchestration.inbox import EVENTS_TAG
from integrations_pipeline.orchestration.jobs import FULL_REFRESH_JOB, RECEIVE_JOB
from integrations_pipeline.orchestration.notifying import Apprise
from integrations_pipeline.orchestration.outbox import CHANGES_TAG, PUSH_JOB
from integrations_pipeline.orchestration.pruning import PRUNE_JOB
from integrations_pipeline.orchestration.schedules import CONNECTION_TAG, SYNC_JOB
from integrations_pipeline.store.alerts import HOME, Alert, Condition, open_conditions
from integrations_pipeline.store.health import Histories, runs_that_told
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.alerting import UI_URL, Link, alert, asset_link
from integrations_pipeline.sync.conditions import HOUSEKEEPER, RUNNER

SECONDS = 30
LOOK_BACK = timedelta(days=7)
"""Of the first look: a run that died longer ago is no news, freshness tells of what it left."""
LATE = timedelta(minutes=10)
"""Failures are looked at again for as long: clocks of machines differ, and a run's tags follow it."""
LOOK_RUNS = 500
"""That failed, per tick."""

RUN_FAILURE = "run_failure"
JOB_TAGS = {
    SYNC_JOB: CONNECTION_TAG,
    FULL_REFRESH_JOB: CONNECTION_TAG,
    RECEIVE_JOB: EVENTS_TAG,
    PUSH_JOB: CHANGES_TAG,
}
"""Which tag says whose a run of the job is."""
HOME_JOBS = {PRUNE_JOB, DELIVER_JOB}


def alerts_sensor(files: Files) -> SensorDefinition:
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
        loaded = files.now()
        news, cursor = failures(context.instance, context.cursor)
        died = list(crashed(context.instance, store, loaded.connections, news))
        found = alert(loaded, store, Apprise(), crashed=died, link=run_link(context.instance), histories=histories)
        context.update_cursor(cursor)
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


def failures(instance: DagsterInstance, cursor: str | None) -> tuple[list[RunRecord], str]:
    """Runs that failed since the cursor, the oldest first, and the next cursor; more than a tick can take are left to
    the next one."""
    now = datetime.now(UTC)
    since = datetime.fromisoformat(cursor) if cursor else now - LOOK_BACK
    failed = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=since)
    found = list(instance.get_run_records(failed, limit=LOOK_RUNS, order_by="update_timestamp", ascending=True))
    taken = found[-1].update_timestamp if len(found) == LOOK_RUNS else max(since, now - LATE)
    return found, taken.isoformat()


def crashed(
    instance: DagsterInstance, store: Store, names: Collection[str], news: Iterable[RunRecord]
) -> Iterator[Condition]:
    """What is open and what ``news`` bring: of each job, of a connection or of the home, the latest run that failed for
    good. Over once a later run succeeded, or failed in words: then our own log tells of it."""
    with store.borrow() as session:
        still = {
            (one.connection, one.condition): one for one in open_conditions(session, [*names, HOME], RUN_FAILURE + "_")
        }
        latest = latest_of([*known(instance, still.values()), *news], names)
        told = runs_that_told(session, [one.dagster_run.run_id for one in latest.values()])
    for key in dict.fromkeys((*still, *latest)):
        (name, condition), before, record = key, still.get(key), latest.get(key)
        run_id = record.dagster_run.run_id if record else ""
        since = record.create_timestamp if record else before.since if before else datetime.now(UTC)
        if run_id in told or succeeded_since(instance, name, condition.removeprefix(RUN_FAILURE + "_"), since):
            continue
        if record is not None and (before is None or str(before.run_id) != run_id):
            yield died(instance, name, record)
        elif before is not None:
            yield before


def known(instance: DagsterInstance, alerts: Iterable[Condition]) -> Sequence[RunRecord]:
    """The runs that alerts are about, as far as Dagster still has them."""
    ids = [str(one.run_id) for one in alerts if one.run_id is not None]
    return instance.get_run_records(RunsFilter(run_ids=ids)) if ids else []


def latest_of(records: Iterable[RunRecord], names: Collection[str]) -> dict[tuple[str, str], RunRecord]:
    """By owner and condition. Without runs that are tried again: only the last try is news. Dagster says so with a tag,
    right after it has said that the run failed. And without those that were asked to stop (a SIGTERM, as when
    `integrations up` ends): whoever asked knows, and a later run takes up what was left."""
    found: dict[tuple[str, str], RunRecord] = {}
    for record in sorted(records, key=lambda one: one.storage_id):
        run = record.dagster_run
        owner = owner_of(run, names)
        stopped = run.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.UNEXPECTED_TERMINATION.value
        if owner is not None and run.tags.get(WILL_RETRY_TAG) == "false" and not stopped:
            found[owner, f"{RUN_FAILURE}_{run.job_name}"] = record
    return found


def owner_of(run: DagsterRun, names: Collection[str]) -> str | None:
    """The connection, or the home; None for a run that a person started for several connections, and watches."""
    if run.job_name in HOME_JOBS:
        return HOME
    name = connection_of(run)
    return name if name in names else None


def connection_of(run: DagsterRun) -> str | None:
    """Whose run it is: by its tag, or by the configuration of jobs that name one connection."""
    tag = JOB_TAGS.get(run.job_name)
    if tag is not None and tag in run.tags:
        return run.tags[tag]
    ops: Any = run.run_config.get("ops", {})
    return next((str(op["config"]["connection"]) for op in ops.values() if "connection" in op.get("config", {})), None)


def succeeded_since(instance: DagsterInstance, owner: str, job: str, since: datetime) -> bool:
    """Of jobs that only people start there are few, and no tag says whose a run is."""
    tag = JOB_TAGS.get(job)
    tags = {tag: owner} if tag else {}
    later = RunsFilter(job_name=job, statuses=[DagsterRunStatus.SUCCESS], created_after=since, tags=tags)
    if tag or owner == HOME:
        return bool(instance.get_runs(later, limit=1))
    return any(connection_of(one) == owner for one in instance.get_runs(later, limit=LOOK_RUNS))


def died(instance: DagsterInstance, owner: str, record: RunRecord) -> Condition:
    """What the run itself said, where it came to say something."""
    run = record.dagster_run
    said = {
        "what": "its process ended without a word",
        "who": HOUSEKEEPER if owner == HOME else RUNNER,
        "next": "see the run's page",
        **told(instance, run),
    }
    return Condition(
        owner,
        "",
        f"{RUN_FAILURE}_{run.job_name}",
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
