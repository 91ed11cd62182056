"""What runs and schedules ask: what was rejected and why, how a kind stands, what is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from integrations_pipeline.store.tables import canonical_table, raw_table

# The rows a run left in quarantine, counted by what was wrong with them, the most frequent first.
REJECTED = """
SELECT q.stage, reason ->> 'rule' AS rule, coalesce(reason ->> 'field', '') AS field, count(*) AS rows,
    (array_agg(reason ->> 'message' ORDER BY q.id))[1] AS message,
    (array_agg(reason ->> 'sample' ORDER BY q.id))[1:3] AS samples
FROM integrations.quarantine q, jsonb_array_elements(q.reasons) AS reason
WHERE q.connection = %s AND q.stream = %s AND q.run_id = %s AND q.status = 'open'
GROUP BY 1, 2, 3 ORDER BY count(*) DESC, 2, 3 LIMIT 20
"""
OPEN = """
SELECT count(*) FROM integrations.quarantine WHERE connection = %s AND stream = %s AND status = 'open'
"""

# What a kind holds.
HELD = "SELECT count(*) FILTER (WHERE deleted_at IS NULL), count(deleted_at) FROM {table}"

# Whether raw rows wait to be shaped, or all do because the mapping was edited. One look into the index of stamps.
UNSHAPED = """
SELECT s.mapping_hash IS DISTINCT FROM %(digest)s
    OR EXISTS (SELECT FROM {raw} r WHERE r.stamp >= s.shaped_below)
FROM integrations.stream_state s
WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.parent_key = '' AND s.active
"""

# Whether rows wait in quarantine that may do better: by edited rules, or because several records matched.
UNTRIED = """
SELECT EXISTS (SELECT FROM integrations.quarantine q
               WHERE q.connection = s.connection AND q.stream = s.stream AND q.status = 'open'
                 AND CASE q.stage WHEN 'boundary' THEN s.boundary_hash IS DISTINCT FROM %(digest)s
                     ELSE q.reasons @> '[{"rule": "ambiguous_match"}]' END)
FROM integrations.stream_state s
WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.parent_key = '' AND s.active
"""

# When each stream last began, was read whole, and may go on; and while the last poll found its webhooks whole, when
# events were last applied since then (the gateway's runs last a minute).
CLOCKS = """
SELECT w.connection, w.stream, coalesce(s.active, true) AS active, s.resume_at, s.last_full_refresh, p.last_started,
    b.retry_at AS paused_until,
    CASE WHEN s.judged_missed = 0 THEN (
        SELECT max(e.started_at) FROM integrations.run_log e
        WHERE e.connection = w.connection AND e.stream = w.stream AND e.mode IN ('events', 'immediately')
          AND e.started_at > p.last_started - interval '1 minute') END AS last_event
FROM unnest(%s::text[], %s::text[]) AS w (connection, stream)
LEFT JOIN integrations.stream_state s
    ON s.connection = w.connection AND s.stream = w.stream AND s.parent_key = ''
LEFT JOIN integrations.breaker b ON b.connection = w.connection
LEFT JOIN LATERAL (
    SELECT max(l.started_at) AS last_started FROM integrations.run_log l
    WHERE l.connection = w.connection AND l.stream = w.stream AND l.mode IN ('incremental', 'full')) p ON true
"""

# Streams that fell due while calls to their source are paused: they go on when it may be tried again.
POSTPONE = """
UPDATE integrations.stream_state s SET resume_at = b.retry_at, updated_at = now()
FROM integrations.breaker b
WHERE s.connection = %s AND s.stream = ANY (%s) AND s.parent_key = '' AND s.active AND s.resume_at IS NULL
    AND b.connection = s.connection AND b.retry_at > now()
"""


# What the gateway applied, once nothing is added to it any more.
APPLIED = """
SELECT connection, stream, started_at, fetched, created, updated, unchanged, deleted, skipped, quarantined, superseded
FROM integrations.run_log
WHERE mode = 'immediately' AND started_at > %s AND started_at <= now() - interval '75 seconds' AND fetched > 0
ORDER BY started_at LIMIT 200
"""

# New, changed and rejected records of the last hours, by the hour in which the run that brought them began; 0 is now.
HOURS = """
SELECT r.connection, floor(extract(epoch FROM now() - r.started_at) / 3600)::int AS hour,
    sum(r.created + r.updated + r.deleted + r.quarantined)::bigint
FROM unnest(%s::text[], %s::text[]) AS w (connection, stream)
JOIN integrations.run_log r ON r.connection = w.connection AND r.stream = w.stream
WHERE r.started_at > now() - make_interval(hours => %s) AND r.started_at <= now()
GROUP BY 1, 2
"""


# The streams that were read to their end since then, with the run that did it. What is being committed is for later.
READ = """
SELECT s.connection, s.stream, s.last_success, r.run_id, r.fetched, r.created, r.updated, r.unchanged, r.deleted,
    r.skipped, r.quarantined, r.superseded, r.requests
FROM integrations.stream_state s CROSS JOIN LATERAL (
    SELECT * FROM integrations.run_log l WHERE l.connection = s.connection AND l.stream = s.stream
        AND l.status = 'succeeded' AND l.mode IN ('incremental', 'full') ORDER BY l.started_at DESC LIMIT 1) r
