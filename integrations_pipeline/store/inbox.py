"""The inbox: events that webhooks brought, from their arrival to done or dead. Its state machine is beside the table.

The gateway appends. Whoever applies events leases a batch, marks each in the transaction of its rows, and gives back
what it didn't get to. People replay and discard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.spec.limits import EVENT_TRIES, EXTERNAL_ID_BYTES, INBOX_DAYS
from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.holder import RETRY_AFTER
from integrations_pipeline.store.quarantine import storable_text

FIRST_WAIT = timedelta(seconds=30)
"""Before an event that failed is tried again; four times as long after each further try."""

# One statement, one commit. In order of arrival, which is the order of the ids.
APPEND = """
INSERT INTO integrations.inbox (connection, event_id, hash, event_type, order_value, payload, headers)
SELECT connection, event_id, hash, event_type, order_value, payload::json, headers::jsonb
FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[])
     WITH ORDINALITY AS given (connection, event_id, hash, event_type, order_value, payload, headers, position)
ORDER BY position
ON CONFLICT (connection, event_id, hash) DO NOTHING
"""

# What may be leased: received and due, or leased by a run that has been silent for too long.
AVAILABLE = """
connection = %(connection)s AND (
    (status = 'received' AND (next_try_at IS NULL OR next_try_at <= now())) OR
    (status = 'leased' AND leased_until < now()))
"""

# The last try ended without a word.
BURY = f"""
SELECT id, tries FROM integrations.inbox WHERE {AVAILABLE} AND status = 'leased' AND tries >= %(tries)s
ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

# The oldest, and only those tried as often as it, so that what kills its run is parted from the others by and by.
LEASE = f"""
WITH oldest AS (
    SELECT tries FROM integrations.inbox WHERE {AVAILABLE} ORDER BY id LIMIT 1
), batch AS (
    SELECT i.id FROM integrations.inbox i, oldest WHERE {AVAILABLE} AND i.tries = oldest.tries
    ORDER BY i.id LIMIT (SELECT greatest(1, %(limit)s / (10 ^ oldest.tries)::int) FROM oldest)
    FOR UPDATE OF i SKIP LOCKED
), taken AS (
    UPDATE integrations.inbox i SET status = 'leased', tries = i.tries + 1, lease_id = %(lease)s,
        leased_until = now() + %(hold)s, next_try_at = NULL
    FROM batch WHERE i.id = batch.id
    RETURNING i.id, i.event_id, i.event_type, i.order_value, i.payload::text, i.headers, i.received_at, i.tries
)
SELECT * FROM taken ORDER BY id
"""

# Keeps what a long run still holds.
EXTEND = """
UPDATE integrations.inbox SET leased_until = now() + %(hold)s WHERE lease_id = %(lease)s AND status = 'leased'
"""

# The three ways out of a lease; each only where the lease is still our own.
DONE = """
UPDATE integrations.inbox SET status = 'done', outcome = given.outcome, finished_at = now(), reason = NULL,
    lease_id = NULL, leased_until = NULL, stream = %(stream)s, external_id = given.key
FROM unnest(%(ids)s::bigint[], %(outcomes)s::text[], %(keys)s::text[]) AS given (id, outcome, key)
WHERE inbox.id = given.id AND lease_id = %(lease)s AND status = 'leased'
"""
FAIL = """
UPDATE integrations.inbox SET status = CASE WHEN tries >= %(tries)s THEN 'dead' ELSE 'received' END,
    next_try_at = CASE WHEN tries < %(tries)s THEN now() + %(wait)s * (4 ^ (tries - 1)) END,
    finished_at = CASE WHEN tries >= %(tries)s THEN now() END,
    reason = %(reason)s, lease_id = NULL, leased_until = NULL
WHERE id = %(id)s AND lease_id = %(lease)s AND status = 'leased'
RETURNING status
"""
GIVE_BACK = """
UPDATE integrations.inbox SET status = 'received', tries = tries - 1, lease_id = NULL, leased_until = NULL,
    next_try_at = %(again_at)s
WHERE lease_id = %(lease)s AND status = 'leased'
"""

OPEN_LETTER = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
SELECT 'inbox', id, connection, reason, tries FROM integrations.inbox WHERE id = ANY(%(ids)s)
"""
DIE = """
UPDATE integrations.inbox SET status = 'dead', finished_at = now(), reason = %(reason)s, lease_id = NULL,
    leased_until = NULL
