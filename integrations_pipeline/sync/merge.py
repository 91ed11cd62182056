"""Merge: edits made here, and records that other connections brought, into the outbox of each stream that writes them.

Asks no source anything. What a source says meanwhile is merged where it is shaped (``store.merging``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.agreed import writeback_of
from integrations_pipeline.store.changes import Finding, Queued
from integrations_pipeline.store.store import Store


@dataclass
class MergeResult:
    """By stream, what was queued."""

    queued: dict[str, Queued] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(one.creates + one.updates + one.deletes for one in self.queued.values())


def merge(
    connection: Connection,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    streams: Iterable[str] = (),
    rivals: Collection[str] = (),
    run_id: UUID | None = None,
) -> MergeResult:
    """Queues what differs from what was agreed with the source, for each stream that writes (or the named ones).

    Idempotent, and one transaction per stream. ``rivals``: streams that create nothing, since another connection also
    creates records of their kind and they don't say when (``creating_nothing``). Raises DestinationError.
    """
    chosen, result = list(streams), MergeResult()
    for name, stream in connection.selected.items():
        if stream.write is not None and (not chosen or name in chosen):
            result.queued[name] = look(connection.name, name, stream, store, kinds, name not in rivals, run_id)
    return result


def look(
    connection: str,
    name: str,
    stream: Stream,
    store: Store,
    kinds: Mapping[str, Kind],
    creates: bool,
    run_id: UUID | None,
) -> Queued:
    """One stream's edits into the outbox."""
    writeback = writeback_of(stream)
    assert stream.write is not None and stream.map is not None and writeback is not None
    kind, condition = kinds[stream.map.to], stream.write.create_when
    digest = declared(stream, creates)
    writeback = writeback if creates else writeback.without_creates()
    with store.borrow() as session, session.transaction():
        return Finding(session, connection, name, kind, writeback, condition, digest, run_id).queue()


def declared(stream: Stream, creates: bool) -> str:
    """Of all that decides what is written; where it changes, every record is compared anew."""
    parts = (repr(stream.write), repr(stream.map and stream.map.fields), creates)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
