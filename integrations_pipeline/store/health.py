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

WEEKLY_FROM_DAYS = 21
"""With as many days known, a day is compared with those of the same weekday."""

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
# freshness, not of rows: a day on which nothing was read to its end is no day. Of a stream known for three weeks the
# same weekdays are enough, which reads a fifth.
DAYS = """
SELECT w.connection, w.stream, d.day, r.*
FROM unnest(%(connections)s::text[], %(streams)s::text[], %(untils)s::timestamptz[], %(known)s::int[])
    AS w (connection, stream, until, known)
CROSS JOIN LATERAL generate_series(0, w.known, CASE WHEN w.known >= %(weeks)s THEN 7 ELSE 1 END) AS d (day)
CROSS JOIN LATERAL (SELECT w.until - make_interval(days => d.day)) AS e (until)
CROSS JOIN LATERAL (
    SELECT sum(fetched)::bigint AS fetched, sum(quarantined)::bigint AS rejected,
        sum(created + updated + deleted + quarantined)::bigint AS changed, max(fetched) AS held,
        coalesce(max(fetched) FILTER (WHERE started_at > e.until - interval '1 hour'), 0) AS hour_held,
        coalesce(sum(created + updated + deleted + quarantined)
            FILTER (WHERE started_at > e.until - interval '1 hour'), 0)::bigint AS hour_changed
    FROM integrations.run_log l WHERE l.connection = w.connection AND l.stream = w.stream
        AND l.started_at <= e.until AND l.started_at > e.until - interval '1 day'
        AND l.mode IN ('incremental', 'full', 'events', 'immediately') HAVING bool_or(l.status = 'succeeded')) r
"""

# What waits or was given up, and whether calls are paused, by connection.
CONNECTIONS = """
SELECT w.connection, now() AS asked_at, b.opened_at AS down_since, b.reason AS down_reason, b.retry_at,
    coalesce(b.failures, 0) AS failures, coalesce(i.waiting, 0) AS inbox, i.oldest AS inbox_oldest,
    coalesce(o.waiting, 0) AS outbox, o.oldest AS outbox_oldest, coalesce(o.parked, 0) AS parked,
    coalesce(d.letters, 0) AS dead_letters, d.reason AS dead_reason, coalesce(c.conflicts, 0) AS conflicts
FROM unnest(%(connections)s::text[]) WITH ORDINALITY AS w (connection, place)
LEFT JOIN integrations.breaker b ON b.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS waiting, min(received_at) AS oldest FROM integrations.inbox
    WHERE status IN ('received', 'leased') GROUP BY 1) i ON i.connection = w.connection
LEFT JOIN (SELECT connection, count(*) FILTER (WHERE status <> 'parked') AS waiting,
        min(queued_at) FILTER (WHERE status <> 'parked') AS oldest, count(*) FILTER (WHERE status = 'parked') AS parked
    FROM integrations.outbox WHERE status IN ('queued', 'sending', 'unsure', 'parked') GROUP BY 1) o
    ON o.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS letters, (array_agg(reason ->> 'message' ORDER BY id DESC))[1] AS reason
    FROM integrations.dead_letter WHERE status = 'open' GROUP BY 1) d ON d.connection = w.connection
LEFT JOIN (SELECT connection, count(*) AS conflicts FROM integrations.conflict
    WHERE status = 'open' GROUP BY 1) c ON c.connection = w.connection
ORDER BY w.place
"""

# The runs of the last 24 hours, summed up.
LAST_DAY = """
SELECT connection, stream, sum(fetched)::bigint AS fetched, sum(created)::bigint AS created,
    sum(updated)::bigint AS updated, sum(unchanged)::bigint AS unchanged, sum(deleted)::bigint AS deleted,
    sum(skipped)::bigint AS skipped, sum(quarantined)::bigint AS quarantined, sum(superseded)::bigint AS superseded,
    sum(tombstoned)::bigint AS tombstoned, sum(requests)::bigint AS requests, sum(waited_seconds) AS waited_seconds,
    count(*) FILTER (WHERE status = 'succeeded') AS succeeded, count(*) FILTER (WHERE status = 'deferred') AS deferred,
    count(*) FILTER (WHERE status = 'failed') AS failed
FROM integrations.run_log WHERE connection = ANY (%s) AND started_at > now() - interval '1 day'
GROUP BY 1, 2 ORDER BY 1, 2
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
class DaySums:
    """A stream's runs of the last 24 hours: rows by what became of them, requests, waits, runs by how they ended."""

    connection: str
    stream: str
    fetched: int
    created: int
    updated: int
    unchanged: int
    deleted: int
    skipped: int
    quarantined: int
    superseded: int
    tombstoned: int
    requests: int
    waited_seconds: float
    succeeded: int
    deferred: int
    failed: int


