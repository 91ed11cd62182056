"""The job `backfill`: a grid of streams and months. A partitioned job, not partitions on the assets: the UI would ask
for one at each launch, and an old month would make a stale asset look fresh (docs/decisions/0010)."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from dagster import (
    JobDefinition,
    MonthlyPartitionsDefinition,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    OpExecutionContext,
    StaticPartitionsDefinition,
    in_process_executor,
    job,
    op,
)

from integrations_pipeline.orchestration import reporting
from integrations_pipeline.orchestration.streams import NOW_TAG
from integrations_pipeline.orchestration.watching import LoggedProgress
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.sync.backfill import backfill, can_backfill
from integrations_pipeline.sync.result import StreamResult

FIRST_MONTH = "2015-01-01"
MONTHS = MonthlyPartitionsDefinition(start_date=FIRST_MONTH, end_offset=1)


def backfillable(connections: Mapping[str, Connection]) -> Iterator[str]:
    """`connection/stream` of each stream that can be asked for a span of time."""
    for connection in connections.values():
        for name, stream in connection.selected.items():
            if can_backfill(stream):
                yield f"{connection.name}/{name}"


def backfill_jobs(connections: Mapping[str, Connection], kinds: Mapping[str, Kind]) -> list[JobDefinition]:
    """One job for all streams, none where no stream can be backfilled."""
    names = list(backfillable(connections))
    if not names:
        return []

    @op(required_resource_keys={"store", "client"})
    def read_window(context: OpExecutionContext) -> None:
        run_window(context, connections, kinds)

    @job(
        name="backfill",
        partitions_def=MultiPartitionsDefinition({"month": MONTHS, "stream": StaticPartitionsDefinition(names)}),
        executor_def=in_process_executor,
    )
    def backfill_job() -> None:
        """Reads months of the past again, in off-peak hours (the tag integrations/now=true does it at once).

        Choose streams and months. What is newer stays as it is: an older version never overwrites it.
        """
        read_window()

    return [backfill_job]


def run_window(context: OpExecutionContext, connections: Mapping[str, Connection], kinds: Mapping[str, Kind]) -> None:
    """Reads the partition's month of its stream. Raises Failure where it wasn't read to its end."""
    key = context.partition_key
    assert isinstance(key, MultiPartitionKey)
    connection_name, name = key.keys_by_dimension["stream"].split("/")
    month = MONTHS.time_window_for_partition_key(key.keys_by_dimension["month"])
    connection = connections[connection_name]
    try:
        result = backfill(
            connection,
            context.resources.client.of(connection, Priority.BACKFILL),
            context.resources.store.store,
            kinds,
            name,
            month.start,
            month.end,
            now=context.run.tags.get(NOW_TAG) == "true",
            run_id=UUID(context.run.run_id),
            progress=LoggedProgress(context.log),
        )
    except IntegrationError as error:
        raise reporting.failure(error.at(f"{connection_name}/{name}")) from None
    tell(context, result, mapped=connection.streams[name].map is not None)


def tell(context: OpExecutionContext, result: StreamResult, *, mapped: bool) -> None:
    """The counters as metadata of the step. A window not read to its end is a failure: nobody resumes a backfill."""
    numbers: dict[str, Any] = reporting.numbers(result, mapped=mapped)
    if result.error is not None:
        raise reporting.failure(result.error, numbers)
    context.add_output_metadata(numbers)
