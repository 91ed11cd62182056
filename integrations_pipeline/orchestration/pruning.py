"""Retention on Dagster: each night what is over and old is taken away."""

from dagster import (
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from integrations_pipeline.orchestration.jobs import told
from integrations_pipeline.store.pruning import prune

PRUNE_JOB = "prune"
NIGHT = "40 3 * * *"


def prune_job() -> JobDefinition:
    @op(required_resource_keys={"store"})
    def take_away(context: OpExecutionContext) -> None:
        with told(), context.resources.store.store.borrow() as session:
            taken = {table: count for table, count in prune(session).items() if count}
        context.log.info(
            ", ".join(f"{count:,} of {table}" for table, count in taken.items()) or "nothing is old enough"
        )
        context.add_output_metadata(taken)

    @job(name=PRUNE_JOB, executor_def=in_process_executor)
    def prune_what_is_old() -> None:
        """Takes away what is over and older than the limits say. Nothing that is open ever goes."""
        take_away()

    return prune_what_is_old


def prune_schedule() -> ScheduleDefinition:
    """At night, in UTC."""
    return ScheduleDefinition(
        name=PRUNE_JOB,
        job_name=PRUNE_JOB,
        cron_schedule=NIGHT,
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Takes away what is over and older than the limits say (docs/logging.md).",
    )
