"""The asset of a stream: its landed raw records, pulled and shaped by the same verb as in the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    MaterializeResult,
    asset,
)

from integrations_pipeline.client.redaction import redactor
from integrations_pipeline.orchestration import reporting
from integrations_pipeline.orchestration.describing import (
    icons,
    pool_of,
    stream_description,
    stream_key,
    stream_metadata,
    tags_of,
)
from integrations_pipeline.orchestration.tabulating import SAMPLES, sample_table
from integrations_pipeline.orchestration.watching import LoggedProgress
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.conflicts import counted
from integrations_pipeline.store.health import streams_health
from integrations_pipeline.store.profiles import open_findings
from integrations_pipeline.store.reports import open_quarantine, rejected_rules
from integrations_pipeline.store.stored import live_records
from integrations_pipeline.sync.expecting import judged
from integrations_pipeline.sync.result import StreamResult, iso
from integrations_pipeline.sync.run import sync

FULL_TAG = "integrations/full"
"""On a run: read everything again. With NOW_TAG also outside the off-peak hours."""
NOW_TAG = "integrations/now"
DEFERRED_TAG = "integrations/deferred"
"""Put on a run that deferred a stream: which one, and until when."""

Events = Iterator[MaterializeResult[None] | AssetCheckResult]


def stream_asset(connection: Connection, name: str, kinds: Mapping[str, Kind]) -> AssetsDefinition:
    """One op that syncs one stream. It yields no materialization where the stream was deferred."""
    stream, key = connection.streams[name], stream_key(connection.name, name)
    parent = stream.parent_stream

    @asset(
        key=key,
        group_name=connection.name,
        deps=[stream_key(connection.name, parent)] if parent in connection.selected else [],
        description=stream_description(connection, name, stream),
        owners=[connection.owner] if connection.owner else [],
        kinds=icons(connection),
        tags=tags_of(connection),
        metadata=stream_metadata(connection, name, stream),
        check_specs=[
            *reporting.check_specs(key),
            *reporting.conflict_specs(key, stream),
            *reporting.expectation_specs(key, connection, name),
        ],
        freshness_policy=reporting.freshness_policy([connection.expect.fresh_within]),
        pool=pool_of(connection.name, name),
        required_resource_keys={"store", "client"},
        output_required=False,
    )
    def synced(context: AssetExecutionContext):  # type: ignore[no-untyped-def]  # Dagster reads annotations
        yield from run_stream(context, connection, name, kinds)

    return synced


def run_stream(context: AssetExecutionContext, connection: Connection, name: str, kinds: Mapping[str, Kind]) -> Events:
    """Syncs the stream and tells what became of it. Raises Failure where somebody must act."""
    key = stream_key(connection.name, name)
    result = synced_stream(context, connection, name, kinds)
    breaker = context.resources.store.store.breakers([connection])[connection.name]
    mapped = connection.streams[name].map is not None
    numbers = {**reporting.numbers(result, mapped=mapped), **reporting.breaker_state(breaker)}
    context.log.info(f"{name}: {result.status}, {said(result)}")
    if result.status == "failed" and result.error is not None:
        raise reporting.failure(result.error, numbers)
    yield reporting.counts_balance(key, result)
    yield rejected(context, connection, name)
    yield drifted(context, connection, name)
    if connection.streams[name].write is not None:
        yield undecided(context, connection, name)
    yield from expected(context, connection, name)
    if result.status == "deferred" and result.error is not None:
        defer(context, connection, name, result, numbers)
        return
    yield MaterializeResult(metadata={**numbers, **sampled(context, connection, name)})


def synced_stream(
    context: AssetExecutionContext, connection: Connection, name: str, kinds: Mapping[str, Kind]
) -> StreamResult:
    """One stream of the verb `sync`, under Dagster's run id."""
    full = context.run.tags.get(FULL_TAG) == "true"
    try:
        client = context.resources.client.of(connection, Priority.BACKFILL if full else Priority.POLL)
        result = sync(
            connection,
            client,
            context.resources.store.store,
            kinds,
            streams=[name],
            full=full,
            now=context.run.tags.get(NOW_TAG) == "true",
            run_id=UUID(context.run.run_id),
            progress=LoggedProgress(context.log),
        )
    except IntegrationError as error:
        raise reporting.failure(error.at(f"{connection.name}/{name}")) from None
    return result.streams[0]


def said(result: StreamResult) -> str:
    """The counters that aren't zero."""
    counts = [f"{count:,} {word}" for word, count in result.counters.as_dict().items() if count]
    return ", ".join(counts) or "nothing new"


def rejected(context: AssetExecutionContext, connection: Connection, name: str) -> AssetCheckResult:
    with context.resources.store.store.borrow() as session:
        rules = rejected_rules(session, connection.name, name, UUID(context.run.run_id))
        open_rows = open_quarantine(session, connection.name, name)
    return reporting.rows_rejected(stream_key(connection.name, name), rules, open_rows)


def drifted(context: AssetExecutionContext, connection: Connection, name: str) -> AssetCheckResult:
    with context.resources.store.store.borrow() as session:
        findings = open_findings(session, connection.name, name)
    return reporting.drift(stream_key(connection.name, name), findings)


def undecided(context: AssetExecutionContext, connection: Connection, name: str) -> AssetCheckResult:
    with context.resources.store.store.borrow() as session:
        found = {(one, stream): count for one, stream, count in counted(session)}
    return reporting.conflicts_open(stream_key(connection.name, name), found.get((connection.name, name), 0))


def expected(context: AssetExecutionContext, connection: Connection, name: str) -> Iterator[AssetCheckResult]:
    with context.resources.store.store.borrow() as session:
        (health,) = streams_health(session, [(connection.name, name)])
    for verdict in judged(connection, health):
        yield reporting.expectation(stream_key(connection.name, name), verdict)


def sampled(context: AssetExecutionContext, connection: Connection, name: str) -> dict[str, Any]:
    """A few of the records held, so that people see what they look like."""
    store = context.resources.store
    with store.store.borrow() as session:
        records = live_records(session, connection.name, name, SAMPLES)
    return sample_table(connection.streams[name], records, redactor(connection.name, store.home.home()))


def defer(
    context: AssetExecutionContext, connection: Connection, name: str, result: StreamResult, numbers: dict[str, Any]
) -> None:
    """Neither a success nor a failure (docs/decisions/0009): an observation says how far it came, and until when."""
    assert result.error is not None
    until = iso(result.resume_at)
    context.log.warning(f"{name}: deferred until {until}: {result.error}")
    context.log_event(
        AssetObservation(
            asset_key=stream_key(connection.name, name),
            description=f"deferred until {until}: {result.error.what}",
            metadata={**reporting.told(result.error), **numbers},
        )
    )
    context.instance.add_run_tags(context.run.run_id, {DEFERRED_TAG: f"{connection.name}/{name} until {until}"})
