"""Landing what a source said in reply to our own requests: answers to writes, and records that were read again.

They pass the boundary and the version fence like the records of events, under the stream's lease. The link knows them
already, so shape finds them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from integrations_pipeline.boundary import Landing as Accepted
from integrations_pipeline.boundary import Split
from integrations_pipeline.boundary.outcome import digest
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.store import outbox
from integrations_pipeline.store.deleting import FeedOrder
from integrations_pipeline.store.fencing import Known, known_records
from integrations_pipeline.store.landing import Chunk, Counters
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.store.shaping import ShapeCounters
from integrations_pipeline.sync.declared import rows_edited
from integrations_pipeline.sync.fence import State, may_say, version_to_land
from integrations_pipeline.sync.shape import shape
from integrations_pipeline.sync.written import WrittenStream, moment_text

GONE = "it is no longer at the source"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the source said of one record, and when: the record, or None where it is gone."""

    external_id: str
    record: dict[str, Any] | None
    at: datetime


@dataclass
class Landed:
    """``answers``: how many changes are done by it."""

    answers: int = 0
    counters: Counters = field(default_factory=Counters)
    shaped: ShapeCounters = field(default_factory=ShapeCounters)


def land_answers(lease: Lease, to: WrittenStream) -> Landed:
    """Lands all answers that wait for the stream, and shapes them. The run is in the log. Raises LeaseHeld."""
    landed = Landed()
    while True:
        with lease.reading() as session:
            changes = outbox.answered(session, lease.connection, lease.stream, CHUNK_RECORDS)
        if not changes:
            break
        ids = [one.id for one in changes]
        replies = [
            Reply(one.external_id or "", None if one.operation == "delete" else one.answer, one.answered_at)
            for one in changes
            if one.answered_at is not None and (one.operation == "delete" or one.answer is not None)
        ]
        landed.counters += land_replies(lease, to, replies, partial(outbox.mark_landed, ids=ids))
        landed.answers += len(ids)
    if landed.answers:
        landed.shaped += shape(lease, to.stream, to.kind)
    return landed


def land_replies(
    lease: Lease, to: WrittenStream, replies: Sequence[Reply], then: Callable[[Any], None] | None = None
) -> Counters:
    """``then`` is done in the transaction of the last rows. Raises LeaseHeld, and nothing is written."""
    state = lease.state()
    if rows_edited(to.stream, state):
        raise LeaseHeld("the stream's key or order was edited: the next sync reads it anew first")
    known = known_records(lease, sorted({one.external_id for one in replies}))
    gone = [one for one in replies if one.record is None]
    counters = Counters()
    if gone:
        counters += lease.commit_chunk(tombstones(to, gone, known))
    said = [one for one in replies if one.record is not None]
    chunk = records(to, said, known)
    chunk.refresh_id, chunk.then = state.refresh_id, then
    return counters + lease.commit_chunk(chunk)


def tombstones(to: WrittenStream, gone: Sequence[Reply], known: Mapping[str, Known]) -> Chunk:
    """A record that was read again since is back."""
    standing = {one.external_id: one for one in gone if not is_back(one, known[one.external_id])}
    late = [(one.external_id, "") for one in gone if standing.get(one.external_id) is not one]
    feed = FeedOrder(timed=False, ordered=False, reason=GONE)
    good = [tombstone(to, key)[:5] for key in standing]
    return Chunk(good=good, superseded=late, fetched=len(gone), read_at=earliest(gone), feed=feed)


def is_back(one: Reply, known: Known) -> bool:
    return known.deleted_at is None and known.fetched_at is not None and known.fetched_at > one.at


def tombstone(to: WrittenStream, key: str) -> Accepted:
    record: dict[str, Any] = {}
    for path, part in zip(to.stream.primary_key, to.key_of(key, None).values(), strict=True):
        path.put(record, part)
    payload = encode(record)
    return Accepted(key, payload, digest(payload), "", True, record)


def records(to: WrittenStream, said: Sequence[Reply], known: Mapping[str, Known]) -> Chunk:
    split = to.boundary.split([one.record for one in said], earliest(said)) if said else Split()
    good, late = [], list(split.superseded)
    for row, position in zip(split.good, split.positions, strict=True):
        own = to.own_version(row)
        state = State(own, None, moment_text(said[position].at))
        before = known.get(row.external_id, Known(None, None, None, None))
        if may_say(state, before):
            good.append(row._replace(version=version_to_land(state, before))[:5])
        else:
            late.append((row.external_id, own or ""))
    fetched = len(good) + len(split.rejected) + len(split.skipped) + len(late)
    return Chunk(
        good=good,
        rejected=split.rejected,
        skipped=split.skipped,
        superseded=late,
        fetched=fetched,
        read_at=earliest(said),
    )


def earliest(replies: Sequence[Reply]) -> datetime:
    """So that no later poll's row is taken for older than these."""
    return min((one.at for one in replies), default=datetime.now(UTC)).replace(microsecond=0)
