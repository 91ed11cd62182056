"""All that the tables hold of one record, for people who ask what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.tables import canonical_table, raw_table

Row = dict[str, Any]
MOST = 200
"""Of each kind of traces the latest are read: a record that changes each minute has many."""

RAW = """
SELECT payload::text AS payload, version, fetched_at, deleted_at, parent_key FROM {raw} WHERE external_id = %(key)s
"""

# Of the raw records only: their table may be missing.
EXISTS = "SELECT to_regclass(%s) IS NOT NULL AS found"

LINK = """
SELECT kind, canonical_id, base, sent, pending, linked_at, run_id, deleted_at FROM integrations.link
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(key)s
"""
OTHERS = """
SELECT connection, stream, external_id, deleted_at FROM integrations.link
WHERE canonical_id = %(canonical_id)s AND (connection, stream, external_id) <> (%(connection)s, %(stream)s, %(key)s)
ORDER BY connection, stream, external_id LIMIT 20
"""
CANONICAL = "SELECT to_jsonb(c) - '{{edit_stamp}}'::text[] AS record FROM {table} c WHERE id = %(canonical_id)s"

DECISIONS = """
SELECT at, run_id, stage, decision, reason, detail, call FROM integrations.decision
WHERE external_id = %(key)s AND connection = %(connection)s AND stream = %(stream)s ORDER BY at DESC LIMIT %(most)s
"""
QUARANTINE = """
SELECT id, stage, status, attempts, reasons, payload::text AS payload, run_id, first_seen, last_seen, closed_at
FROM integrations.quarantine
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(key)s
ORDER BY first_seen DESC LIMIT %(most)s
"""
EVENTS = """
SELECT id, event_id, event_type, status, outcome, reason, tries, received_at, finished_at FROM integrations.inbox
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(key)s
ORDER BY received_at DESC LIMIT %(most)s
"""
CHANGES = """
SELECT id, operation, status, outcome, reason, changes, before, tries, run_id, edited_at, queued_at, first_sent_at,
    answered_at, finished_at
FROM integrations.outbox
WHERE connection = %(connection)s AND stream = %(stream)s
  AND (external_id = %(key)s OR canonical_id = %(canonical_id)s)
ORDER BY id DESC LIMIT %(most)s
"""
CONFLICTS = """
SELECT id, field, base, ours, theirs, reason, status, resolution, resolved_by, opened_at, closed_at
FROM integrations.conflict
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(key)s ORDER BY id DESC LIMIT %(most)s
"""

# The calls that brought it or were answered for it, by what its decisions name; those of its runs that name it in their
# path; and what failed, or told too little, while one of its creates was sent.
CALLS = """
SELECT DISTINCT h.id, h.at, h.run_id, h.method, h.url, h.attempt, h.waited_seconds, h.wait_reason, h.status, h.seconds,
    h.request_id, h.rows, h.outcome, h.error, h.response_body
FROM integrations.http_log h
WHERE h.id = ANY(%(calls)s::bigint[])
   OR (h.connection = %(connection)s AND h.stream = %(stream)s AND h.run_id = ANY(%(runs)s::uuid[])
       AND h.rows IS NULL AND right(split_part(h.url, '?', 1), length(%(named)s)) = %(named)s)
   OR (h.connection = %(connection)s AND h.stream = %(stream)s AND h.method <> 'GET'
       AND EXISTS (
       SELECT FROM integrations.outbox o
       WHERE o.id = ANY(%(changes)s::bigint[]) AND o.operation = 'create' AND h.run_id = o.run_id
         AND (h.error IS NOT NULL OR o.outcome IN ('read_back', 'resolved'))
         AND h.at BETWEEN o.first_sent_at - interval '1 second' AND coalesce(o.answered_at, o.finished_at, now())))
ORDER BY h.at DESC LIMIT %(most)s
"""
RUNS = """
SELECT run_id, mode, status, started_at, finished_at FROM integrations.run_log
WHERE connection = %(connection)s AND stream = %(stream)s AND run_id = ANY(%(runs)s::uuid[])
"""
DRIFT = """
SELECT kind, path, severity, samples, first_seen, last_seen FROM integrations.drift
WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'open' ORDER BY first_seen LIMIT %(most)s
"""

# How the stream stands: what a record that isn't here may owe to it.
STREAM = """
SELECT s.last_success, s.last_full_refresh, s.watermark, s.resume_at, s.last_error, s.active, s.mapping_hash,
    (SELECT count(*) FROM integrations.quarantine q WHERE q.connection = %(connection)s AND q.stream = %(stream)s
        AND q.status = 'open' AND q.external_id IS NULL) AS keyless
