"""The outbox: changes made here on their way to a source, from queued to done or dead. Its state machine is beside the
table.

Merge appends. Whoever pushes leases one change of a record at a time, fixes what is sent before the first request, and
says what became of it. People retry, discard and resolve.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.decoding import decode, encode_ascii
from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.spec.limits import OUTBOX_DAYS
from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.holder import RETRY_AFTER
from integrations_pipeline.store.quarantine import jsonb_text

# One lease of a connection at a time, so that a row that comes back and a later one of its record can't both be taken.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('integrations outbox ' || %s, 0))"

# Of processes that died, or were silent for too long. What had no request yet is as it was; of the rest the answer is
# unknown, and it may have left until the lease ended.
RECOVER = """
UPDATE integrations.outbox SET status = CASE WHEN first_sent_at IS NULL THEN 'queued' ELSE 'unsure' END,
    next_try_at = CASE WHEN first_sent_at IS NOT NULL
        THEN leased_until + make_interval(secs => coalesce((%(lags)s::jsonb ->> stream)::float8, 0)) END,
    reason = %(reason)s, lease_id = NULL, leased_until = NULL
WHERE connection = %(connection)s AND status = 'sending' AND leased_until < now()
"""

# What may be taken now: due, the first open change of its record, and none of that record is being sent.
AVAILABLE = """
o.connection = %(connection)s AND o.status IN ('queued', 'unsure')
AND (o.next_try_at IS NULL OR o.next_try_at <= now())
AND NOT EXISTS (SELECT FROM integrations.outbox e
    WHERE e.connection = o.connection AND e.stream = o.stream AND e.canonical_id = o.canonical_id
      AND e.status IN ('queued', 'sending', 'unsure', 'parked') AND (e.id < o.id OR e.status = 'sending'))
"""
# Of a request that was refused as a whole each change goes alone next time, so that it is known which one is meant.
TOGETHER = "o.status = 'queued' AND coalesce(o.reason ->> 'class', '') <> 'permission'"
OLDEST = f"""
SELECT o.id, o.stream, o.operation, {TOGETHER} FROM integrations.outbox o WHERE {AVAILABLE}
ORDER BY o.id LIMIT 1 FOR UPDATE OF o SKIP LOCKED
"""

# Further ones that one request may carry along. What was tried before goes alone.
ALIKE = f"""
SELECT o.id FROM integrations.outbox o
WHERE {AVAILABLE} AND o.stream = %(stream)s AND o.operation = %(operation)s AND {TOGETHER} AND o.id > %(id)s
ORDER BY o.id LIMIT %(more)s FOR UPDATE OF o SKIP LOCKED
"""

COLUMNS = """
id, connection, stream, kind, canonical_id, external_id, operation, changes::text, before::text, idempotency_key,
edited_at, tries, merges, first_sent_at, run_id, answer::text
"""
TAKE = f"""
WITH was AS (SELECT id AS given, status AS before_lease FROM integrations.outbox WHERE id = ANY(%(ids)s::bigint[]))
UPDATE integrations.outbox SET status = 'sending', tries = tries + 1, lease_id = %(lease)s,
    leased_until = now() + %(hold)s, next_try_at = NULL, run_id = %(run_id)s
FROM was WHERE id = given
RETURNING {COLUMNS}, before_lease
"""

EXTEND = """
UPDATE integrations.outbox SET leased_until = now() + %(hold)s
WHERE lease_id = ANY(%(leases)s::uuid[]) AND status = 'sending'
"""

# What is sent, from now on the same at each try, committed before the request leaves.
FIX = """
UPDATE integrations.outbox SET operation = %(operation)s, external_id = %(external_id)s, changes = %(changes)s::jsonb,
    before = %(before)s::jsonb, first_sent_at = now()
