"""What is known of each stream's and each connection's health: facts, by few statements over all of them at once.

Judging them is `sync/expecting.py`'s and `sync/conditions.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from integrations_pipeline.store.judging import Loss, losses
from integrations_pipeline.store.profiles import OpenFinding, open_findings

HISTORY_DAYS = 28
"""How far a stream's own history is looked back: four of each weekday."""

# How each stream stands by its polls. A death without a word is no failure yet: the next run goes on by itself.
STREAMS = """
SELECT w.connection, w.stream, coalesce(s.active, true) AS active, now() AS asked_at, s.last_success,
    s.last_full_refresh, s.resume_at, b.began, d.deferred_since, f.run_id AS failed_run, f.finished_at AS failed_at,
    CASE WHEN s.error_count > 0 THEN f.error END AS error, l.run_id AS last_run, l.seconds AS last_seconds,
    t.median AS usual_seconds, coalesce(t.runs, 0) AS usual_runs, e.error AS deferred_error,
    coalesce((SELECT count(*) FROM integrations.quarantine q
        WHERE q.connection = w.connection AND q.stream = w.stream AND q.status = 'open'), 0) AS quarantine_open
FROM unnest(%(connections)s::text[], %(streams)s::text[]) WITH ORDINALITY AS w (connection, stream, place)
LEFT JOIN integrations.stream_state s
    ON s.connection = w.connection AND s.stream = w.stream AND s.parent_key = ''
LEFT JOIN LATERAL (SELECT min(started_at) AS began FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream) b ON true
LEFT JOIN LATERAL (SELECT min(started_at) AS deferred_since FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream AND r.status = 'deferred' AND s.resume_at IS NOT NULL
      AND r.started_at > coalesce(s.last_success, '-infinity')) d ON true
LEFT JOIN LATERAL (SELECT r.error FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream AND r.status = 'deferred' AND s.resume_at IS NOT NULL
      AND r.started_at > coalesce(s.last_success, '-infinity') ORDER BY r.started_at DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT r.run_id, r.error, r.finished_at FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream AND r.status = 'failed' AND s.error_count > 0
      AND r.mode IN ('incremental', 'full') AND r.started_at > coalesce(s.last_success, '-infinity')
      AND r.error ->> 'who' <> 'nobody'
    ORDER BY r.started_at DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT r.run_id, r.mode, r.started_at,
        extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream AND r.status = 'succeeded'
      AND r.mode IN ('incremental', 'full') ORDER BY r.started_at DESC LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT count(*) AS runs, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median FROM (
    SELECT extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds FROM integrations.run_log r
    WHERE r.connection = w.connection AND r.stream = w.stream AND r.status = 'succeeded' AND r.mode = l.mode
      AND r.started_at < l.started_at ORDER BY r.started_at DESC LIMIT 30) earlier) t ON true
ORDER BY w.place
"""

# Rows that came, in the days back from the last complete poll: day 0 are the 24 hours before it; hour: in the same hour
# of each day. changed: new or different; held: of the run that read most. A poll that wasn't made is a matter of
# freshness, not of rows.
DAYS = """
SELECT connection, stream, floor(age / 86400)::int AS day,
    sum(fetched)::bigint AS fetched, sum(quarantined)::bigint AS rejected, sum(changed)::bigint AS changed,
    max(fetched) AS held, coalesce(max(fetched) FILTER (WHERE mod(age, 86400) < 3600), 0) AS hour_held,
    coalesce(sum(changed) FILTER (WHERE mod(age, 86400) < 3600), 0)::bigint AS hour_changed
FROM (SELECT s.connection, s.stream, extract(epoch FROM s.last_success - r.started_at) AS age, r.fetched, r.quarantined,
        r.created + r.updated + r.deleted + r.quarantined AS changed
    FROM unnest(%(connections)s::text[], %(streams)s::text[]) AS w (connection, stream)
    JOIN integrations.stream_state s ON s.connection = w.connection AND s.stream = w.stream AND s.parent_key = ''
    JOIN integrations.run_log r ON r.connection = w.connection AND r.stream = w.stream
        AND r.started_at <= s.last_success AND r.started_at > s.last_success - make_interval(days => %(days)s)
        AND r.mode IN ('incremental', 'full', 'events', 'immediately')) came
GROUP BY 1, 2, 3
"""

