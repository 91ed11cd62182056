"""The asset of a kind: the team's own records, fed by every stream that is mapped to it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, asset

from integrations_pipeline.orchestration.describing import (
    MappedStream,
    kind_key,
    kind_metadata,
    lineage,
    stream_key,
)
from integrations_pipeline.orchestration.reporting import failure, freshness_policy
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.errors import IntegrationError, LeaseHeld
from integrations_pipeline.store.reports import kind_held
from integrations_pipeline.store.shaping import ShapeCounters
from integrations_pipeline.sync.reshape import reshape


def kind_asset(kind: Kind, feeders: Sequence[MappedStream], kinds: Mapping[str, Kind]) -> AssetsDefinition:
    """One op that shapes what its streams' own runs left unshaped, and says how the kind stands."""

    @asset(
        key=kind_key(kind.kind),
        group_name="canonical",
        deps=[stream_key(connection.name, name) for connection, name in feeders],
        description=kind_description(kind, feeders),
        kinds={"table", "postgresql"},
        metadata=kind_metadata(kind, feeders),
        freshness_policy=freshness_policy(connection.expect.fresh_within for connection, _ in feeders),
        required_resource_keys={"store"},
    )
    def shaped(context: AssetExecutionContext) -> MaterializeResult[None]:
        return run_kind(context, kind, feeders, kinds)

    return shaped


def kind_description(kind: Kind, feeders: Sequence[MappedStream]) -> str:
    fed = ", ".join(f"`{connection.name}/{name}`" for connection, name in feeders)
    text = kind.description or f"Records of the kind {kind.kind}."
    return f"{text}\n\nOne row per record, whichever system it came from. Fed by {fed}."


def run_kind(
    context: AssetExecutionContext, kind: Kind, feeders: Sequence[MappedStream], kinds: Mapping[str, Kind]
) -> MaterializeResult[None]:
    """A stream's own run shapes what it lands; left are an edited mapping, and what an interrupted run had landed."""
    store = context.resources.store.store
    shaped = ShapeCounters()
    for connection, name in feeders:
        try:
            counters = reshape(connection, name, store, kinds, UUID(context.run.run_id))
        except LeaseHeld:
            context.log.info(f"{connection.name}/{name} is being synced by another run, which shapes it")
            continue
        except IntegrationError as error:
            raise failure(error.at(f"{connection.name}/{name}")) from None
        if any(counters.as_dict().values()):
            context.log.info(f"{connection.name}/{name}: shaped what was left: {counters.as_dict()}")
        shaped = shaped + counters
    return MaterializeResult(metadata=standing(context, kind, feeders, shaped))


def standing(
    context: AssetExecutionContext, kind: Kind, feeders: Sequence[MappedStream], shaped: ShapeCounters
) -> dict[str, Any]:
    """Numbers to plot, and the columns' lineage, which the UI reads from the latest materialization.

    ``shaped here`` are records that no stream's own run had shaped.
    """
    with context.resources.store.store.borrow() as session:
        live, deleted = kind_held(session, kind.kind)
    return {
        "dagster/row_count": live,
        "deleted records": deleted,
        "shaped here": sum(shaped.as_dict().values()) - shaped.unchanged,
        "dagster/column_lineage": lineage(feeders),
    }
