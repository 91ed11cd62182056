"""Asking a source whether anything is new, where that costs one request and no row: `probe`, a 304 or a count of 0."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.streams import Count, Stream
from integrations_pipeline.store.lease import Lease, take_lease
from integrations_pipeline.store.state import StreamState
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.counting import counted_from
from integrations_pipeline.sync.deletions import feed_of
from integrations_pipeline.sync.listing import Listing, asked_of, plan
from integrations_pipeline.sync.lists import probe_for, sendable


def can_be_asked(stream: Stream) -> bool:
    """Whether the source can say that nothing is new since the watermark; a feed of deletions must be read to know."""
    if feed_of(stream) is not None:
        return False
    return stream.probe is not None and stream.cursor is not None and stream.parent_stream is None


def anything_new(
    connection: Connection, name: str, client: Client, store: Store, run_id: UUID, clock: Clock | None = None
) -> bool:
    """False where the source says that nothing is: that is logged as a run without rows, and counts as a success.

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
    """Asks under the stream's lease, where a list was read to its end that the answer can be about."""
    stream, state = connection.streams[name], lease.state()
    listing = plan(stream, state, full=False, now=clock.now(), asked=asked_of(connection, stream))
    if state.bookmark is not None or listing.mode == "full" or grows_old(stream, listing, clock):
        return False
    asked, began = client.meter.requests, clock.now()
    quiet = counted if isinstance(stream.probe, Count) else not_modified
    if not quiet(name, stream, state, listing, client):
        return False
    lease.start_run("incremental", began)
    lease.finish_run("succeeded", requests=client.meter.requests - asked)
    return True


def grows_old(stream: Stream, listing: Listing, clock: Clock) -> bool:
    """Whether a run must move the watermark on, before the source has forgotten it (`retention`)."""
    kept = stream.cursor.retention if stream.cursor else None
    return kept is not None and isinstance(listing.since, datetime) and listing.since < clock.now() - kept * 0.75


def not_modified(name: str, stream: Stream, state: StreamState, listing: Listing, client: Client) -> bool:
    """Asks for the list with the validator of the last complete read."""
    validator = probe_for(state.probe, listing)
    if validator is None:
        return False
    pages = client.pages(name, since=sendable(stream, listing.since), probe=validator)
    try:
        first = next(pages, None)
    finally:
        pages.close()  # type: ignore[attr-defined]
    return first is not None and first.not_modified


def counted(name: str, stream: Stream, state: StreamState, listing: Listing, client: Client) -> bool:
    """Asks how many records there are past the watermark, once all that may come late has been read."""
    begin = counted_from(state.probe)
    return begin is not None and client.count(name, sendable(stream, begin)) == 0