WHERE id = ANY(%(ids)s)
"""
CLOSE_LETTER = """
UPDATE integrations.dead_letter SET status = %(status)s, closed_at = now()
WHERE origin = 'inbox' AND origin_id = ANY(%(ids)s) AND status = 'open'
"""

# A person's decisions. What a run holds is left alone.
REPLAY = """
UPDATE integrations.inbox SET status = 'received', tries = 0, next_try_at = NULL, finished_at = NULL, outcome = NULL,
    reason = NULL
WHERE id = ANY(%(ids)s) AND status IN ('received', 'done', 'dead', 'discarded') RETURNING id
"""
DISCARD = """
UPDATE integrations.inbox SET status = 'discarded', finished_at = now(), next_try_at = NULL,
    reason = coalesce(%(reason)s, reason)
WHERE id = ANY(%(ids)s) AND status IN ('received', 'dead') RETURNING id
"""

COUNTS = "SELECT connection, status, count(*) FROM integrations.inbox GROUP BY connection, status"

# A bounded piece: each receive takes one away.
PRUNE = """
DELETE FROM integrations.inbox WHERE id IN (
    SELECT id FROM integrations.inbox
    WHERE status IN ('done', 'discarded') AND finished_at < now() - %(age)s
    ORDER BY finished_at LIMIT 5000 FOR UPDATE SKIP LOCKED)
"""

# Connections with work, since when the oldest of it waits, and what that is: an event's id, its tries, its time.
WAITING = """
SELECT connection, count(*), min(received_at),
    (array_agg(concat_ws('/', id, tries, extract(epoch FROM coalesce(next_try_at, received_at))) ORDER BY id))[1]
FROM integrations.inbox
WHERE status IN ('received', 'leased') AND (next_try_at IS NULL OR next_try_at <= now())
  AND (leased_until IS NULL OR leased_until < now())
GROUP BY connection ORDER BY min(received_at)
"""

SILENT = {
    "class": "failed",
    "message": "each run that held this event ended without a word: it may be what kills them",
    "who": "whoever maintains the connector",
    "next": "look at its payload, then replay or discard it",
}


class Event(NamedTuple):
    """One event as the gateway stores it. Texts are made storable here; ``headers`` is JSON text."""

    connection: str
    event_id: str | None
    hash: bytes
    event_type: str | None
    order_value: str | None
    payload: str
    headers: str


@dataclass(frozen=True, slots=True)
class Leased:
    """An event in the hands of one run. ``tries`` counts this one."""

    id: int
    event_id: str
    event_type: str | None
    order_value: str | None
    payload: Any
    headers: Mapping[str, str]
    received_at: datetime
    tries: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one lease took of one connection, in order of arrival."""

    lease: UUID
    connection: str
    events: list[Leased]


def append(session: psycopg.Connection[Any], events: Sequence[Event]) -> frozenset[int]:
    """Stores events, all in one commit where the session is in autocommit; those that are there already stay one row.

    Returns the positions of those that no database could hold, none as a rule. Raises DestinationError, nothing stored.
    """
    try:
        with destination_errors("inbox"):
            session.execute(APPEND, columns(events))
        return frozenset()
    except (errors.DataError, errors.ProgramLimitExceeded):
        if len(events) == 1:
            return frozenset((0,))
    half = len(events) // 2
    later = append(session, events[half:])
    return append(session, events[:half]) | {half + position for position in later}


def columns(events: Sequence[Event]) -> list[list[Any]]:
    rows = [
        (
            one.connection,
            storable_id(one),
            one.hash,
            one.event_type and storable_text(one.event_type),
            one.order_value and storable_text(one.order_value),
            one.payload,
            storable_text(one.headers),
        )
        for one in events
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in Event._fields]


def storable_id(event: Event) -> str:
    """The event's own id where an index can hold it, else its hash."""
    text = storable_text(event.event_id or "")
    return text if text and len(text.encode()) <= EXTERNAL_ID_BYTES else event.hash.hex()


def lease(
    session: psycopg.Connection[Any], connection: str, *, limit: int, hold: timedelta = timedelta(minutes=10)
) -> Batch:
    """Takes up to ``limit`` due events of a connection for one run, which has them for ``hold`` (see ``extend``).

    Two leases never hold the same event. The batch shrinks to a tenth with each try, so that an event that kills its
    run is alone at last; one whose last try ended so is dead. Raises DestinationError.
    """
    held = uuid4()
    given = {"connection": connection, "lease": held, "limit": limit, "hold": hold, "tries": EVENT_TRIES}
    with destination_errors(connection), session.transaction():
        buried = [row[0] for row in session.execute(BURY, given).fetchall()]
        if buried:
            session.execute(DIE, {"ids": buried, "reason": Jsonb(SILENT)})
            session.execute(OPEN_LETTER, {"ids": buried})
        rows = session.execute(LEASE, given).fetchall()
    return Batch(held, connection, [leased(row) for row in rows])