WHERE id = %(id)s AND lease_id = %(lease)s AND status = 'sending' AND leased_until > now()
RETURNING first_sent_at
"""

# Every way out of a lease; only where the lease is still our own.
LEAVE = """
UPDATE integrations.outbox SET status = %(status)s, tries = %(tries)s, merges = %(merges)s, outcome = %(outcome)s,
    first_sent_at = %(first_sent_at)s, idempotency_key = %(key)s, external_id = %(external_id)s,
    next_try_at = %(next_try_at)s, reason = %(reason)s, answer = %(answer)s::jsonb,
    answered_at = CASE WHEN %(status)s = 'answered' THEN now() ELSE answered_at END,
    finished_at = CASE WHEN %(status)s IN ('done', 'parked', 'dead') THEN now() END,
    lease_id = NULL, leased_until = NULL
WHERE id = %(id)s AND lease_id = %(lease)s AND status = 'sending'
"""

OPEN_LETTER = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
SELECT 'outbox', id, connection, reason, tries FROM integrations.outbox WHERE id = %(id)s
"""
CLOSE_LETTER = """
UPDATE integrations.dead_letter SET status = %(status)s, closed_at = now()
WHERE origin = 'outbox' AND origin_id = ANY(%(ids)s) AND status = 'open'
"""

# Changes that waited for the record which has an external id by now.
WAKE = """
UPDATE integrations.outbox SET next_try_at = NULL
WHERE connection = %(connection)s AND status = 'queued' AND reason ->> 'waits_for' = %(canonical_id)s
"""

# Answers that wait for the stream's lease, in the order of the changes.
ANSWERED = f"""
SELECT {COLUMNS}, status, answered_at FROM integrations.outbox
WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'answered' ORDER BY id LIMIT %(limit)s
"""
ANSWERED_STREAMS = "SELECT DISTINCT stream FROM integrations.outbox WHERE connection = %s AND status = 'answered'"
LANDED = """
UPDATE integrations.outbox SET status = 'done', answer = NULL, finished_at = now()
WHERE id = ANY(%(ids)s::bigint[]) AND status = 'answered'
"""

# Whether the source has taken anything else since, so that it isn't down.
ALIVE = """
SELECT EXISTS (SELECT FROM integrations.outbox
               WHERE connection = %(connection)s AND id <> %(id)s AND answered_at > %(since)s)
    OR EXISTS (SELECT FROM integrations.stream_state WHERE connection = %(connection)s AND last_success > %(since)s)
"""

# Whether a new record that is waited for waits for one of its own, and so on, back to the first.
LEADS_BACK = """
WITH RECURSIVE awaited (id) AS (
    SELECT %(awaited)s
    UNION
    SELECT o.reason ->> 'waits_for' FROM awaited a
    JOIN integrations.outbox o ON o.canonical_id = a.id::uuid AND o.connection = %(connection)s
      AND o.operation = 'create' AND o.status IN ('queued', 'sending') AND o.reason ->> 'class' = 'reference'
)
SELECT EXISTS (SELECT FROM awaited WHERE id = %(own)s)
"""

# Whether the source has taken another change of the same sort since it refused this one the last time.
TAKEN_SINCE = """
SELECT EXISTS (SELECT FROM integrations.outbox o
               WHERE o.connection = r.connection AND o.stream = r.stream AND o.operation = r.operation
                 AND o.id <> r.id AND o.outcome = 'sent'
                 AND coalesce(o.answered_at, o.finished_at) > (r.reason ->> 'refused_at')::timestamptz)
FROM integrations.outbox r WHERE r.id = %(id)s AND r.reason ->> 'class' = 'permission'
"""

# Why a change was merged again, as long as its stream was not read since.
UNREAD = """
SELECT r.reason FROM integrations.outbox r
WHERE r.id = %(id)s AND r.reason ->> 'class' = 'conflict' AND NOT EXISTS (
    SELECT FROM integrations.stream_state s WHERE s.connection = r.connection AND s.stream = r.stream
      AND s.last_success > (r.reason ->> 'refused_at')::timestamptz)
"""

