"""What a run did, with samples, told by what it left: asked inside the rehearsal that is then undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import args_row
from psycopg.types.json import set_json_loads

from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.store.outbox import COLUMNS, Change, Payload, change
from integrations_pipeline.store.quarantine import jsonb_text
from integrations_pipeline.store.tables import raw_table

# Per sort of outcome the first records in the order of their keys, as (sort, id, before, after, reason).
BROUGHT = """
WITH noted AS MATERIALIZED (
    SELECT DISTINCT ON (external_id) external_id, decision, reason, detail FROM integrations.decision
    WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s AND stage = %(stage)s
      AND decision IN ('created', 'updated', 'matched', 'deleted') AND external_id IS NOT NULL
    ORDER BY external_id, decision <> 'deleted'
), made AS MATERIALIZED (
    SELECT l.external_id, l.base FROM integrations.link l
    WHERE %(stage)s = 'canonical' AND l.run_id = %(run_id)s AND l.connection = %(connection)s AND l.stream = %(stream)s
      AND l.linked_at = now() AND NOT EXISTS (SELECT FROM noted n WHERE n.external_id = l.external_id)
), told AS (
    SELECT 'created' AS sort, external_id, NULL::jsonb AS before, base AS after, NULL AS reason FROM made
    UNION ALL
    SELECT CASE decision WHEN 'matched' THEN 'updated' ELSE decision END, external_id,
        CASE decision WHEN 'created' THEN NULL WHEN 'deleted' THEN NULL
             ELSE (SELECT jsonb_object_agg(key, value -> 0) FROM jsonb_each(detail)) END,
        CASE decision WHEN 'created' THEN (SELECT payload FROM {raw} r WHERE r.external_id = noted.external_id)
             WHEN 'deleted' THEN NULL
             ELSE (SELECT jsonb_object_agg(key, value -> 1) FROM jsonb_each(detail)) END,
        concat_ws(', ', CASE WHEN decision = 'matched' THEN 'matched' END, reason)
    FROM noted WHERE decision = 'deleted' OR decision = 'created' OR detail IS NOT NULL
    UNION ALL
    SELECT 'conflicts', external_id, jsonb_build_object(field, base),
        jsonb_build_object('ours', ours, 'theirs', theirs), concat_ws(': ', nullif(field, ''), reason)
    FROM integrations.conflict
    WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s AND status = 'open'
    UNION ALL
    SELECT 'quarantined', external_id, NULL, NULL,
        concat_ws(': ', nullif(reasons -> 0 ->> 'field', ''), reasons -> 0 ->> 'message')
    FROM integrations.quarantine
    WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s AND status = 'open'
)
SELECT sort, external_id, before, after, nullif(reason, '') FROM (
    SELECT *, row_number() OVER (PARTITION BY sort ORDER BY external_id) AS place FROM told) AS numbered
WHERE place <= %(samples)s ORDER BY sort, place
"""

CONFLICTS = """
SELECT count(*) FROM integrations.conflict
WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s AND status = 'open'
"""

# What would be written: all that waits in the outbox by now.
LEAVING = """
SELECT CASE WHEN status = 'parked' THEN 'parked' ELSE operation || 'd' END, count(*) FROM integrations.outbox
WHERE connection = %(connection)s AND stream = %(stream)s AND status IN ('queued', 'sending', 'unsure', 'parked')
GROUP BY 1
"""
UNTRIED = f"""
SELECT {COLUMNS} FROM integrations.outbox
WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'queued' AND first_sent_at IS NULL
"""
SENT = """
UPDATE integrations.outbox SET status = %(status)s, operation = %(operation)s, external_id = %(external_id)s,
    changes = %(changes)s::jsonb, before = %(before)s::jsonb
WHERE id = %(id)s
"""
LEAVING_SAMPLES = """
SELECT sort, id, before, after, reason FROM (
    SELECT operation || 'd' AS sort, coalesce(external_id, canonical_id::text) AS id,
        CASE WHEN operation = 'create' THEN NULL ELSE before END AS before,
        CASE WHEN operation = 'delete' THEN NULL ELSE changes END AS after, reason ->> 'message' AS reason,
        row_number() OVER (PARTITION BY operation ORDER BY id) AS place
    FROM integrations.outbox
    WHERE connection = %(connection)s AND stream = %(stream)s AND status IN ('queued', 'sending', 'unsure')) AS numbered
