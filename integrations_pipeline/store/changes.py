"""Finding what was changed here and isn't at a source yet: from edit stamps to rows of the outbox, set by set.

A record is compared where its canonical row was stamped since the last look, or its link asks for it. Rows of
transactions still open then are looked at again by the next one, so a row may be compared twice, and none is missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.conditions import Condition
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.store.agreed import Writeback, ours
from integrations_pipeline.store.merging import settle_conflicts
from integrations_pipeline.store.shaping import LOCK_KIND
from integrations_pipeline.store.tables import canonical_table

# One look at a time.
BEGIN = """
INSERT INTO integrations.merge_state (connection, stream) VALUES (%(connection)s, %(stream)s) ON CONFLICT DO NOTHING
"""
MARKS = """
SELECT CASE WHEN declared = %(declared)s THEN merged_below ELSE '0'::xid8 END::text,
       pg_snapshot_xmin(pg_current_snapshot())::text
FROM integrations.merge_state WHERE connection = %(connection)s AND stream = %(stream)s FOR UPDATE
"""

# Whether the source was read once to its end, and that was shaped.
READY = """
SELECT active AND shaped_below IS NOT NULL AND (watermark IS NOT NULL OR last_full_refresh IS NOT NULL)
FROM integrations.stream_state WHERE connection = %(connection)s AND stream = %(stream)s AND parent_key = ''
"""

# What may differ, ours beside what was last agreed. A dead link asks for its record only after a decision to create it
# anew, or where we had deleted it there: what lives here was brought back since.
COMPARED = """
WITH touched AS MATERIALIZED (
    SELECT id FROM {canonical} WHERE edit_stamp >= %(since)s::xid8
    UNION
    SELECT canonical_id FROM integrations.link
    WHERE connection = %(connection)s AND stream = %(stream)s AND recheck
), compared AS MATERIALIZED (
    SELECT c.id, c.edited_at, c.deleted_at, l.external_id, l.base, ours,
           coalesce(l.recheck, dead.recheck, false) OR %(anew)s AS asked_for,
           ARRAY(SELECT name FROM jsonb_object_keys(%(policies)s) AS p (name)
                 WHERE l.base ? name AND (coalesce(NOT l.pending ? name, true) OR ours -> name <> 'null')
                   AND ours -> name IS DISTINCT FROM coalesce(l.sent -> name, l.base -> name)
                   AND NOT EXISTS (SELECT FROM integrations.conflict f WHERE f.canonical_id = c.id AND f.status = 'open'
                       AND f.connection = %(connection)s AND f.stream = %(stream)s AND f.field = name)) AS changed,
           coalesce(dead.recheck, true) AS may_be_created,
           EXISTS (SELECT FROM integrations.conflict f WHERE f.canonical_id = c.id AND f.status = 'open'
               AND f.connection = %(connection)s AND f.stream = %(stream)s AND f.field = '') AS parked
    FROM touched t
    JOIN {canonical} c USING (id)
    CROSS JOIN LATERAL (SELECT {ours} AS ours OFFSET 0) AS o
    LEFT JOIN LATERAL (
        SELECT * FROM (SELECT * FROM integrations.link WHERE canonical_id = c.id OFFSET 0) l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.deleted_at IS NULL
        ORDER BY l.external_id LIMIT 1) AS l ON true
    LEFT JOIN LATERAL (
        SELECT bool_or(d.recheck OR d.deleted_here) AS recheck
        FROM (SELECT * FROM integrations.link WHERE canonical_id = c.id OFFSET 0) d
        WHERE d.connection = %(connection)s AND d.stream = %(stream)s AND d.deleted_at IS NOT NULL) AS dead ON true
)
"""

# Updates and deletions of linked records.
QUEUE_LINKED = """
, due AS (
    SELECT id, external_id, edited_at, asked_for, 'update' AS operation,
           (SELECT jsonb_object_agg(name, ours -> name) FROM unnest(changed) AS name) AS changes,
           (SELECT jsonb_object_agg(name, base -> name) FROM unnest(changed) AS name) AS before
    FROM compared
    WHERE external_id IS NOT NULL AND deleted_at IS NULL AND changed <> '{{}}' AND NOT parked AND %(updates)s
    UNION ALL
    SELECT id, external_id, deleted_at, asked_for, 'delete', '{{}}'::jsonb, base
    FROM compared WHERE external_id IS NOT NULL AND deleted_at IS NOT NULL AND NOT parked AND %(deletes)s
)
"""

# Records that the source doesn't have. Where one of its own might be the same and waits for a person to say so, none is
# created.
QUEUE_NEW = """
, due AS (
    SELECT id, NULL AS external_id, edited_at, asked_for, 'create' AS operation, ours AS changes, NULL::jsonb AS before
    FROM compared WHERE id = ANY(%(ids)s)
)
"""
NEW = """
SELECT id, (SELECT to_jsonb(c) FROM {canonical} c WHERE c.id = compared.id) FROM compared
WHERE external_id IS NULL AND deleted_at IS NULL AND may_be_created AND NOT parked
  AND NOT EXISTS (SELECT FROM integrations.quarantine q
      WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'mapping' AND q.status = 'open'
        AND q.reasons -> 0 ->> 'rule' = 'ambiguous_match' AND position(id::text IN q.reasons -> 0 ->> 'sample') > 0)