def leased(row: Sequence[Any]) -> Leased:
    id, event_id, event_type, order_value, payload, headers, received_at, tries = row
    return Leased(id, event_id, event_type, order_value, decode(payload.encode()), headers, received_at, tries)


def extend(session: psycopg.Connection[Any], batch: Batch, *, hold: timedelta = timedelta(minutes=10)) -> None:
    """Keeps what the run still holds for another ``hold``. Raises DestinationError."""
    with destination_errors(batch.connection):
        session.execute(EXTEND, {"lease": batch.lease, "hold": hold})


def mark_done(
    session: psycopg.Connection[Any],
    batch: Batch,
    outcomes: Mapping[int, str],
    *,
    stream: str | None = None,
    keys: Mapping[int, str] | None = None,
) -> None:
    """Marks events by id as done, each with a word about what became of it, inside the caller's transaction. ``keys``
    names the record of the stream that an event spoke of.

    Raises LeaseHeld where another run has one of them by now: the caller's transaction must not be committed.
    """
    told = {"outcomes": list(outcomes.values()), "keys": [(keys or {}).get(one) for one in outcomes], "stream": stream}
    given = {"ids": list(outcomes), "lease": batch.lease, **told}
    if session.execute(DONE, given).rowcount != len(outcomes):
        raise LeaseHeld(
            "another run has taken these events over", where=batch.connection, resume_at=datetime.now(UTC) + RETRY_AFTER
        )


def mark_failed(session: psycopg.Connection[Any], batch: Batch, id: int, reason: Mapping[str, Any]) -> bool | None:
    """One event could not be applied: it is tried again later, or dead after its last try, inside the caller's
    transaction. ``reason`` is an error's ``as_dict``. Returns whether it is dead;
    None where this run doesn't hold it any more."""
    given = {"id": id, "lease": batch.lease, "reason": Jsonb(dict(reason)), "tries": EVENT_TRIES, "wait": FIRST_WAIT}
    row = session.execute(FAIL, given).fetchone()
    if row is None:
        return None
    dead = bool(row[0] == "dead")
    if dead:
        session.execute(OPEN_LETTER, {"ids": [id]})
    return dead


def give_back(session: psycopg.Connection[Any], batch: Batch, again_at: datetime | None = None) -> int:
    """Frees what the run didn't get to, as if it had never been leased; not to be tried before ``again_at``.

    Returns how many. Raises DestinationError.
    """
    with destination_errors(batch.connection):
        return session.execute(GIVE_BACK, {"lease": batch.lease, "again_at": again_at}).rowcount


def prune(session: psycopg.Connection[Any]) -> int:
    """Removes a bounded number of events that ended longer than ``limits.INBOX_DAYS`` ago. Returns how many.

    Raises DestinationError.
    """
    with destination_errors("inbox"):
        return session.execute(PRUNE, {"age": timedelta(days=INBOX_DAYS)}).rowcount


def replay(session: psycopg.Connection[Any], ids: Collection[int]) -> list[int]:
    """Makes events received again, also done ones. Returns those it did; what a run holds is left alone."""
    with destination_errors("inbox"), session.transaction():
        found = [row[0] for row in session.execute(REPLAY, {"ids": list(ids)}).fetchall()]
        session.execute(CLOSE_LETTER, {"ids": found, "status": "replayed"})
    return found


def discard(
    session: psycopg.Connection[Any], ids: Collection[int], reason: Mapping[str, Any] | None = None
) -> list[int]:
    """Gives events up that are received or dead. Returns those it did; done ones and what a run holds stay."""
    given = {"ids": list(ids), "reason": Jsonb(dict(reason)) if reason is not None else None}
    with destination_errors("inbox"), session.transaction():
        found = [row[0] for row in session.execute(DISCARD, given).fetchall()]
        session.execute(CLOSE_LETTER, {"ids": found, "status": "discarded"})
    return found


def counts(session: psycopg.Connection[Any]) -> dict[str, dict[str, int]]:
    """Events by connection and status; a status without any is left out. Raises DestinationError."""
    found: dict[str, dict[str, int]] = {}
    with destination_errors("inbox"):
        for connection, status, count in session.execute(COUNTS).fetchall():
            found.setdefault(connection, {})[status] = count
    return found


def waiting(session: psycopg.Connection[Any]) -> list[tuple[str, int, datetime, str]]:
    """Each connection with due events, how many, since when the oldest waits, and a text that changes once that one was
    tried; the longest wait first.

    Raises DestinationError.
    """
    with destination_errors("inbox"):
        return session.execute(WAITING).fetchall()
