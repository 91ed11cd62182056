"""`on_change` on Dagster: a sensor looks at the queue, and one run sends what is due."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    sensor,
)

from integrations_pipeline.orchestration.jobs import told
from integrations_pipeline.orchestration.schedules import UNFINISHED
from integrations_pipeline.orchestration.sensors import key_time
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.sync.deliver import deliver

DELIVER_JOB = "deliver"
SECONDS = 5
Kinds = Mapping[str, Kind]


def delivering_jobs(kinds: Kinds) -> list[JobDefinition]:
    """One, where any kind has `on_change`."""
    return [deliver_job(kinds)] if any(kind.on_change for kind in kinds.values()) else []


def delivering_sensors(kinds: Kinds) -> list[SensorDefinition]:
    return [deliver_due()] if any(kind.on_change for kind in kinds.values()) else []


def deliver_job(kinds: Kinds) -> JobDefinition:
    @op(required_resource_keys={"store"})
    def send_changes(context: OpExecutionContext) -> None:
        with told():
            counts = deliver(context.resources.store.store, kinds)
        context.log.info(", ".join(f"{count:,} {became}" for became, count in sorted(counts.items())) or "nothing due")

    @job(name=DELIVER_JOB, executor_def=in_process_executor)
    def deliver_changes() -> None:
        """Posts the changes of canonical records to the addresses that their kinds' `on_change` names."""
        send_changes()

    return deliver_changes


def deliver_due() -> SensorDefinition:
    @sensor(
        name="deliver_due",
        job_name=DELIVER_JOB,
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Starts one run for all queued changes of kinds with `on_change`.",
        required_resource_keys={"store"},
    )
    def look(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        waiting = context.resources.store.store.deliveries.due()
        if waiting is None:
            yield SkipReason("nothing is due")
        elif context.instance.get_runs_count(RunsFilter(job_name=DELIVER_JOB, statuses=UNFINISHED)):
            yield SkipReason("a run is sending already")
        else:
            yield RunRequest(run_key=f"deliver/{key_time(waiting, datetime.now(UTC))}/{context.cursor or 0}")
            context.update_cursor(str(int(context.cursor or 0) + 1))

    return look
