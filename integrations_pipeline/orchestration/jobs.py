"""A handful of jobs for all connections: which assets, or which connection, is chosen when a run is launched."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from dagster import (
    AssetMaterialization,
    AssetSelection,
    Config,
    JobDefinition,
    OpExecutionContext,
    define_asset_job,
    in_process_executor,
    job,
    op,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from integrations_pipeline.orchestration.describing import stream_key
from integrations_pipeline.orchestration.reporting import failure, numbers
from integrations_pipeline.orchestration.schedules import SYNC_JOB
from integrations_pipeline.orchestration.streams import FULL_TAG
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.sync.connect import connect, disconnect
from integrations_pipeline.sync.receive import Receiver
from integrations_pipeline.sync.result import StreamResult, iso

FULL_REFRESH_JOB = "full_refresh"
RECEIVE_JOB = "receive"
Connections = Mapping[str, Connection]
Kinds = Mapping[str, Kind]


class Which(Config):
    """Which connection is meant."""

    connection: str


class Leaving(Which):
    """Which connection is stopped, and whether its data stay."""

    keep_data: bool = True


def asset_jobs(selection: AssetSelection) -> list[UnresolvedAssetJobDefinition]:
    """`sync` reads what is new, `full_refresh` everything again. One process per run: a step costs seconds to start."""
    return [
        define_asset_job(
            SYNC_JOB,
            selection,
            description="Pulls what is new, checks it, shapes it. Choose the streams when launching.",
            executor_def=in_process_executor,
        ),
        define_asset_job(
            FULL_REFRESH_JOB,
            selection,
            description="Reads everything again, where `off_peak` allows; what the source no longer holds is deleted. "
            "The tag integrations/now=true does it at once.",
            executor_def=in_process_executor,
            tags={FULL_TAG: "true"},
        ),
    ]


def connection_jobs(connections: Connections, kinds: Kinds) -> list[JobDefinition]:
    """`connect` and `disconnect`, the connection named in the run's configuration."""

    @op(required_resource_keys={"store", "client"})
    def prove_and_prepare(context: OpExecutionContext, config: Which) -> None:
        chosen = named(connections, config.connection)
        with told():
            client = context.resources.client.of(chosen, Priority.USER)
            connect(chosen, client, context.resources.store.store, kinds)
        context.log.info(f"{chosen.name} is connected: {', '.join(chosen.selected)}")

    @op(required_resource_keys={"store", "client"})
    def stop(context: OpExecutionContext, config: Leaving) -> None:
        chosen = named(connections, config.connection)
        with told():
            disconnect(
                chosen.name,
                context.resources.store.store,
                keep_data=config.keep_data,
                reach=lambda: nullcontext((chosen, context.resources.client.of(chosen, Priority.USER))),
            )
        context.log.info(f"{chosen.name} is disconnected, its data {'kept' if config.keep_data else 'dropped'}")

    @job(name="connect", executor_def=in_process_executor)
    def connect_job() -> None:
        """Tests a connection's credentials, prepares its tables, lets its streams run, and subscribes its webhook."""
        prove_and_prepare()

    @job(name="disconnect", executor_def=in_process_executor)
    def disconnect_job() -> None:
        """Stops a connection and ends its subscriptions. Its data stay unless told otherwise."""
        stop()

    return [connect_job, disconnect_job]


def receive_job(connections: Connections, kinds: Kinds) -> JobDefinition:
    """One job for all connections: a run applies all that waits in the inbox for one of them."""

    @op(required_resource_keys={"store", "client"})
    def apply_events(context: OpExecutionContext, config: Which) -> None:
        chosen = named(connections, config.connection)
        with told():
            client = context.resources.client.of(chosen, Priority.EVENT)
            received = Receiver(chosen, client, context.resources.store.store, kinds).run(UUID(context.run.run_id))
        for name, result in received.streams.items():
            tell_stream(context, chosen, name, result)
        context.add_output_metadata({"status": received.status, **received.events})
        failed = [one.error for one in received.streams.values() if one.status == "failed" and one.error is not None]
        if failed:
            raise failure(failed[0], dict(received.events))

    @job(name=RECEIVE_JOB, executor_def=in_process_executor)
    def receive_events() -> None:
        """Applies the events that wait in a connection's inbox. The sensor `inbox` starts it."""
        apply_events()

    return receive_events


def tell_stream(context: OpExecutionContext, connection: Connection, name: str, result: StreamResult) -> None:
    """A materialization with the counters where events changed rows; one put off says until when."""
    if result.resume_at is not None:
        context.log.info(f"{name}: put off until {iso(result.resume_at)}: {result.error}")
    if result.counters.fetched:
        counted = numbers(result, mapped=connection.streams[name].map is not None)
        context.log_event(AssetMaterialization(stream_key(connection.name, name), metadata=counted))


class told:  # noqa: N801 - reads as a word of the block it opens
    """Turns our errors into Dagster's, with who must act."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, IntegrationError):
            raise failure(error) from None


def named(connections: Connections, name: str) -> Connection:
    """Raises Failure for a name that is no connection's."""
    if name not in connections:
        raise failure(ConfigError(f"there is no connection {name}", next=f"choose of: {', '.join(connections)}"))
    return connections[name]
