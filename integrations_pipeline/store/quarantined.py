"""What is in quarantine, for people: the rules that rows broke, and one row whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

# Open rows by the rule they broke, the most frequent first; a row that broke two is in two of the groups.
GROUPS = """
SELECT q.connection, q.stream, q.stage, reason ->> 'rule' AS rule, coalesce(reason ->> 'field', '') AS field,
    count(DISTINCT q.id) AS rows, min(q.first_seen) AS first_seen, max(q.last_seen) AS last_seen,
    (array_agg(reason ->> 'message' ORDER BY q.id DESC))[1] AS message,
    (array_agg(DISTINCT reason ->> 'sample') FILTER (WHERE reason ->> 'sample' <> ''))[1:3] AS samples,
    (array_agg(DISTINCT q.id))[1:100] AS ids
FROM integrations.quarantine q, jsonb_array_elements(q.reasons) AS reason
WHERE q.status = 'open' AND (%(connection)s::text IS NULL OR q.connection = %(connection)s)
  AND (%(stream)s::text IS NULL OR q.stream = %(stream)s)
GROUP BY q.connection, q.stream, q.stage, 4, 5 ORDER BY q.connection, q.stream, rows DESC, rule, field
"""
ROW = """
SELECT id, connection, stream, stage, external_id, status, attempts, reasons, payload::text AS payload, first_seen,
    last_seen, closed_at, run_id
FROM integrations.quarantine WHERE id = %s
"""
OPEN_ROWS = """
SELECT id, connection, stream, stage, external_id, status, attempts, reasons, payload::text AS payload, first_seen,
    last_seen, closed_at, run_id
FROM integrations.quarantine
WHERE status = 'open' AND (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(stream)s::text IS NULL OR stream = %(stream)s)
ORDER BY connection, stream, id LIMIT %(limit)s
"""
IDS = """
SELECT id FROM integrations.quarantine WHERE connection = %s AND stream = %s AND status = 'open'
"""
PLACES = """
SELECT connection, stream, array_agg(id ORDER BY id) FROM integrations.quarantine
WHERE id = ANY(%s::bigint[]) AND status = 'open' GROUP BY connection, stream ORDER BY connection, stream
"""
STREAMS = """
SELECT DISTINCT stream FROM integrations.quarantine WHERE connection = %s AND status = 'open' ORDER BY stream
"""


@dataclass(frozen=True)
class Group:
    """Open rows of a stream that broke one rule in one field. ``samples`` are values as they came, three at most;
    ``ids`` the first hundred rows."""

    connection: str
    stream: str
    stage: str
    rule: str
    field: str
    rows: int
    first_seen: datetime
    last_seen: datetime
    message: str
    samples: list[str] | None
    ids: list[int]


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of quarantine, open or closed. ``payload`` is its JSON text as the source gave it."""

    id: int
    connection: str
    stream: str
    stage: str
    external_id: str | None
    status: str
    attempts: int
    reasons: list[dict[str, Any]]
    payload: str
    first_seen: datetime
    last_seen: datetime
    closed_at: datetime | None
    run_id: UUID | None


def quarantine_groups(
    session: psycopg.Connection[Any], connection: str | None = None, stream: str | None = None
) -> list[Group]:
    """What is open, of all connections unless one is named."""
    cursor = session.cursor(row_factory=class_row(Group))
    return cursor.execute(GROUPS, {"connection": connection, "stream": stream}).fetchall()


def quarantined_row(session: psycopg.Connection[Any], number: int) -> QuarantinedRow | None:
    """The row with that id, whatever became of it."""
    return session.cursor(row_factory=class_row(QuarantinedRow)).execute(ROW, [number]).fetchone()


def quarantined_rows(
    session: psycopg.Connection[Any], connection: str | None, stream: str | None, limit: int
) -> list[QuarantinedRow]:
    """The first that are open, stream by stream; of all connections unless one is named."""
    values = {"connection": connection, "stream": stream, "limit": limit}
    return session.cursor(row_factory=class_row(QuarantinedRow)).execute(OPEN_ROWS, values).fetchall()


def open_ids(session: psycopg.Connection[Any], connection: str, stream: str) -> set[int]:
    """The ids of a stream's open rows."""
    return {row[0] for row in session.execute(IDS, (connection, stream))}


def places_of(session: psycopg.Connection[Any], ids: Sequence[int]) -> dict[tuple[str, str], list[int]]:
    """Connection and stream of the rows that are open of these ids."""
    found = session.execute(PLACES, [list(ids)])
    return {(connection, stream): numbers for connection, stream, numbers in found}


def open_streams(session: psycopg.Connection[Any], connection: str) -> list[str]:
    """The streams of a connection that have open rows."""
    return [row[0] for row in session.execute(STREAMS, [connection])]
