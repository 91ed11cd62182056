"""What people see of the outbox: groups of changes, and one change whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import args_row

from integrations_pipeline.store.failures import destination_errors

# What was done long ago is no news: unless asked for, only what is open or needs a person.
GROUPS = """
SELECT connection, stream, operation, status, coalesce(reason ->> 'message', outcome, ''), count(*), min(queued_at),
    max(queued_at), min(next_try_at), (array_agg(id ORDER BY id))[1:3]
FROM integrations.outbox
WHERE (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND CASE WHEN %(status)s::text IS NULL THEN status NOT IN ('done', 'discarded') ELSE status = %(status)s END
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 4, 3, 5
"""

COLUMNS = """id, connection, stream, kind, canonical_id, external_id, operation, changes::text, before::text,
    idempotency_key, edited_at, status, tries, merges, next_try_at, first_sent_at, outcome, reason, queued_at,
    answered_at, finished_at"""
ONE = f"SELECT {COLUMNS} FROM integrations.outbox WHERE id = %s"

# What the source hasn't taken. What a person must decide comes before any backlog.
OPEN = """
FROM integrations.outbox WHERE status IN ('queued', 'sending', 'unsure', 'parked', 'dead')
  AND (%(connection)s::text IS NULL OR connection = %(connection)s)
"""
LISTED = f"""
SELECT {COLUMNS} {OPEN}
ORDER BY array_position(ARRAY['parked', 'dead', 'unsure'], status), connection, id LIMIT %(limit)s
"""
COUNTED = f"SELECT connection, status, count(*) {OPEN} GROUP BY 1, 2 ORDER BY 1"

CHOSEN = """
SELECT id FROM integrations.outbox WHERE connection = %s AND status = ANY(%s::text[]) ORDER BY id
"""


class ChangeGroup(NamedTuple):
    """Changes of one stream with the same operation, status and reason, with the first ids."""

    connection: str
    stream: str
    operation: str
    status: str
    why: str
    changes: int
    first: datetime
    last: datetime
    next_try_at: datetime | None
    ids: list[int]


class OutboxChange(NamedTuple):
    """One change; ``changes`` and ``before`` are JSON text."""

    id: int
    connection: str
    stream: str
    kind: str
    canonical_id: UUID
    external_id: str | None
    operation: str
    changes: str
    before: str | None
    idempotency_key: UUID
    edited_at: datetime
    status: str
    tries: int
    merges: int
    next_try_at: datetime | None
    first_sent_at: datetime | None
    outcome: str | None
    reason: dict[str, Any] | None
    queued_at: datetime
    answered_at: datetime | None
    finished_at: datetime | None


def change_groups(session: psycopg.Connection[Any], connection: str | None, status: str | None) -> list[ChangeGroup]:
    """Counted by stream, operation, status and reason; all that isn't over unless named. Raises DestinationError."""
    cursor = session.cursor(row_factory=args_row(ChangeGroup))
    with destination_errors("outbox"):
        return cursor.execute(GROUPS, {"connection": connection, "status": status}).fetchall()


def outbox_change(session: psycopg.Connection[Any], id: int) -> OutboxChange | None:
    """One change whole; None where there is none with the id. Raises DestinationError."""
    with destination_errors("outbox"):
        return session.cursor(row_factory=args_row(OutboxChange)).execute(ONE, (id,)).fetchone()


def open_changes(session: psycopg.Connection[Any], connection: str | None, limit: int) -> list[OutboxChange]:
    """Changes that the source hasn't taken; first those that a person must decide. Raises DestinationError."""
    given = {"connection": connection, "limit": limit}
    with destination_errors("outbox"):
        return session.cursor(row_factory=args_row(OutboxChange)).execute(LISTED, given).fetchall()


def open_counts(session: psycopg.Connection[Any], connection: str | None) -> dict[str, dict[str, int]]:
    """How many of them there are by connection and status. Raises DestinationError."""
    found: dict[str, dict[str, int]] = {}
    with destination_errors("outbox"):
        for name, status, count in session.execute(COUNTED, {"connection": connection}).fetchall():
            found.setdefault(name, {})[status] = count
    return found


def change_ids(session: psycopg.Connection[Any], connection: str, statuses: Sequence[str]) -> list[int]:
    """The ids of a connection's changes in one of the statuses. Raises DestinationError."""
    with destination_errors("outbox"):
        return [row[0] for row in session.execute(CHOSEN, (connection, list(statuses))).fetchall()]