# Dead ones whose record was deleted at the source, by now known here too.
GONE = """
SELECT o.id FROM integrations.dead_letter d
JOIN integrations.outbox o ON o.id = d.origin_id AND o.status = 'dead' AND o.operation <> 'create'
JOIN integrations.link l ON l.connection = o.connection AND l.stream = o.stream AND l.external_id = o.external_id
WHERE d.origin = 'outbox' AND d.connection = %(connection)s AND d.status = 'open' AND l.deleted_at IS NOT NULL
"""

# A bounded piece: each push takes one away.
PRUNE = """
DELETE FROM integrations.outbox WHERE id IN (
    SELECT id FROM integrations.outbox
    WHERE status IN ('done', 'discarded') AND finished_at < now() - %(age)s
    ORDER BY finished_at LIMIT 5000 FOR UPDATE SKIP LOCKED)
"""

# A person's decisions. What is being sent is left alone. A dead one surely did nothing: with another key it is as new.
PLACES = "SELECT DISTINCT connection FROM integrations.outbox WHERE id = ANY(%(ids)s) ORDER BY connection"
HURRY = """
UPDATE integrations.outbox SET next_try_at = NULL
WHERE id = ANY(%(ids)s) AND status IN ('queued', 'unsure') RETURNING id
"""
REVIVE = """
UPDATE integrations.outbox SET status = 'queued', tries = %(tries)s, merges = 0, next_try_at = NULL, reason = NULL,
    finished_at = NULL, first_sent_at = NULL, idempotency_key = gen_random_uuid()
WHERE id = %(id)s AND status = 'dead' RETURNING id
"""
NOT_THERE = """
UPDATE integrations.outbox SET status = 'queued', tries = %(tries)s, next_try_at = NULL, reason = NULL,
    finished_at = NULL, first_sent_at = NULL
WHERE id = %(id)s AND status IN ('parked', 'unsure') RETURNING id
"""
DISCARD = """
WITH gone AS (
    UPDATE integrations.outbox SET status = 'discarded', finished_at = now(), next_try_at = NULL,
        reason = coalesce(%(reason)s, reason)
    WHERE id = ANY(%(ids)s) AND status IN ('queued', 'unsure', 'parked', 'dead')
    RETURNING id, run_id, connection, stream, external_id, changes, before
), noted AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
    SELECT run_id, connection, stream, external_id, 'push', 'discarded', %(reason)s::jsonb ->> 'message',
           jsonb_build_object('outbox', id) || (SELECT jsonb_object_agg(key, jsonb_build_array(before -> key, value))
                                                FROM jsonb_each(changes))
    FROM gone
)
SELECT id FROM gone
"""
CLAIM = """
SELECT id FROM integrations.outbox WHERE id = %(id)s AND status IN ('parked', 'unsure') AND operation = 'create'
FOR UPDATE
"""

SILENT = {
    "class": "unsure",
    "message": "the process that sent it ended without a word",
    "who": "nobody",
    "next": "it is settled by itself, as far as the source allows",
}


RECORD_GONE = {"message": "the record is no longer at the source"}


@dataclass(slots=True)
class Change:
    """One row of the outbox. ``changes`` and ``before``: field → value in the form of a link's base. ``unsure``: an
    earlier try may have been done. ``tries`` counts this one."""

    id: int
    connection: str
    stream: str
    kind: str
    canonical_id: UUID
    external_id: str | None
    operation: str
    changes: dict[str, Any]
    before: dict[str, Any] | None
    idempotency_key: UUID
    edited_at: datetime
    tries: int
    merges: int
    first_sent_at: datetime | None
    run_id: UUID | None
    answer: Any = None
    unsure: bool = False
    lease: UUID | None = None
    answered_at: datetime | None = None

    @property
    def where(self) -> str:
        return f"{self.connection}/{self.stream} change {self.id}"


class Payload(NamedTuple):
    """What is sent of a change: fixed at its first lease."""

    operation: str
    external_id: str | None
    changes: Mapping[str, Any]
    before: Mapping[str, Any] | None