# What waits or was given up, and whether calls are paused, by connection.
CONNECTIONS = """
SELECT w.connection, now() AS asked_at, b.opened_at AS down_since, b.reason AS down_reason, b.retry_at,
    coalesce(b.failures, 0) AS failures, coalesce(i.waiting, 0) AS inbox, i.oldest AS inbox_oldest,
    coalesce(o.waiting, 0) AS outbox, o.oldest AS outbox_oldest,
    coalesce(d.letters, 0) AS dead_letters, d.reason AS dead_reason, coalesce(c.conflicts, 0) AS conflicts
FROM unnest(%(connections)s::text[]) WITH ORDINALITY AS w (connection, place)
LEFT JOIN integrations.breaker b ON b.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS waiting, min(received_at) AS oldest FROM integrations.inbox
    WHERE status IN ('received', 'leased') GROUP BY 1) i ON i.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS waiting, min(queued_at) AS oldest FROM integrations.outbox
    WHERE status IN ('queued', 'sending', 'unsure') GROUP BY 1) o ON o.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS letters, (array_agg(reason ->> 'message' ORDER BY id DESC))[1] AS reason
    FROM integrations.dead_letter WHERE status = 'open' GROUP BY 1) d ON d.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS conflicts FROM integrations.conflict
    WHERE status = 'open' GROUP BY 1) c ON c.connection = w.connection
ORDER BY w.place
"""

# Those of the runs that failed in words: the streams' own state tells of them.
TOLD_RUNS = (
    "SELECT DISTINCT run_id::text FROM integrations.run_log WHERE run_id = ANY (%s::uuid[]) AND status = 'failed'"
)


@dataclass(frozen=True)
class DayCount:
    """The rows of one day back from a stream's last complete poll, and of that day's same hour."""

    connection: str
    stream: str
    day: int
    fetched: int
    rejected: int
    changed: int
    held: int
    hour_held: int
    hour_changed: int


@dataclass(frozen=True)
class StreamHealth:
    """A stream's facts. ``error`` is that of the failed run after the last success, ``failed_run`` its id.

    ``usual_seconds`` is the median of up to 30 runs before the last one, of the same mode. ``days``: 0 are the 24 hours
    before the last complete poll; a day without a run is missing. Nothing is known of a stream that never ran.
    """

    connection: str
    stream: str
    active: bool
    asked_at: datetime
    last_success: datetime | None
    last_full_refresh: datetime | None
    resume_at: datetime | None
    began: datetime | None
    deferred_since: datetime | None
    deferred_error: dict[str, Any] | None
    failed_run: UUID | None
    failed_at: datetime | None
    error: dict[str, Any] | None
    last_run: UUID | None
    last_seconds: float | None
    usual_seconds: float | None
    usual_runs: int
    quarantine_open: int
    days: dict[int, DayCount] = field(default_factory=dict)
    findings: list[OpenFinding] = field(default_factory=list)
    loss: Loss | None = None


@dataclass(frozen=True)
class ConnectionHealth:
    """What waits, and since when; ``down_since``: calls to the source are paused since then."""

    connection: str
    asked_at: datetime
    down_since: datetime | None
    down_reason: str | None
    retry_at: datetime | None
    failures: int
    inbox: int
    inbox_oldest: datetime | None
    outbox: int
    outbox_oldest: datetime | None
    dead_letters: int
    dead_reason: str | None
    conflicts: int


def streams_health(session: psycopg.Connection[Any], wanted: Iterable[tuple[str, str]]) -> list[StreamHealth]:
    """The (connection, stream) pairs, in their order."""
    names, streams = zip(*wanted, strict=True) if (wanted := list(wanted)) else ((), ())
    values = {"connections": list(names), "streams": list(streams), "days": HISTORY_DAYS + 1}
    days: dict[tuple[str, str], dict[int, DayCount]] = {}
    for one in session.cursor(row_factory=class_row(DayCount)).execute(DAYS, values):
        days.setdefault((one.connection, one.stream), {})[one.day] = one
    findings: dict[tuple[str, str], list[OpenFinding]] = {}
    for found in open_findings(session):
        findings.setdefault((found.connection, found.stream), []).append(found)
    lost = losses(session, sorted(set(names)))
    rows = session.cursor(row_factory=class_row(StreamHealth)).execute(STREAMS, values).fetchall()
    return [
        replace(row, days=days.get(key, {}), findings=findings.get(key, []), loss=lost.get(key))
        for row in rows
        for key in [(row.connection, row.stream)]
    ]


def connections_health(session: psycopg.Connection[Any], names: Sequence[str]) -> list[ConnectionHealth]:
    """In the order of their names as given."""
    cursor = session.cursor(row_factory=class_row(ConnectionHealth))
    return cursor.execute(CONNECTIONS, {"connections": list(names)}).fetchall()


def runs_that_told(session: psycopg.Connection[Any], run_ids: Sequence[str]) -> set[str]:
    """Those of the runs whose failure our own log tells."""
    return {run_id for (run_id,) in session.execute(TOLD_RUNS, [list(run_ids)])}
