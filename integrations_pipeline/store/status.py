"""How each stream stands, for `integrations status`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from integrations_pipeline.store.judging import Loss, losses

# One row per stream asked for, in the order given; a stream that never ran has nulls.
STATUS = """
SELECT w.connection, w.stream, coalesce(s.active, true) AS active,
    s.last_success, extract(epoch FROM now() - s.last_success)::float8 AS lag_seconds, s.last_full_refresh,
    s.watermark, coalesce(s.bookmark IS NOT NULL, false) AS under_way, s.resume_at,
    EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (k.classid::bigint << 32 | k.objid::bigint)
            = hashtextextended('integrations lease ' || w.connection || '/' || w.stream, 0)) AS leased,
    coalesce(s.error_count, 0) AS error_count, s.last_error,
    coalesce((SELECT count(*) FROM integrations.quarantine q
        WHERE q.connection = w.connection AND q.stream = w.stream AND q.status = 'open'), 0) AS quarantine_open,
    coalesce((SELECT count(*) FROM integrations.drift f
        WHERE f.connection = w.connection AND f.stream = w.stream AND f.status = 'open'), 0) AS drift_open,
    coalesce(h.held, 0) AS rows_held, coalesce(h.deleted, 0) AS rows_deleted,
    to_jsonb(r) - 'connection' - 'stream' AS last_run
FROM unnest(%(connections)s::text[], %(streams)s::text[]) WITH ORDINALITY AS w (connection, stream, place)
LEFT JOIN integrations.stream_state s
    ON s.connection = w.connection AND s.stream = w.stream AND s.parent_key = ''
LEFT JOIN LATERAL (
    SELECT * FROM integrations.run_log l WHERE l.connection = w.connection AND l.stream = w.stream
      AND l.mode NOT IN ('events', 'immediately')
    ORDER BY l.started_at DESC LIMIT 1) r ON true
LEFT JOIN ({held}) h ON h.connection = w.connection AND h.stream = w.stream
ORDER BY w.place
"""
HELD = """
SELECT {connection}::text AS connection, {stream}::text AS stream,
    count(*) FILTER (WHERE deleted_at IS NULL) AS held, count(deleted_at) AS deleted FROM {table}
"""
NONE_HELD = "SELECT NULL::text AS connection, NULL::text AS stream, 0::bigint AS held, 0::bigint AS deleted"

# The streams that the database holds and that weren't disconnected, by connection.
KNOWN = """
SELECT connection, array_agg(stream ORDER BY stream) FROM integrations.stream_state
WHERE parent_key = '' AND active GROUP BY connection ORDER BY connection
"""

RAW_TABLES = """
SELECT split_part(c.relname, '__', 1), split_part(c.relname, '__', 2), c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'raw' AND c.relkind = 'r' AND split_part(c.relname, '__', 1) = ANY (%s)
"""


@dataclass(frozen=True)
class StreamStatus:
    """One stream. ``leased``: a process works on it now.

    ``last_run`` holds the columns of its run_log row, times as ISO text; None before the first run. ``webhooks`` is
    what polls of the last day found of them; None where they weren't judged.
    """

    connection: str
    stream: str
    active: bool
    last_success: datetime | None
    lag_seconds: float | None
    last_full_refresh: datetime | None
    watermark: Any
    under_way: bool
    leased: bool
    resume_at: datetime | None
    error_count: int
    last_error: dict[str, Any] | None
    quarantine_open: int
    drift_open: int
    rows_held: int
    rows_deleted: int
    last_run: dict[str, Any] | None
    webhooks: Loss | None = None

    @property
    def state(self) -> str:
        """In a word: disconnected, never synced, deferred, failed, succeeded, under way, or interrupted: nobody goes
        on."""
        if not self.active:
            return "disconnected"
        if self.last_run is None:
            return "never synced"
        status: str = self.last_run["status"]
        if status == "running":
            return "under way" if self.leased else "interrupted"
        return status


def known_streams(session: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """By connection, whatever the files say today."""
    return dict(session.execute(KNOWN).fetchall())


def read_status(
    session: psycopg.Connection[Any], wanted: list[tuple[str, str]], *, count_rows: bool = True
) -> list[StreamStatus]:
    """The (connection, stream) pairs in their order. ``rows_held`` and ``rows_deleted`` are exact, which takes a look
    at each row; zeros where ``count_rows`` is false."""
    tables = [] if not count_rows else session.execute(RAW_TABLES, [sorted({name for name, _ in wanted})]).fetchall()
    counts = [
        sql.SQL(HELD).format(connection=connection, stream=stream, table=sql.Identifier("raw", table))
        for connection, stream, table in tables
        if (connection, stream) in wanted
    ]
    held = sql.SQL(" UNION ALL ").join(counts) if counts else sql.SQL(NONE_HELD)
    cursor = session.cursor(row_factory=class_row(StreamStatus))
    values = {"connections": [name for name, _ in wanted], "streams": [stream for _, stream in wanted]}
    rows = cursor.execute(sql.SQL(STATUS).format(held=held), values).fetchall()
    lost = losses(session, sorted({name for name, _ in wanted}))
    return [replace(row, webhooks=lost.get((row.connection, row.stream))) for row in rows]