def lease(
    session: psycopg.Connection[Any],
    connection: str,
    *,
    run_id: UUID,
    sizes: Mapping[tuple[str, str], int] | None = None,
    lags: Mapping[str, float] | None = None,
    hold: timedelta = timedelta(minutes=2),
) -> list[Change]:
    """Takes the oldest due change of a connection, for ``hold`` (see ``extend``); none where nothing is due.

    Of each record only the first open change is taken, and none while another of its changes is being sent. ``sizes``:
    (stream, operation) → how many such changes one request carries, taken together. ``lags``: stream → seconds after
    which the source shows what it was sent. Raises DestinationError.
    """
    given = {"connection": connection, "lags": Jsonb(dict(lags or {})), "reason": Jsonb(SILENT), "hold": hold}
    with destination_errors(connection), session.transaction():
        session.execute(LOCK, (connection,))
        session.execute(RECOVER, given)
        row = session.execute(OLDEST, given).fetchone()
        if row is None:
            return []
        id, stream, operation, fresh = row
        more = (sizes or {}).get((stream, operation), 1) - 1
        ids = [id]
        if more and fresh:
            alike = {**given, "stream": stream, "operation": operation, "id": id, "more": more}
            ids += [row[0] for row in session.execute(ALIKE, alike)]
        return take(session, ids, run_id, hold)


def take(session: psycopg.Connection[Any], ids: list[int], run_id: UUID, hold: timedelta) -> list[Change]:
    held = uuid4()
    rows = session.execute(TAKE, {"ids": ids, "lease": held, "hold": hold, "run_id": run_id}).fetchall()
    found = [change(row[:-1], unsure=row[-1] in ("unsure", "parked"), lease=held) for row in rows]
    return sorted(found, key=lambda one: one.id)


def change(row: Any, **more: Any) -> Change:
    """A row of ``COLUMNS``."""
    values = [*row]
    for at in (7, 8, 15):
        values[at] = decode(values[at].encode()) if values[at] is not None else None
    return Change(*values, **more)


def extend(session: psycopg.Connection[Any], leases: Collection[UUID], hold: timedelta = timedelta(minutes=2)) -> None:
    """Keeps what is still being sent for another ``hold``. Raises DestinationError."""
    with destination_errors("outbox"):
        session.execute(EXTEND, {"leases": list(leases), "hold": hold})


def fix(session: psycopg.Connection[Any], one: Change, payload: Payload) -> datetime:
    """What is sent from now on, and when first: commit it before the request leaves. Raises LeaseHeld where another
    process has taken the change over."""
    given = {
        "id": one.id,
        "lease": one.lease,
        "operation": payload.operation,
        "external_id": payload.external_id,
        "changes": jsonb_text(dict(payload.changes)),
        "before": jsonb_text(dict(payload.before)) if payload.before is not None else None,
    }
    row = session.execute(FIX, given).fetchone()
    if row is None:
        raise taken_over(one)
    return row[0]  # type: ignore[no-any-return]


def leave(session: psycopg.Connection[Any], one: Change, status: str, **changed: Any) -> None:
    """Ends the lease. What isn't named stays as it is. Raises LeaseHeld where another process has taken it over: the
    caller's transaction must not be committed."""
    given = {
        "id": one.id,
        "lease": one.lease,
        "status": status,
        "tries": one.tries,
        "merges": one.merges,
        "key": one.idempotency_key,
        "first_sent_at": one.first_sent_at,
        "external_id": one.external_id,
        "outcome": None,
        "next_try_at": None,
        "reason": None,
        "answer": None,
        **changed,
    }
    if isinstance(given["reason"], Mapping):
        given["reason"] = Jsonb(dict(given["reason"]), dumps=encode_ascii)
    if session.execute(LEAVE, given).rowcount != 1:
        raise taken_over(one)


def taken_over(one: Change) -> LeaseHeld:
    return LeaseHeld(
        "another process has taken this change over", where=one.where, resume_at=datetime.now(UTC) + RETRY_AFTER
    )