@dataclass(frozen=True)
class StreamHealth:
    """A stream's facts. ``error`` is that of the failed run after the last success, ``failed_run`` its id.

    ``usual_seconds`` is the median of up to 30 runs before the last one, of the same mode. ``days``: 0 are the 24 hours
    before the last complete poll; a day without a run that succeeded is missing. Nothing is known of a stream that
    never ran.
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

    @property
    def known_days(self) -> int:
        """Whole days of history before day 0, less the day of the first sync, which brings all there is."""
        if self.began is None or self.last_success is None:
            return 0
        return max(min((self.last_success - self.began).days - 1, HISTORY_DAYS), 0)

    @property
    def compared_days(self) -> list[int]:
        """The days that day 0 is compared with: the same weekdays, while too few are known all days."""
        weekly = self.known_days >= WEEKLY_FROM_DAYS
        return list(range(7, self.known_days + 1, 7)) if weekly else list(range(1, self.known_days + 1))


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
    parked: int
    dead_letters: int
    dead_reason: str | None
    conflicts: int


class Histories:
    """What is known of streams' days, kept while their last complete poll is the same."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, str], tuple[datetime | None, dict[int, DayCount]]] = {}

    def of(self, session: psycopg.Connection[Any], rows: Sequence[StreamHealth]) -> list[dict[int, DayCount]]:
        """For each of the streams, in their order."""
        keys = [(row.connection, row.stream) for row in rows]
        fresh = [row for key, row in zip(keys, rows, strict=True) if self._is_new(key, row)]
        found: dict[tuple[str, str], dict[int, DayCount]] = {}
        if fresh:
            for one in session.cursor(row_factory=class_row(DayCount)).execute(DAYS, asked(fresh)):
                found.setdefault((one.connection, one.stream), {})[one.day] = one
        for row in fresh:
            key = (row.connection, row.stream)
            self._days[key] = (row.last_success, found.get(key, {}))
        return [self._days[key][1] for key in keys]

    def _is_new(self, key: tuple[str, str], row: StreamHealth) -> bool:
        return key not in self._days or self._days[key][0] != row.last_success


def asked(rows: Sequence[StreamHealth]) -> dict[str, Any]:
    """Whose days, until when, and how many."""
    return {
        "connections": [row.connection for row in rows],
        "streams": [row.stream for row in rows],
        "untils": [row.last_success for row in rows],
        "known": [row.known_days for row in rows],
        "weeks": WEEKLY_FROM_DAYS,
    }


def streams_health(
    session: psycopg.Connection[Any], wanted: Iterable[tuple[str, str]], histories: Histories | None = None
) -> list[StreamHealth]:
    """The (connection, stream) pairs, in their order. Who looks often hands over ``histories``."""
    names, streams = zip(*wanted, strict=True) if (wanted := list(wanted)) else ((), ())
    values = {"connections": list(names), "streams": list(streams)}
    findings: dict[tuple[str, str], list[OpenFinding]] = {}
    for found in open_findings(session):
        findings.setdefault((found.connection, found.stream), []).append(found)
    lost = losses(session, sorted(set(names)))
    rows = session.cursor(row_factory=class_row(StreamHealth)).execute(STREAMS, values).fetchall()
    days = (histories or Histories()).of(session, rows)
    return [
        replace(row, days=counted, findings=findings.get(key, []), loss=lost.get(key))
        for row, counted in zip(rows, days, strict=True)
        for key in [(row.connection, row.stream)]
    ]


def connections_health(session: psycopg.Connection[Any], names: Sequence[str]) -> list[ConnectionHealth]:
    """In the order of their names as given."""
    cursor = session.cursor(row_factory=class_row(ConnectionHealth))
    return cursor.execute(CONNECTIONS, {"connections": list(names)}).fetchall()


def runs_that_told(session: psycopg.Connection[Any], run_ids: Sequence[str]) -> set[str]:
    """Those of the runs whose failure our own log tells."""
    return {run_id for (run_id,) in session.execute(TOLD_RUNS, [list(run_ids)])}


def day_sums(session: psycopg.Connection[Any], names: Sequence[str]) -> list[DaySums]:
    """Of the connections' streams that ran in the last 24 hours."""
    return session.cursor(row_factory=class_row(DaySums)).execute(LAST_DAY, [list(names)]).fetchall()
