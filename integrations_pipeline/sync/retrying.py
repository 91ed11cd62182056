"""Quarantine heals itself: open rows go through the boundary and the mapping again, from what is stored of them.

The source is asked nothing. A row lands with the version it had when it was set aside, so that it never overwrites a
newer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from integrations_pipeline.boundary import Boundary, rules_digest
from integrations_pipeline.boundary.outcome import Rejected, Split
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lease import Lease, take_lease
from integrations_pipeline.store.quarantined import open_ids
from integrations_pipeline.store.retrying import Again, OpenRow, discard, land_again, open_rows
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.shape import shape


@dataclass(frozen=True)
class Retried:
    """Of the rows that were open: how many no longer are, and how many still."""

    healed: int = 0
    still_open: int = 0


def retry(
    connection: Connection,
    name: str,
    store: Store,
    kinds: Mapping[str, Kind],
    run_id: UUID,
    ids: Sequence[int] | None = None,
) -> Retried:
    """The verb `quarantine retry`: tries a stream's open rows again, those with the ids or all, and shapes what landed.

    Raises LeaseHeld while another run syncs the stream, ConfigError where it is stopped.
    """
    store.refuse_stopped(connection)
    store.prepare(connection, kinds)
    stream = connection.streams[name]
    with take_lease(store.connect, connection.name, name, run_id) as lease:
        before = open_count(lease, ids)
        retry_rows(lease, stream, ids)
        if stream.map is not None:
            shape(lease, stream, kinds[stream.map.to], retry=ids)
        after = open_count(lease, ids)
    return Retried(before - after, after)


def open_count(lease: Lease, ids: Sequence[int] | None) -> int:
    with lease.reading() as session:
        found = open_ids(session, lease.connection, lease.stream)
    return len(found if ids is None else found & set(ids))


def discard_rows(
    connection: str, name: str, store: Store, run_id: UUID, reason: str, ids: Sequence[int] | None = None
) -> int:
    """The verb `quarantine discard`: closes open rows for good, each with a decision. Returns how many.

    Raises LeaseHeld while another run syncs the stream: it might be setting aside a newer version at that moment.
    """
    with take_lease(store.connect, connection, name, run_id) as lease:
        return discard(lease, ids, reason)


def heal_after_edit(lease: Lease, stream: Stream) -> int:
    """Tries all open rows of the boundary again, once after each edit of its rules. Returns how many came in."""
    today = rules_digest(stream)
    if lease.state().boundary_hash == today:
        return 0
    healed = retry_rows(lease, stream, None)
    lease.apply_state(StateChange(boundary_hash=today))
    return healed


def retry_rows(lease: Lease, stream: Stream, ids: Sequence[int] | None) -> int:
    """Open rows of the boundary once more, those read together as one call, as they were. Returns how many came in."""
    desc = stream.cursor is not None and stream.cursor.order == "desc"
    boundary = Boundary(lease.connection, lease.stream, lenient(stream), desc=desc)
    healed = 0
    for batch in open_rows(lease, ids, limit=CHUNK_RECORDS):
        for read_at, rows in groupby(batch, key=lambda row: row.read_at):
            healed += land_again(lease, judged_again(boundary, list(rows), read_at))
    return healed


def lenient(stream: Stream) -> Stream:
    """The stream with a contract that rejects rows, but never stops: these are the bad ones, after all."""
    contract = stream.contract
    softer: dict[str, Any] = {"stop_above": 100.0}
    if contract.bad_value == "freeze":
        softer["bad_value"] = "quarantine"
    if contract.new_field == "freeze":
        softer["new_field"] = "quarantine"
    return stream.model_copy(update={"contract": contract.model_copy(update=softer)})


def judged_again(boundary: Boundary, rows: list[OpenRow], read_at: datetime) -> Again:
    """Today's verdict on rows that were read together: a row that is neither good nor bad needs no place any more."""
    payloads = [decode(row.payload.encode()) for row in rows]
    skip = boundary.stream.skip
    kept = [n for n, payload in enumerate(payloads) if not (skip and isinstance(payload, dict) and skip.holds(payload))]
    split = boundary.split([payloads[n] for n in kept], read_at)
    bad = {rows[kept[at]].id: one.reasons for at, one in rejected_at(split)}
    good = {one.external_id: rows[kept[at]] for one, at in zip(split.good, split.positions, strict=True)}
    waiting = {row.id for row in good.values()} | bad.keys()
    return Again(
        read_at=read_at,
        good=[row[:5] for row in split.good],
        ids={key: row.id for key, row in good.items()},
        done=[row.id for row in rows if row.id not in waiting],
        bad=bad,
        parent_keys={key: row.parent_key for key, row in good.items() if row.parent_key is not None},
        desc=boundary.desc,
    )


def rejected_at(split: Split) -> list[tuple[int, Rejected]]:
    return list(zip(split.rejected_positions, split.rejected, strict=True))