def mark_answered(
    session: psycopg.Connection[Any], one: Change, answer: Any, external_id: str | None, outcome: str
) -> None:
    """The source has done it; ``answer`` (None where it gave no record) is to land. Inside the transaction that settles
    the link."""
    leave(session, one, "answered", answer=jsonb_text(answer), external_id=external_id, outcome=outcome)
    if one.operation == "create":
        session.execute(WAKE, {"connection": one.connection, "canonical_id": str(one.canonical_id)})


def mark_done(session: psycopg.Connection[Any], one: Change, outcome: str) -> None:
    """Nothing was sent, and nothing is to land."""
    leave(session, one, "done", outcome=outcome)


def mark_unsure(session: psycopg.Connection[Any], one: Change, reason: Mapping[str, Any], at: datetime) -> None:
    """The answer was lost: it is settled at that time."""
    leave(session, one, "unsure", reason=reason, next_try_at=at)


def mark_parked(session: psycopg.Connection[Any], one: Change, reason: Mapping[str, Any]) -> None:
    """A person has to look whether it was done."""
    leave(session, one, "parked", reason=reason)


def mark_dead(session: psycopg.Connection[Any], one: Change, reason: Mapping[str, Any]) -> None:
    """Refused for good: a dead letter, until a person decides."""
    with session.transaction():
        leave(session, one, "dead", reason=reason)
        session.execute(OPEN_LETTER, {"id": one.id})


def put_off(
    session: psycopg.Connection[Any], one: Change, reason: Mapping[str, Any] | None, at: datetime | None
) -> None:
    """As if it had not been leased, since nothing was sent: due again at that time. That was no try."""
    status = "unsure" if one.unsure else "queued"
    untried(session, one, status, tries=one.tries - 1, reason=reason, next_try_at=at)


def merge_again(session: psycopg.Connection[Any], one: Change, reason: Mapping[str, Any], at: datetime | None) -> None:
    """The record was changed there meanwhile, and nothing was done: what is to be sent is another thing now, and so has
    another key."""
    changed = {"merges": one.merges + 1, "first_sent_at": None, "key": uuid4(), "reason": reason, "next_try_at": at}
    untried(session, one, "queued", tries=0, **changed)


def untried(session: psycopg.Connection[Any], one: Change, status: str, *, tries: int, **changed: Any) -> None:
    """Further edits may change it again, unless a later change of the record waits for that already."""
    try:
        with session.transaction():
            leave(session, one, status, tries=tries, **changed)
    except errors.UniqueViolation:
        leave(session, one, status, tries=1, **changed)


def answered(session: psycopg.Connection[Any], connection: str, stream: str, limit: int) -> list[Change]:
    """Answers that wait to land, in the order of the changes. Raises DestinationError."""
    given = {"connection": connection, "stream": stream, "limit": limit}
    with destination_errors(f"{connection}/{stream}"):
        rows = session.execute(ANSWERED, given).fetchall()
    return [change(row[:-2], answered_at=row[-1]) for row in rows]


def answered_streams(session: psycopg.Connection[Any], connection: str) -> set[str]:
    """The streams with answers that wait to land. Raises DestinationError."""
    with destination_errors(connection):
        return {row[0] for row in session.execute(ANSWERED_STREAMS, (connection,))}


def mark_landed(session: psycopg.Connection[Any], ids: Collection[int]) -> None:
    """Their answers are in raw: inside the transaction that landed them, under the stream's lease."""
    session.execute(LANDED, {"ids": list(ids)})


def is_alive(session: psycopg.Connection[Any], one: Change) -> bool:
    """Whether the source has answered anything else since the change was sent first."""
    given = {"connection": one.connection, "id": one.id, "since": one.first_sent_at}
    row = session.execute(ALIVE, given).fetchone()
    return bool(row and row[0])


