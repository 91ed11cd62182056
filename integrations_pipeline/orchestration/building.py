"""Everything of a home as one set of definitions. A broken file costs itself, never the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetsDefinition,
    AssetSelection,
    Definitions,
    ScheduleDefinition,
    SensorDefinition,
    in_process_executor,
)

from integrations_pipeline.orchestration.alerting import alerts_sensor
from integrations_pipeline.orchestration.backfills import backfill_jobs
from integrations_pipeline.orchestration.broken import broken_asset
from integrations_pipeline.orchestration.delivering import delivering_jobs, delivering_sensors
from integrations_pipeline.orchestration.describing import MappedStream, kind_key, stream_key
from integrations_pipeline.orchestration.files import Files, load
from integrations_pipeline.orchestration.inbox import has_webhooks, inbox_sensors
from integrations_pipeline.orchestration.jobs import asset_jobs, connection_jobs, receive_job
from integrations_pipeline.orchestration.kinds import kind_asset
from integrations_pipeline.orchestration.outbox import outbox_sensors, push_jobs
from integrations_pipeline.orchestration.outside import outside_sensor
from integrations_pipeline.orchestration.pruning import prune_job, prune_schedule
from integrations_pipeline.orchestration.renewing import renewing_sensors
from integrations_pipeline.orchestration.resources import ClientResource, HomeResource, StoreResource
from integrations_pipeline.orchestration.schedules import schedules_of
from integrations_pipeline.orchestration.sensors import sensors
from integrations_pipeline.orchestration.streams import stream_asset
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import Loaded


def build(home: Home) -> Definitions:
    """Assets, checks, jobs, schedules and sensors of the files as they are now. Opens no database, sends nothing."""
    loaded = load(home)
    files = Files(home, loaded)
    connections = list(loaded.connections.values())
    store = StoreResource(home=HomeResource(path=str(home.root)))
    return Definitions(
        assets=[*stream_assets(loaded), *kind_assets(loaded), *(broken_asset(*one) for one in loaded.broken.items())],
        jobs=jobs(loaded) if connections else [],
        schedules=schedules(connections) if connections else [],
        sensors=all_sensors(loaded, files) if connections else [alerts_sensor(files)] if loaded.broken else [],
        resources={"store": store, "client": ClientResource(store=store)},
        executor=in_process_executor,
    )


def schedules(connections: list[Connection]) -> list[ScheduleDefinition]:
    """Of polls, and the one that takes away what is old."""
    return [*(one for connection in connections for one in schedules_of(connection)), prune_schedule()]


def all_sensors(loaded: Loaded, files: Files) -> list[SensorDefinition]:
    """Of polls, of the inbox, of subscriptions, of the outbox, of `on_change`, and the one that tells people what is
    wrong."""
    connections = loaded.connections
    of_webhooks = [*inbox_sensors(connections), *renewing_sensors(connections)]
    of_changes = [*outbox_sensors(connections, loaded.kinds), *delivering_sensors(loaded.kinds)]
    of_health = [outside_sensor(connections), alerts_sensor(files)]
    return [*sensors(connections), *of_webhooks, *of_changes, *of_health]


def jobs(loaded: Loaded) -> list[Any]:
    """Jobs on assets, and jobs on connections."""
    given = (loaded.connections, loaded.kinds)
    receive = [receive_job(*given)] if has_webhooks(loaded.connections) else []
    on_connections = [*connection_jobs(*given), *backfill_jobs(*given), *receive, *push_jobs(*given)]
    return [*asset_jobs(runnable(loaded)), *on_connections, *delivering_jobs(loaded.kinds), prune_job()]


def runnable(loaded: Loaded) -> AssetSelection:
    """What `sync` may choose from: all but the broken files."""
    streams = [stream_key(c.name, name) for c in loaded.connections.values() for name in c.selected]
    return AssetSelection.assets(*streams, *(kind_key(name) for name in feeders(loaded)))


def stream_assets(loaded: Loaded) -> Iterator[AssetsDefinition]:
    for connection in loaded.connections.values():
        for name in connection.selected:
            yield stream_asset(connection, name, loaded.kinds)


def feeders(loaded: Loaded) -> dict[str, list[MappedStream]]:
    """Kind → the streams that are mapped to it."""
    found: dict[str, list[MappedStream]] = {}
    for connection in loaded.connections.values():
        for name, stream in connection.selected.items():
            if stream.map is not None and stream.map.to in loaded.kinds:
                found.setdefault(stream.map.to, []).append((connection, name))
    return found


def kind_assets(loaded: Loaded) -> Iterator[AssetsDefinition]:
    """A kind that nothing feeds has nothing to show."""
    for name, fed_by in feeders(loaded).items():
        yield kind_asset(loaded.kinds[name], fed_by, loaded.kinds)
