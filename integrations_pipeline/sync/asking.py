"""Asking a source whether anything is new, where that costs one request and no row (`probe`, answered by a 304)."""

from __future__ import annotations

from uuid import UUID

from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lease import Lease, take_lease
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.listing import asked_of, plan
from integrations_pipeline.sync.lists import probe_for, sendable


def can_be_asked(stream: Stream) -> bool:
    """Whether the source can say that nothing is new since the watermark."""
    return stream.probe is not None and stream.cursor is not None and stream.parent_stream is None


def anything_new(
    connection: Connection, name: str, client: Client, store: Store, run_id: UUID, clock: Clock | None = None
) -> bool:
    """False where the source answered 304: that is logged as a run without rows, and counts as a success.

    True where a sync is needed to know, or to tell what is wrong: nothing was read yet, a list is under way, the
    source can't be reached, another run has the stream.
    """
    clock = clock or SystemClock()
    try:
        with take_lease(store.connect, connection.name, name, run_id) as lease:
            return not nothing_new(lease, connection, name, client, clock)
    except IntegrationError:
        return True


def nothing_new(lease: Lease, connection: Connection, name: str, client: Client, clock: Clock) -> bool:
    """Asks with the validator of the last complete read, under the stream's lease."""
    stream, state = connection.streams[name], lease.state()
    listing = plan(stream, state, full=False, now=clock.now(), asked=asked_of(connection, stream))
    validator = probe_for(state.probe, listing)
    if state.bookmark is not None or listing.mode == "full" or validator is None:
        return False
    asked, began = client.meter.requests, clock.now()
    pages = client.pages(name, since=sendable(stream, listing.since), probe=validator)
    try:
        first = next(pages, None)
    finally:
        pages.close()  # type: ignore[attr-defined]
    if first is None or not first.not_modified:
        return False
    lease.start_run("incremental", began)
    lease.finish_run("succeeded", requests=client.meter.requests - asked)
    return True