def leads_back(session: psycopg.Connection[Any], one: Change, awaited: str) -> bool:
    """Whether the record that a change waits for is itself, or waits for it too."""
    given = {"awaited": awaited, "connection": one.connection, "own": str(one.canonical_id)}
    row = session.execute(LEADS_BACK, given).fetchone()
    return bool(row and row[0])


def is_taken_since(session: psycopg.Connection[Any], one: Change) -> bool:
    """Whether the source has taken another such change since it refused this one the last time, so that this one alone
    isn't allowed."""
    row = session.execute(TAKEN_SINCE, {"id": one.id}).fetchone()
    return bool(row and row[0])


def unread_conflict(session: psycopg.Connection[Any], one: Change) -> dict[str, Any] | None:
    """Why it was merged again, as long as its stream was not read since; else None."""
    row = session.execute(UNREAD, {"id": one.id}).fetchone()
    return row[0] if row else None


def close_gone(session: psycopg.Connection[Any], connection: str) -> list[int]:
    """Gives up what was dead, and whose record is no longer at the source. Raises DestinationError."""
    with destination_errors(connection):
        ids = [row[0] for row in session.execute(GONE, {"connection": connection})]
    return discard(session, ids, RECORD_GONE) if ids else []


def prune(session: psycopg.Connection[Any]) -> int:
    """Removes a bounded number of changes that ended longer than ``limits.OUTBOX_DAYS`` ago. Returns how many.

    Raises DestinationError.
    """
    with destination_errors("outbox"):
        return session.execute(PRUNE, {"age": timedelta(days=OUTBOX_DAYS)}).rowcount


def retry(session: psycopg.Connection[Any], ids: Collection[int]) -> list[int]:
    """Dead ones are queued anew, with another key; those that wait are due at once. Returns those it did."""
    with destination_errors("outbox"), session.transaction():
        lock_places(session, ids)
        found = [row[0] for row in session.execute(HURRY, {"ids": list(ids)})]
        revived = [id for id in sorted(ids) if queued_anew(session, REVIVE, id)]
        session.execute(CLOSE_LETTER, {"ids": revived, "status": "replayed"})
    return found + revived


def lock_places(session: psycopg.Connection[Any], ids: Collection[int]) -> None:
    for (connection,) in session.execute(PLACES, {"ids": list(ids)}).fetchall():
        session.execute(LOCK, (connection,))


def queued_anew(session: psycopg.Connection[Any], statement: str, id: int) -> bool:
    """Where a later change of the record waits untried, this one goes before it."""
    try:
        with session.transaction():
            return session.execute(statement, {"id": id, "tries": 0}).fetchone() is not None
    except errors.UniqueViolation:
        return session.execute(statement, {"id": id, "tries": 1}).fetchone() is not None


def not_there(session: psycopg.Connection[Any], id: int) -> bool:
    """A person says that a parked or unsure change was not done: it is sent again. False where it is neither."""
    with destination_errors("outbox"), session.transaction():
        lock_places(session, [id])
        return queued_anew(session, NOT_THERE, id)


def claim(
    session: psycopg.Connection[Any], id: int, run_id: UUID, hold: timedelta = timedelta(minutes=2)
) -> Change | None:
    """Leases a parked or unsure create that a person has found at the source; None where it is none."""
    with destination_errors("outbox"), session.transaction():
        lock_places(session, [id])
        row = session.execute(CLAIM, {"id": id}).fetchone()
        return take(session, [row[0]], run_id, hold)[0] if row else None


def discard(
    session: psycopg.Connection[Any], ids: Collection[int], reason: Mapping[str, Any] | None = None
) -> list[int]:
    """Gives changes up that aren't done nor being sent. Returns those it did."""
    given = {"ids": list(ids), "reason": Jsonb(dict(reason)) if reason is not None else None}
    with destination_errors("outbox"), session.transaction():
        found = [row[0] for row in session.execute(DISCARD, given).fetchall()]
        session.execute(CLOSE_LETTER, {"ids": found, "status": "discarded"})
    return found
