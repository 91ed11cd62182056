"""What people see of the inbox: groups of events, and one event whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import args_row

from integrations_pipeline.store.failures import destination_errors

GROUPS = """
SELECT connection, coalesce(event_type, ''), status, coalesce(outcome, ''), count(*), min(received_at),
    max(received_at), (array_agg(id ORDER BY id))[1:3]
FROM integrations.inbox
WHERE (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 2, 4
"""

ONE = """
SELECT id, connection, event_id, event_type, order_value, payload::text, received_at, status, tries, next_try_at,
    outcome, reason, finished_at, stream, external_id
FROM integrations.inbox WHERE id = %s
"""

CHOSEN = """
SELECT id FROM integrations.inbox WHERE connection = %s AND status = ANY(%s::text[]) ORDER BY id
"""


class EventGroup(NamedTuple):
    """Events of one connection, type, status and outcome, with the first ids."""

    connection: str
    event_type: str
    status: str
    outcome: str
    events: int
    first: datetime
    last: datetime
    ids: list[int]


class InboxEvent(NamedTuple):
    """One event; ``payload`` is its JSON text."""

    id: int
    connection: str
    event_id: str
    event_type: str | None
    order_value: str | None
    payload: str
    received_at: datetime
    status: str
    tries: int
    next_try_at: datetime | None
    outcome: str | None
    reason: dict[str, Any] | None
    finished_at: datetime | None
    stream: str | None
    external_id: str | None


def event_groups(session: psycopg.Connection[Any], connection: str | None, status: str | None) -> list[EventGroup]:
    """Counted by connection, type, status and outcome; all unless named. Raises DestinationError."""
    cursor = session.cursor(row_factory=args_row(EventGroup))
    with destination_errors("inbox"):
        return cursor.execute(GROUPS, {"connection": connection, "status": status}).fetchall()


def inbox_event(session: psycopg.Connection[Any], id: int) -> InboxEvent | None:
    """One event whole; None where there is none with the id. Raises DestinationError."""
    with destination_errors("inbox"):
        return session.cursor(row_factory=args_row(InboxEvent)).execute(ONE, (id,)).fetchone()


def ids_of(session: psycopg.Connection[Any], connection: str, statuses: Sequence[str]) -> list[int]:
    """The ids of a connection's events in one of the statuses. Raises DestinationError."""
    with destination_errors("inbox"):
        return [row[0] for row in session.execute(CHOSEN, (connection, list(statuses))).fetchall()]
