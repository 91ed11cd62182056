"""The queue of `on_change`: what a kind's trigger wrote, until its address took it. Its states are beside the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import args_row
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.limits import DELIVERY_DAYS
from integrations_pipeline.store.sealing import Borrow

# The first of each record's queued changes, where it is due. A later one waits, so that each record's order holds.
HEADS = """
SELECT id, message_id, kind, record_id, target, change, before::text, after::text, tries, changed_at
FROM integrations.delivery d
WHERE status = 'queued' AND (next_try_at IS NULL OR next_try_at <= now()) AND NOT target = ANY(%(without)s::text[])
  AND NOT EXISTS (SELECT FROM integrations.delivery e WHERE e.status = 'queued' AND e.target = d.target
                    AND e.record_id = d.record_id AND e.kind = d.kind AND e.id < d.id)
ORDER BY id LIMIT %(limit)s
"""
DELIVERED = """
UPDATE integrations.delivery SET status = 'delivered', tries = tries + 1, finished_at = now(), next_try_at = NULL,
    reason = NULL
WHERE id = %(id)s
"""
LATER = """
UPDATE integrations.delivery SET tries = tries + 1, next_try_at = now() + %(wait)s, reason = %(reason)s
WHERE id = %(id)s
"""
DEAD = """
UPDATE integrations.delivery SET status = 'dead', tries = tries + 1, next_try_at = NULL, finished_at = now(),
    reason = %(reason)s
WHERE id = %(id)s
"""
LETTER = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
SELECT 'delivery', id, '', %(letter)s, tries FROM integrations.delivery WHERE id = %(id)s
"""
DUE = """
SELECT min(changed_at) FROM integrations.delivery
WHERE status = 'queued' AND (next_try_at IS NULL OR next_try_at <= now())
"""
PRUNE = "DELETE FROM integrations.delivery WHERE status = 'delivered' AND finished_at < now() - %s"

# Freed with the session, also when its process is killed: one drains at a time, or a record's order would not hold.
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('integrations delivery', 0))"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a canonical record for one address. ``before`` and ``after`` are JSON as it is stored."""

    id: int
    message_id: UUID
    kind: str
    record_id: UUID
    target: str
    change: str
    before: str | None = field(repr=False)
    after: str = field(repr=False)
    tries: int
    changed_at: datetime


class Deliveries:
    """The queue of a database."""

    def __init__(self, borrow: Borrow):
        self._borrow = borrow

    def due(self) -> datetime | None:
        """Since when the oldest change waits that may be sent now; None where there is none."""
        with self._borrow() as session:
            row = session.execute(DUE).fetchone()
        return row[0] if row else None

    @contextmanager
    def draining(self) -> Iterator[Draining | None]:
        """The only one that may send until the block ends; None where another process drains."""
        with self._borrow() as session:
            row = session.execute(LOCK).fetchone()
            yield Draining(session) if row and row[0] else None


class Draining:
    """What is noted of each try is committed at once: a crash sends no more than what was under way again."""

    def __init__(self, session: psycopg.Connection[Any]):
        self._session = session
        session.execute(PRUNE, [timedelta(days=DELIVERY_DAYS)])

    def heads(self, limit: int, *, without: Sequence[str] = ()) -> list[Change]:
        """The oldest due change of each record, but not for the targets ``without``."""
        cursor = self._session.cursor(row_factory=args_row(Change))
        return cursor.execute(HEADS, {"limit": limit, "without": list(without)}).fetchall()

    def delivered(self, change: Change) -> None:
        self._session.execute(DELIVERED, {"id": change.id})

    def later(self, change: Change, reason: str, wait: timedelta) -> None:
        self._session.execute(LATER, {"id": change.id, "reason": reason, "wait": wait})

    def dead(self, change: Change, reason: str, letter: dict[str, Any]) -> None:
        with self._session.transaction():
            self._session.execute(DEAD, {"id": change.id, "reason": reason})
            self._session.execute(LETTER, {"id": change.id, "letter": Jsonb(letter)})