FROM integrations.stream_state s
WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.parent_key = ''
"""
LATEST = """
SELECT run_id, mode, status, started_at, fetched, skipped, quarantined FROM integrations.run_log
WHERE connection = %(connection)s AND stream = %(stream)s AND mode <> 'push' ORDER BY started_at DESC LIMIT 1
"""
LIKE_IT = "SELECT external_id FROM {raw} ORDER BY stamp DESC, external_id LIMIT 3"


# The last of each record; some may have come in since.
LATELY = """
SELECT at, external_id, decision, reason, run_id FROM (
    SELECT DISTINCT ON (external_id) at, external_id, decision, reason, run_id FROM integrations.decision
    WHERE connection = %(connection)s AND stream = %(stream)s
      AND decision IN ('skipped', 'quarantined', 'discarded', 'deleted') AND external_id IS NOT NULL
    ORDER BY external_id, at DESC) AS last
ORDER BY at DESC, external_id LIMIT %(most)s
"""


@dataclass
class Life:
    """Rows as they stand in their tables; the latest first, ``limits`` aside."""

    raw: Row | None
    link: Row | None
    others: list[Row]
    canonical: Row | None
    decisions: list[Row]
    quarantine: list[Row]
    events: list[Row]
    changes: list[Row]
    conflicts: list[Row]
    calls: list[Row]
    runs: list[Row]
    drift: list[Row]
    stream: Row | None
    latest: Row | None
    alike: list[str]


def read_life(session: psycopg.Connection[Any], connection: str, stream: str, key: str, named: str) -> Life:
    """What the tables hold of a record. ``named``: how the end of a URL's path names it. Raises DestinationError."""
    with destination_errors(f"{connection}/{stream}"):
        return Reading(session, connection, stream, key).life(named)


def left_out(session: psycopg.Connection[Any], connection: str, stream: str, most: int) -> list[Row]:
    """The records that were left out last, the latest first. Raises DestinationError."""
    with destination_errors(f"{connection}/{stream}"):
        cursor = session.cursor(row_factory=dict_row)
        return cursor.execute(LATELY, {"connection": connection, "stream": stream, "most": most}).fetchall()


class Reading:
    """The questions about one record."""

    def __init__(self, session: psycopg.Connection[Any], connection: str, stream: str, key: str):
        self.cursor = session.cursor(row_factory=dict_row)
        self.place: Row = {"connection": connection, "stream": stream, "key": key, "most": MOST}
        self.raw = raw_table(connection, stream)
        self.has_raw = bool(self.ask(EXISTS, [self.raw.as_string(None)])[0]["found"])

    def ask(self, query: str | sql.Composed, values: Any = None) -> list[Row]:
        return self.cursor.execute(query, self.place if values is None else values).fetchall()

    def one(self, query: str | sql.Composed) -> Row | None:
        return next(iter(self.ask(query)), None)

    def of_raw(self, query: str) -> list[Row]:
        return self.ask(sql.SQL(query).format(raw=self.raw)) if self.has_raw else []

    def life(self, named: str) -> Life:
        link = self.one(LINK)
        self.place["canonical_id"] = link["canonical_id"] if link else None
        decisions, quarantine = self.ask(DECISIONS), self.ask(QUARANTINE)
        changes = self.ask(CHANGES)
        runs = {row["run_id"] for row in [*decisions, *quarantine, *changes, *([link] if link else [])]}
        self.place |= {
            "runs": [one for one in runs if isinstance(one, UUID)],
            "calls": [row["call"] for row in decisions if row["call"] is not None],
            "changes": [row["id"] for row in changes],
            "named": named,
        }
        return Life(
            raw=next(iter(self.of_raw(RAW)), None),
            link=link,
            others=self.ask(OTHERS) if link else [],
            canonical=self.canonical(link),
            decisions=decisions,
            quarantine=quarantine,
            events=self.ask(EVENTS),
            changes=changes,
            conflicts=self.ask(CONFLICTS),
            calls=self.ask(CALLS),
            runs=self.ask(RUNS),
            drift=self.ask(DRIFT),
            stream=self.one(STREAM),
            latest=self.one(LATEST),
            alike=[row["external_id"] for row in self.of_raw(LIKE_IT)],
        )

    def canonical(self, link: Row | None) -> Row | None:
        if link is None:
            return None
        row = self.one(sql.SQL(CANONICAL).format(table=canonical_table(link["kind"])))
        return row["record"] if row else None
