"""What people see of the queue of `on_change`, and their one decision about it: dead changes once more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import args_row

from integrations_pipeline.store.failures import destination_errors

GROUPS = """
SELECT kind, target, status, count(*), min(changed_at), max(changed_at),
    (array_agg(reason ORDER BY id DESC) FILTER (WHERE reason IS NOT NULL))[1], (array_agg(id ORDER BY id))[1:3]
FROM integrations.delivery
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s) AND (%(status)s::text IS NULL OR status = %(status)s)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
ONE = """
SELECT id, message_id, kind, record_id, target, change, before::text, after::text, status, tries, next_try_at, reason,
    changed_at, finished_at
FROM integrations.delivery WHERE id = %s
"""
DEAD = "SELECT id FROM integrations.delivery WHERE kind = %s AND status = 'dead' ORDER BY id"
REPLAY = """
UPDATE integrations.delivery SET status = 'queued', tries = 0, next_try_at = NULL, finished_at = NULL, reason = NULL
WHERE id = ANY(%(ids)s) AND status = 'dead' RETURNING id
"""
CLOSE_LETTER = """
UPDATE integrations.dead_letter SET status = 'replayed', closed_at = now()
WHERE origin = 'delivery' AND origin_id = ANY(%(ids)s) AND status = 'open'
"""


class DeliveryGroup(NamedTuple):
    """Changes of one kind for one address in one status, with the latest reason and the first ids."""

    kind: str
    target: str
    status: str
    changes: int
    first: datetime
    last: datetime
    reason: str | None
    ids: list[int]


class DeliveredChange(NamedTuple):
    """One change for one address; ``before`` and ``after`` are JSON text."""

    id: int
    message_id: UUID
    kind: str
    record_id: UUID
    target: str
    change: str
    before: str | None
    after: str
    status: str
    tries: int
    next_try_at: datetime | None
    reason: str | None
    changed_at: datetime
    finished_at: datetime | None


def delivery_groups(session: psycopg.Connection[Any], kind: str | None, status: str | None) -> list[DeliveryGroup]:
    """Counted by kind, address and status; all unless named. Raises DestinationError."""
    cursor = session.cursor(row_factory=args_row(DeliveryGroup))
    with destination_errors("delivery"):
        return cursor.execute(GROUPS, {"kind": kind, "status": status}).fetchall()


def delivered_change(session: psycopg.Connection[Any], id: int) -> DeliveredChange | None:
    """One change whole; None where there is none with the id. Raises DestinationError."""
    with destination_errors("delivery"):
        return session.cursor(row_factory=args_row(DeliveredChange)).execute(ONE, (id,)).fetchone()


def dead_of(session: psycopg.Connection[Any], kind: str) -> list[int]:
    """The ids of a kind's dead changes. Raises DestinationError."""
    with destination_errors("delivery"):
        return [row[0] for row in session.execute(DEAD, (kind,)).fetchall()]


def replay(session: psycopg.Connection[Any], ids: Collection[int]) -> list[int]:
    """Queues dead changes once more, each under the id it had. Returns those it did. Raises DestinationError."""
    with destination_errors("delivery"), session.transaction():
        found = [row[0] for row in session.execute(REPLAY, {"ids": list(ids)}).fetchall()]
        session.execute(CLOSE_LETTER, {"ids": found})
    return found