WHERE place <= %(samples)s ORDER BY sort, place
"""

# Living raw rows in the order of their keys, with what each was mapped to last and whether that failed.
MAPPED = """
SELECT r.external_id, r.payload, r.version, l.base, EXISTS (
    SELECT FROM integrations.quarantine q WHERE q.connection = %(connection)s AND q.stream = %(stream)s
      AND q.stage = 'mapping' AND q.status = 'open' AND q.external_id = r.external_id)
FROM {raw} r
LEFT JOIN integrations.link l ON l.connection = %(connection)s AND l.stream = %(stream)s
    AND l.external_id = r.external_id AND l.kind = %(kind)s AND l.deleted_at IS NULL
WHERE r.deleted_at IS NULL AND r.external_id > %(after)s ORDER BY r.external_id LIMIT %(limit)s
"""

HELD = "SELECT count(*) FROM (SELECT FROM {raw} LIMIT %s) AS some"


class Sample(NamedTuple):
    """One record: which sort it is counted as, its fields before and after (None: there was, or is, none)."""

    sort: str
    id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None


def brought(
    session: psycopg.Connection[Any], connection: str, stream: str, run_id: UUID, *, mapped: bool, samples: int
) -> tuple[int, list[Sample]]:
    """Conflicts that the run opened, and samples of what it brought: canonical records, or raw ones without `map`."""
    values = {"connection": connection, "stream": stream, "run_id": run_id, "samples": samples}
    query = sql.SQL(BROUGHT).format(raw=raw_table(connection, stream))
    stage = "canonical" if mapped else "raw"
    found = session.cursor(row_factory=args_row(Sample)).execute(query, {**values, "stage": stage}).fetchall()
    row = session.execute(CONFLICTS, values).fetchone()
    return (row[0] if row else 0), found


def untried(session: psycopg.Connection[Any], connection: str, stream: str) -> list[Change]:
    """Changes of which it isn't fixed yet what is sent."""
    rows = session.execute(UNTRIED, {"connection": connection, "stream": stream}).fetchall()
    return [change(row) for row in rows]


def rehearse(session: psycopg.Connection[Any], one: Change, payload: Payload | None) -> None:
    """As a push would leave it: what is sent of it, or nothing."""
    kept = payload or Payload(one.operation, one.external_id, one.changes, one.before)
    given = kept._asdict() | {"id": one.id, "status": "queued" if payload is not None else "done"}
    texts = {name: jsonb_text(given[name]) for name in ("changes", "before")}
    session.execute(SENT, given | texts)


def leaving(
    session: psycopg.Connection[Any], connection: str, stream: str, *, samples: int
) -> tuple[dict[str, int], list[Sample]]:
    """What waits to be written, counted as ``created``, ``updated``, ``deleted`` and ``parked``, with samples."""
    values = {"connection": connection, "stream": stream, "samples": samples}
    counts = dict(session.execute(LEAVING, values).fetchall())
    return counts, session.cursor(row_factory=args_row(Sample)).execute(LEAVING_SAMPLES, values).fetchall()


def holds_more(session: psycopg.Connection[Any], connection: str, stream: str, rows: int) -> bool:
    """Whether the stream holds more raw rows than that."""
    row = session.execute(sql.SQL(HELD).format(raw=raw_table(connection, stream)), (rows + 1,)).fetchone()
    return row is not None and row[0] > rows


class MappedRow(NamedTuple):
    """A raw row. ``base``: what it was mapped to last, None where it never was; ``failed``: it is in quarantine."""

    external_id: str
    payload: dict[str, Any]
    version: str
    base: dict[str, Any] | None
    failed: bool


def mapped_rows(
    session: psycopg.Connection[Any], connection: str, stream: str, kind: str, *, limit: int
) -> Iterator[list[MappedRow]]:
    """All living raw rows of a stream in batches of at most ``limit``."""
    query = sql.SQL(MAPPED).format(raw=raw_table(connection, stream))
    place = {"connection": connection, "stream": stream, "kind": kind, "after": "", "limit": limit}
    cursor = session.cursor(row_factory=args_row(MappedRow))
    set_json_loads(decode, cursor)  # type: ignore[arg-type]  # exact numbers
    while rows := cursor.execute(query, place).fetchall():
        yield rows
        place["after"] = rows[-1].external_id