WHERE s.parent_key = '' AND s.active AND s.last_success > %s AND s.last_success <= now() - interval '2 seconds'
ORDER BY s.last_success LIMIT 200
"""


@dataclass(frozen=True)
class ReadStream:
    """A stream that was read to its end, and what its last run brought."""

    connection: str
    stream: str
    last_success: datetime
    run_id: UUID
    fetched: int
    created: int
    updated: int
    unchanged: int
    deleted: int
    skipped: int
    quarantined: int
    superseded: int
    requests: int


@dataclass(frozen=True)
class AppliedRun:
    """A minute of the fast lane, of one stream."""

    connection: str
    stream: str
    started_at: datetime
    fetched: int
    created: int
    updated: int
    unchanged: int
    deleted: int
    skipped: int
    quarantined: int
    superseded: int


@dataclass(frozen=True)
class RejectedRule:
    """Rows that broke one rule in one field. ``samples`` are the values as they came."""

    stage: str
    rule: str
    field: str
    rows: int
    message: str
    samples: list[str | None]


@dataclass(frozen=True)
class StreamClock:
    """The times that decide when a stream is due; None for what never was.

    ``paused_until``: of an open breaker, when its source may be tried again; in the past once that time has come.
    ``last_event``: when events of it were applied since the last poll; None also where a poll found webhooks missing.
    """

    connection: str
    stream: str
    active: bool
    resume_at: datetime | None
    last_full_refresh: datetime | None
    last_started: datetime | None
    paused_until: datetime | None = None
    last_event: datetime | None = None

    def may_run(self, now: datetime) -> bool:
        """Whether a run makes sense: the stream isn't stopped, and calls to its source aren't paused."""
        return self.active and (self.paused_until is None or self.paused_until <= now)


def rejected_rules(session: psycopg.Connection[Any], connection: str, stream: str, run_id: UUID) -> list[RejectedRule]:
    """What the run rejected and is still in quarantine; at most 20 rules."""
    cursor = session.cursor(row_factory=class_row(RejectedRule))
    return cursor.execute(REJECTED, (connection, stream, run_id)).fetchall()


def applied_since(session: psycopg.Connection[Any], since: datetime) -> list[AppliedRun]:
    """What the gateway applied in runs that began after ``since`` and have ended, the oldest first."""
    return session.cursor(row_factory=class_row(AppliedRun)).execute(APPLIED, (since,)).fetchall()


def read_since(session: psycopg.Connection[Any], since: datetime) -> list[ReadStream]:
    """Streams read to their end after ``since``, in that order; at most 200, the others are for the next time."""
    return session.cursor(row_factory=class_row(ReadStream)).execute(READ, (since,)).fetchall()


def open_quarantine(session: psycopg.Connection[Any], connection: str, stream: str) -> int:
    """How many of the stream's rows are in quarantine, from whichever run."""
    row = session.execute(OPEN, (connection, stream)).fetchone()
    return int(row[0]) if row else 0


def kind_held(session: psycopg.Connection[Any], kind: str) -> tuple[int, int]:
    """Live and deleted records of a kind; zeros before its table is made."""
    table = f"canonical.{kind}"
    if session.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,):
        return 0, 0
    row = session.execute(sql.SQL(HELD).format(table=canonical_table(kind))).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def unshaped(session: psycopg.Connection[Any], connection: str, stream: str, digest: str) -> bool:
    """Whether the stream has something to shape with the mapping of that digest; False for one never synced."""
    if session.execute("SELECT to_regclass(%s)", [f"raw.{connection}__{stream}"]).fetchone() == (None,):
        return False
    statement = sql.SQL(UNSHAPED).format(raw=raw_table(connection, stream))
    row = session.execute(statement, {"connection": connection, "stream": stream, "digest": digest}).fetchone()
    return bool(row and row[0])


def untried(session: psycopg.Connection[Any], connection: str, stream: str, digest: str) -> bool:
    """Whether quarantine holds rows to be tried again, under boundary rules of that digest."""
    row = session.execute(UNTRIED, {"connection": connection, "stream": stream, "digest": digest}).fetchone()
    return bool(row and row[0])


def stream_clocks(session: psycopg.Connection[Any], streams: Iterable[tuple[str, str]]) -> list[StreamClock]:
    """The clocks of the named (connection, stream) pairs, in any order."""
    connections, names = zip(*streams, strict=True) if (streams := list(streams)) else ((), ())
    cursor = session.cursor(row_factory=class_row(StreamClock))
    return cursor.execute(CLOCKS, (list(connections), list(names))).fetchall()


def postpone(session: psycopg.Connection[Any], connection: str, streams: Iterable[str]) -> None:
    """Lets streams that fell due while calls are paused resume when the source may be tried again."""
    session.execute(POSTPONE, (connection, list(streams)))


def records_per_hour(
    session: psycopg.Connection[Any], streams: Iterable[tuple[str, str]], hours: int
) -> dict[str, list[int]]:
    """By connection, of its named streams together: what was new, changed or rejected in each hour, oldest first."""
    connections, names = zip(*streams, strict=True) if (streams := list(streams)) else ((), ())
    counted = {name: [0] * hours for name in connections}
    for connection, hour, records in session.execute(HOURS, (list(connections), list(names), hours)).fetchall():
        counted[connection][hours - 1 - hour] = records
    return counted
