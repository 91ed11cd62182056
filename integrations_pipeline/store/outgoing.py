"""What a change would send now: one canonical record beside what was last agreed with the source about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.store.agreed import Writeback, ours
from integrations_pipeline.store.changes import READY
from integrations_pipeline.store.outbox import Change
from integrations_pipeline.store.tables import canonical_table, raw_table

# Ours, what was agreed, and the source's record as it was last seen. A field that a person is to decide about, or that
# points to a record which isn't here yet (unless it was set here meanwhile), isn't ours to send.
COMPARE = """
SELECT c.deleted_at IS NOT NULL, to_jsonb(c), ours, l.external_id, l.base, l.sent,
    ARRAY(SELECT name FROM jsonb_object_keys(ours) AS f (name)
          WHERE l.base ? name AND (coalesce(NOT l.pending ? name, true) OR ours -> name <> 'null')
            AND ours -> name IS DISTINCT FROM coalesce(l.sent -> name, l.base -> name)
            AND NOT EXISTS (SELECT FROM integrations.conflict p WHERE p.canonical_id = c.id AND p.status = 'open'
                AND p.connection = %(connection)s AND p.stream = %(stream)s AND p.field = name)),
    EXISTS (SELECT FROM integrations.conflict p WHERE p.canonical_id = c.id AND p.status = 'open'
        AND p.connection = %(connection)s AND p.stream = %(stream)s AND p.field = ''), r.payload
FROM {canonical} c
CROSS JOIN LATERAL (SELECT {ours} AS ours OFFSET 0) AS o
LEFT JOIN LATERAL (SELECT * FROM integrations.link l WHERE l.canonical_id = c.id OFFSET 0) AS l
    ON l.connection = %(connection)s AND l.stream = %(stream)s AND l.deleted_at IS NULL
LEFT JOIN LATERAL (SELECT payload FROM {raw} r WHERE r.external_id = l.external_id OFFSET 0) AS r ON true
WHERE c.id = %(canonical_id)s ORDER BY l.external_id = %(external_id)s DESC, l.external_id LIMIT 1
"""

# The source's record as it was last seen.
SEEN = "SELECT payload FROM {raw} WHERE external_id = %s"

# Ours moved on while the change was under way: merge looks at the record again.
RECHECK = """
UPDATE integrations.link SET recheck = true
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s AND deleted_at IS NULL
"""

# Connections with work: since when the oldest of it waits, and a text that changes once that was tried. Where calls to
# the source are paused, or it told everybody to wait, that is over first.
DUE = """
SELECT connection, min(coalesce(next_try_at, queued_at)),
    (array_agg(concat_ws('/', id, status, tries, extract(epoch FROM next_try_at)) ORDER BY id))[1]
FROM integrations.outbox o
WHERE (status = 'answered' OR (status IN ('queued', 'unsure') AND (next_try_at IS NULL OR next_try_at <= now()))
       OR (status = 'sending' AND leased_until < now()))
  AND (status = 'answered' OR NOT EXISTS (
      SELECT FROM integrations.outbox e WHERE e.connection = o.connection AND e.stream = o.stream
        AND e.canonical_id = o.canonical_id AND e.id < o.id AND e.status IN ('queued', 'sending', 'unsure', 'parked')))
  AND NOT EXISTS (
      SELECT FROM integrations.outbox p WHERE p.connection = o.connection AND p.status IN ('queued', 'unsure')
        AND p.next_try_at > now() AND p.reason ->> 'class' = ANY(%(pausing)s))
GROUP BY connection ORDER BY 2
"""
# How much merge would have to look at, as far as counted.
UNMERGED = """
SELECT coalesce(m.declared = %(declared)s, false),
    (SELECT count(*) FROM (SELECT FROM {canonical} WHERE edit_stamp >= coalesce(m.merged_below, '0'::xid8)
                           LIMIT %(limit)s) AS edited)
    + (SELECT count(*) FROM (SELECT FROM integrations.link
                             WHERE connection = %(connection)s AND stream = %(stream)s AND recheck
                             LIMIT %(limit)s) AS asked)
FROM (SELECT) AS once
LEFT JOIN integrations.merge_state m ON m.connection = %(connection)s AND m.stream = %(stream)s
"""

PAUSING = ["rate_limited", "transient", "breaker_open", "credentials", "permission"]
"""Reasons that would meet every change of the connection."""


@dataclass(frozen=True, slots=True)
class Compared:
    """``changed``: the fields that are to be sent. ``base`` is None without a live link; ``parked``: a person is to
    decide about the whole record."""

    deleted: bool
    canonical: dict[str, Any]
    ours: dict[str, Any]
    external_id: str | None
    base: dict[str, Any] | None
    sent: dict[str, Any] | None
    changed: list[str]
    parked: bool
    record: dict[str, Any] | None


def compare(session: psycopg.Connection[Any], one: Change, kind: Kind, writeback: Writeback) -> Compared | None:
    """None where the canonical record is gone. The session is one of ``Sessions``."""
    statement = sql.SQL(COMPARE).format(
        canonical=canonical_table(kind.kind), raw=raw_table(one.connection, one.stream), ours=ours(kind, writeback)
    )
    row = session.execute(statement, names(one)).fetchone()
    return Compared(*row) if row else None


def seen_record(session: psycopg.Connection[Any], one: Change) -> dict[str, Any] | None:
    """The source's record as it was last seen; None where it never was."""
    statement = sql.SQL(SEEN).format(raw=raw_table(one.connection, one.stream))
    row = session.execute(statement, (one.external_id,)).fetchone()
    return row[0] if row else None


def recheck(session: psycopg.Connection[Any], one: Change) -> None:
    """Lets merge compare the record again."""
    session.execute(RECHECK, names(one))


def names(one: Change) -> dict[str, str | UUID | None]:
    return {
        "connection": one.connection,
        "stream": one.stream,
        "external_id": one.external_id,
        "canonical_id": one.canonical_id,
    }


def due_pushes(session: psycopg.Connection[Any]) -> list[tuple[str, datetime, str]]:
    """Each connection with changes that may be sent now, or answers to land: since when, and a text that changes once
    the oldest was tried; the longest wait first."""
    return session.execute(DUE, {"pausing": PAUSING}).fetchall()


def unmerged(
    session: psycopg.Connection[Any], connection: str, stream: str, kind: str, declared: str, *, limit: int
) -> int:
    """How many records merge would compare for a stream that it may look at, counted up to ``limit`` each by edits and
    by links; ``limit`` where its `write` was edited, so that all are."""
    given = {"connection": connection, "stream": stream, "declared": declared, "limit": limit}
    ready = session.execute(READY, given).fetchone()
    if ready is None or not ready[0]:
        return 0
    row = session.execute(sql.SQL(UNMERGED).format(canonical=canonical_table(kind)), given).fetchone()
    return 0 if row is None else int(row[1]) if row[0] else limit
