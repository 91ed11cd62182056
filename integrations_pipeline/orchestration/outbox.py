"""The sensor `outbox` and the job `push`: where changes made here wait, one run sends all of a connection's.

Our own outbox is the truth: a run that dies leaves its changes, which are settled once its lease on them has ended. The
sensor itself finds edits, which is SQL alone, so that a run starts only where something is to be sent.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

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

from integrations_pipeline.orchestration.jobs import Which, named, tell_stream, told
from integrations_pipeline.orchestration.reporting import failure
from integrations_pipeline.orchestration.schedules import REASON_TAG, UNFINISHED
from integrations_pipeline.spec.cautions import creating_nothing
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import Deferred, DestinationError
from integrations_pipeline.spec.lines import logger
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.outgoing import due_pushes, unmerged
from integrations_pipeline.store.reports import stream_clocks
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.merge import declared, merge
from integrations_pipeline.sync.push import push
from integrations_pipeline.sync.result import iso

PUSH_JOB = "push"
CHANGES_TAG = "integrations/changes"
"""On a run: whose changes it sends. Not the tag of polls, which would wait for it."""

URGENT = {"dagster/priority": "10"}
"""Before polls, where runs queue."""

LOOK_SECONDS = 5
AGAIN_SECONDS = 600
"""When a run that came to nothing is asked for again."""

MERGED_AT_ONCE = 2_000
"""More edits than a tick has time to compare are left to a run."""

log = logger()

Connections = Mapping[str, Connection]
Kinds = Mapping[str, Kind]


def writing(connections: Connections) -> dict[str, Connection]:
    return {name: one for name, one in connections.items() if any(stream.write for stream in one.selected.values())}


def outbox_sensors(connections: Connections, kinds: Kinds) -> list[SensorDefinition]:
    """One for all connections together; none where no connection writes."""
    return [outbox_sensor(connections, kinds)] if writing(connections) else []


def push_jobs(connections: Connections, kinds: Kinds) -> list[JobDefinition]:
    return [push_job(connections, kinds)] if writing(connections) else []


def push_job(connections: Connections, kinds: Kinds) -> JobDefinition:
    """One job for all connections: a run sends all that waits for one of them."""
    rivals = creating_nothing(connections.values())

    @op(required_resource_keys={"store", "client"})
    def send_changes(context: OpExecutionContext, config: Which) -> None:
        chosen = named(connections, config.connection)
        with told():
            client = context.resources.client.of(chosen, Priority.EVENT)
            without = rivals.get(chosen.name, ())
            parts = (chosen, client, context.resources.store.store, kinds)
            result = push(*parts, rivals=without, run_id=UUID(context.run.run_id))
        for name, stream in result.streams.items():
            tell_stream(context, chosen, name, stream)
        counts = {became: count for became, count in result.changes.items() if count}
        context.add_output_metadata({"status": result.status, "landed": result.landed, **counts})
        if counts.keys() & {"dead", "parked"}:
            context.log.warning(f"{counts}: see `integrations outbox list {chosen.name}`")
        if isinstance(result.error, Deferred):
            context.log.info(f"put off until {iso(result.resume_at)}: {result.error}")
        elif result.error is not None:
            raise failure(result.error, counts)

    @job(name=PUSH_JOB, executor_def=in_process_executor)
    def push_changes() -> None:
        """Sends what was changed here to a connection's source. The sensor `outbox` starts it."""
        send_changes()

    return push_changes


def outbox_sensor(connections: Connections, kinds: Kinds) -> SensorDefinition:
    @sensor(
        name="outbox",
        job_name=PUSH_JOB,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Looks for edits made here and changes that wait in the outbox, and starts one run per connection "
        "that sends them all.",
        required_resource_keys={"store"},
    )
    def evaluate(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        requests = list(due_runs(context, connections, kinds))
        yield from requests
        if not requests:
            yield SkipReason("nothing is to be sent, or a run sends it already")

    return evaluate


def due_runs(context: SensorEvaluationContext, connections: Connections, kinds: Kinds) -> Iterator[RunRequest]:
    """One run for each connection with something to send, unless one is under way, it is disconnected, or its source is
    down."""
    store: Store = context.resources.store.store
    able = able_to_send(store, writing(connections))
    rivals = creating_nothing(connections.values())
    many = [name for name, one in able.items() if not looked_at(store, one, kinds, rivals.get(name, ()))]
    with store.borrow() as session:
        marks = {name: mark for name, _, mark in due_pushes(session)}
    for name in able:
        if (name in marks or name in many) and not context.instance.get_runs_count(sending(name)):
            yield run_for(name, marks.get(name, "edits"))


def able_to_send(store: Store, connections: Connections) -> dict[str, Connection]:
    now = datetime.now(UTC)
    with store.borrow() as session:
        clocks = stream_clocks(
            session, ((name, stream) for name, one in connections.items() for stream in one.selected)
        )
    stopped = {clock.connection for clock in clocks if not clock.may_run(now)}
    return {name: one for name, one in connections.items() if name not in stopped}


def looked_at(store: Store, connection: Connection, kinds: Kinds, rivals: Collection[str]) -> bool:
    """As ``merged``. What goes wrong is left to the connection's run, which tells it: the others go on."""
    try:
        return merged(store, connection, kinds, rivals)
    except DestinationError:
        raise
    except Exception:
        log.exception("edits can't be looked at", connection=connection.name)
        return False


def merged(store: Store, connection: Connection, kinds: Kinds, rivals: Collection[str]) -> bool:
    """Finds a connection's edits, stream by stream. False where they are too many for a tick."""
    for name, stream in connection.selected.items():
        if stream.write is None or stream.map is None or stream.map.to not in kinds:
            continue
        digest = declared(stream, name not in rivals)
        with store.borrow() as session:
            waiting = unmerged(session, connection.name, name, stream.map.to, digest, limit=MERGED_AT_ONCE)
        if waiting >= MERGED_AT_ONCE:
            return False
        if waiting:
            merge(connection, store, kinds, streams=[name], rivals=rivals)
    return True


def sending(connection: str) -> RunsFilter:
    return RunsFilter(tags={CHANGES_TAG: connection}, statuses=UNFINISHED)


def run_for(connection: str, mark: str) -> RunRequest:
    """The key names the oldest change and its try, so that two ticks don't ask twice for the same work."""
    return RunRequest(
        run_key=f"outbox/{connection}/{mark}/{int(time.time() // AGAIN_SECONDS)}",
        run_config={"ops": {"send_changes": {"config": {"connection": connection}}}},
        tags={CHANGES_TAG: connection, REASON_TAG: "changes", **URGENT},
    )
