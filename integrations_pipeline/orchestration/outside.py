"""Streams read without a run of Dagster: by a question answered with "nothing new", or in the terminal.

Dagster's freshness and plots know materializations only, so it is told of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DefaultSensorStatus,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from integrations_pipeline.orchestration.describing import kind_key, stream_key
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.reports import ReadStream, read_since

SECONDS = 30
LOOK_BACK = timedelta(hours=1)
"""How far the first tick looks."""

Connections = Mapping[str, Connection]


def outside_sensor(connections: Connections) -> SensorDefinition:
    @sensor(
        name="read_outside_runs",
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Tells Dagster of streams that were read without one of its runs, in the terminal or by a question "
        "whose answer was that nothing is new: else their freshness would be judged by its runs only.",
        required_resource_keys={"store"},
    )
    def evaluate(context: SensorEvaluationContext) -> SensorResult:
        since = datetime.fromisoformat(context.cursor) if context.cursor else datetime.now(UTC) - LOOK_BACK
        with context.resources.store.store.borrow() as session:
            read = read_since(session, since)
        events = list(told(outside(context.instance, read), connections))
        return SensorResult(
            skip_reason=None if events else SkipReason("all that was read, was read by Dagster's runs"),
            asset_events=events,
            cursor=read[-1].last_success.isoformat() if read else context.cursor,
        )

    return evaluate


def outside(instance: DagsterInstance, read: list[ReadStream]) -> Iterator[ReadStream]:
    """Those whose run Dagster doesn't know."""
    ids = sorted({str(one.run_id) for one in read})
    known = {run.run_id for run in instance.get_runs(RunsFilter(run_ids=ids))} if ids else set()
    return (one for one in read if str(one.run_id) not in known)


def told(read: Iterator[ReadStream], connections: Connections) -> Iterator[AssetMaterialization]:
    """Of each stream with its numbers, and of the kinds they feed, which were shaped with them."""
    kinds: set[str] = set()
    for one in read:
        stream = connections[one.connection].selected.get(one.stream) if one.connection in connections else None
        if stream is not None:
            counts = {name: count for name, count in vars(one).items() if isinstance(count, int)}
            words = "read without a run of Dagster"
            yield AssetMaterialization(stream_key(one.connection, one.stream), description=words, metadata=counts)
            kinds |= {stream.map.to} if stream.map else set()
    for kind in sorted(kinds):
        yield AssetMaterialization(kind_key(kind), description="shaped without a run of Dagster")