"""

# Into the outbox, unless the same is under way, or not edited since it was refused for good, given up, or found to be
# nothing that can be sent (which may end otherwise where it is asked for, and wasn't just looked at again because of a
# transaction still open). The same is what had been found to differ, or what the first try has made of that. What waits
# untried is brought up to date.
QUEUE = """
, latest AS (
    SELECT d.*, o.status,
           d.operation = o.operation AND (d.changes = o.found OR d.changes = o.changes) AS same,
           d.edited_at <= o.finished_at AND (o.status IN ('dead', 'discarded')
               OR (o.outcome = 'nothing_to_send' AND NOT d.asked_for)) AS given_up
    FROM due d LEFT JOIN LATERAL (
        SELECT * FROM (SELECT * FROM integrations.outbox WHERE canonical_id = d.id OFFSET 0) AS o
        WHERE o.connection = %(connection)s AND o.stream = %(stream)s
          AND NOT (o.status = 'queued' AND o.tries = 0)
        ORDER BY o.id DESC LIMIT 1) AS o ON true
)
INSERT INTO integrations.outbox AS o
    (connection, stream, kind, canonical_id, external_id, operation, changes, found, before, edited_at, run_id)
SELECT %(connection)s, %(stream)s, %(kind)s, id, external_id, operation, changes, changes, before, edited_at, %(run_id)s
FROM latest
WHERE same IS NOT TRUE OR (status IN ('done', 'dead', 'discarded', 'answered') AND given_up IS NOT TRUE)
ORDER BY edited_at, id
ON CONFLICT (connection, stream, canonical_id) WHERE status = 'queued' AND tries = 0
DO UPDATE SET operation = excluded.operation, changes = excluded.changes, found = excluded.found,
    before = excluded.before, external_id = excluded.external_id
WHERE (o.operation, coalesce(o.found, o.changes)) IS DISTINCT FROM (excluded.operation, excluded.found)
RETURNING operation
"""

DONE = """
WITH looked AS (
    UPDATE integrations.link SET recheck = false
    WHERE connection = %(connection)s AND stream = %(stream)s AND recheck
)
UPDATE integrations.merge_state SET merged_below = %(mark)s::xid8, declared = %(declared)s
WHERE connection = %(connection)s AND stream = %(stream)s
"""


@dataclass(frozen=True)
class Queued:
    """What was put into the outbox by one look, or brought up to date there."""

    creates: int = 0
    updates: int = 0
    deletes: int = 0


@dataclass
class Finding:
    """One look at a kind's edits for one stream that writes it. ``declared``: changes with its `write` block."""

    session: psycopg.Connection[Any]
    connection: str
    stream: str
    kind: Kind
    writeback: Writeback
    create_when: Condition | None
    declared: str
    run_id: UUID | None = None

    def queue(self) -> Queued:
        """Runs in the caller's transaction. Does nothing before the stream was read once to its end: what it holds
        isn't known until then."""
        names = {"connection": self.connection, "stream": self.stream, "declared": self.declared}
        self.session.execute(BEGIN, names)
        since, mark = self.session.execute(MARKS, names).fetchone() or ("0", "0")
        ready = self.session.execute(READY, names).fetchone()
        if ready is None or not ready[0]:
            return Queued()
        self.session.execute(LOCK_KIND, (self.kind.kind,))
        policies = Jsonb(dict(self.writeback.policies))
        values = {**names, "since": since, "anew": since == "0", "policies": policies}
        settle_conflicts(self.session, self.connection, self.stream, self.kind, self.writeback)
        linked = self.insert(QUEUE_LINKED, values)
        ids = self.new_ones(values) if self.writeback.creates else []
        created = self.insert(QUEUE_NEW, values | {"ids": ids}) if ids else []
        self.session.execute(DONE, names | {"mark": mark})
        return Queued(len(created), linked.count("update"), linked.count("delete"))

    def new_ones(self, values: dict[str, Any]) -> list[UUID]:
        """Of the records the source doesn't have, those it is to have."""
        found: Iterable[Any] = self.session.execute(self.composed(COMPARED + NEW), values)
        return [one for one, record in found if self.create_when is None or self.create_when.holds(record)]

    def insert(self, due: str, values: dict[str, Any]) -> list[str]:
        """The operations that were queued."""
        named = values | {
            "kind": self.kind.kind,
            "run_id": self.run_id,
            "updates": self.writeback.updates,
            "deletes": self.writeback.deletes,
        }
        return [row[0] for row in self.session.execute(self.composed(COMPARED + due + QUEUE), named)]

    def composed(self, statement: str) -> sql.Composed:
        return sql.SQL(statement).format(
            canonical=canonical_table(self.kind.kind), ours=ours(self.kind, self.writeback)
        )
