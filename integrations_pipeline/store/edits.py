"""Edits that came through the gateway: noted in the transaction of the edit, and where each stands on its way out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import args_row, dict_row

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.limits import EDIT_DAYS
from integrations_pipeline.store.agreed import Writeback, ours
from integrations_pipeline.store.tables import canonical_table

Operation = Literal["create", "update", "delete"]

# A create asked for again with the same key waits here for the first one's transaction, and notes nothing.
NOTE = """
INSERT INTO integrations.edit (kind, record_id, operation, idempotency_key, request_hash)
VALUES (%(kind)s, %(record_id)s, %(operation)s, %(key)s, %(hash)s)
ON CONFLICT (kind, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id
"""
BY_KEY = "SELECT id, record_id, request_hash FROM integrations.edit WHERE kind = %s AND idempotency_key = %s"
BY_ID = "SELECT id, kind, record_id, operation, stamp::text, edited_at FROM integrations.edit WHERE id = %s"

# A bounded piece: each edit takes one away.
PRUNE = """
DELETE FROM integrations.edit WHERE id IN (
    SELECT id FROM integrations.edit WHERE edited_at < now() - %s ORDER BY edited_at LIMIT 100 FOR UPDATE SKIP LOCKED)
"""

# Of each place that the kind is written to: the first change that was made of the edit or of a later one, else one that
# waited already and takes later edits along; open conflicts of the record; whether the edit was looked at.
FOLLOW = """
SELECT w.connection, w.stream, o.id, o.operation, o.status, o.outcome, o.tries, o.next_try_at, o.reason, o.queued_at,
    o.finished_at, coalesce(m.merged_below > %(stamp)s::xid8, false) AS looked_at,
    ARRAY(SELECT c.id FROM integrations.conflict c WHERE c.canonical_id = %(record_id)s AND c.status = 'open'
          AND c.connection = w.connection AND c.stream = w.stream ORDER BY c.id) AS conflicts
FROM unnest(%(connections)s::text[], %(streams)s::text[]) WITH ORDINALITY AS w (connection, stream, place)
LEFT JOIN integrations.merge_state m ON m.connection = w.connection AND m.stream = w.stream
LEFT JOIN LATERAL (
    SELECT * FROM integrations.outbox o WHERE o.canonical_id = %(record_id)s AND o.connection = w.connection
      AND o.stream = w.stream AND (o.edited_at >= %(edited_at)s OR (m.merged_below > %(stamp)s::xid8
          AND (o.first_sent_at >= %(edited_at)s OR o.status = 'queued' AND o.first_sent_at IS NULL)))
    ORDER BY o.edited_at < %(edited_at)s, o.id LIMIT 1) AS o ON true
ORDER BY w.place
"""

# Of a place where no change was made of the edit: the record's last one, where it carries what the record says by now
# and hasn't reached the source.
CARRIED = """
SELECT o.id, o.operation, o.status, o.outcome, o.tries, o.next_try_at, o.reason, o.queued_at, o.finished_at
FROM (SELECT * FROM integrations.outbox WHERE canonical_id = %(record_id)s AND connection = %(connection)s
        AND stream = %(stream)s ORDER BY id DESC LIMIT 1) AS o
JOIN {canonical} c ON c.id = o.canonical_id
WHERE o.status NOT IN ('answered', 'done') AND CASE WHEN o.operation = 'delete' THEN c.deleted_at IS NOT NULL
    ELSE c.deleted_at IS NULL AND {ours} @> coalesce(o.found, o.changes) END
"""


class Noted(NamedTuple):
    """An edit whose idempotency key is known: which record it made, and of which request."""

    id: UUID
    record_id: UUID
    request_hash: bytes


class Edit(NamedTuple):
    """An edit through the gateway. ``stamp`` is the record's edit_stamp (xid8 as text)."""

    id: UUID
    kind: str
    record_id: UUID
    operation: Operation
    stamp: str
    edited_at: datetime


def note_edit(
    session: psycopg.Connection[Any],
    kind: str,
    record_id: UUID,
    operation: Operation,
    *,
    key: str | None = None,
    request_hash: bytes | None = None,
) -> UUID | None:
    """Notes an edit in its transaction; its id, or None where another one has the idempotency key."""
    session.execute(PRUNE, (timedelta(days=EDIT_DAYS),))
    values = {"kind": kind, "record_id": record_id, "operation": operation, "key": key, "hash": request_hash}
    row = session.execute(NOTE, values).fetchone()
    return row[0] if row else None


def edit_of_key(session: psycopg.Connection[Any], kind: str, key: str) -> Noted | None:
    """What was made with an idempotency key."""
    return session.cursor(row_factory=args_row(Noted)).execute(BY_KEY, (kind, key)).fetchone()


def one_edit(session: psycopg.Connection[Any], edit_id: UUID) -> Edit | None:
    """The edit of that id, while it is kept."""
    return session.cursor(row_factory=args_row(Edit)).execute(BY_ID, (edit_id,)).fetchone()


def follow(
    session: psycopg.Connection[Any], edit: Edit, kind: Kind, places: Mapping[tuple[str, str], Writeback]
) -> list[dict[str, Any]]:
    """Where the edit stands in each (connection, stream), in their order; columns as ``FOLLOW`` names them. Of an edit
    to what was refused or given up before, or is under way, that change is told."""
    connections, streams = [one for one, _ in places], [one for _, one in places]
    values = {**edit._asdict(), "connections": connections, "streams": streams}
    cursor = session.cursor(row_factory=dict_row)
    rows = cursor.execute(FOLLOW, values).fetchall()
    for row in rows:
        if row["status"] is None and row["looked_at"]:
            statement = sql.SQL(CARRIED).format(
                canonical=canonical_table(kind.kind), ours=ours(kind, places[row["connection"], row["stream"]])
            )
            row.update(cursor.execute(statement, edit._asdict() | row).fetchone() or {})
    return rows
