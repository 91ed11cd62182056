"""Merging what comes in with what was edited here, field by field, before a chunk is shaped.

    theirs changed only   ──▶ taken, by the statement that shapes
    ours changed only     ──▶ kept; it is in the outbox
    both, to the same     ──▶ agreed
    both                  ──▶ the field's policy: theirs is taken | ours is kept and goes out | a conflict for a person

What a write of ours has brought there, whose answer isn't known yet, is no change of theirs.

Where ours is kept the link's base becomes theirs all the same: ours then differs from it, and so goes out. Ours has
changed where it is neither the base nor what was sent last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.store.agreed import THEIRS_AT, Writeback, ours
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.own_forms import READ_FORMS
from integrations_pipeline.store.tables import canonical_table

# A record as it was before our last write, read before and landed after it; or before our deletion that is to land yet.
DROP_LATE = """
DELETE FROM shaped late USING shaped s
JOIN LATERAL (
    SELECT * FROM integrations.link l
    WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
) AS l ON (l.deleted_at IS NULL AND s._version < l.answered_version)
    OR (l.deleted_here AND EXISTS (
        SELECT FROM integrations.outbox o JOIN {raw} r ON r.external_id = s._key AND r.fetched_at <= l.deleted_at
        WHERE o.canonical_id = l.canonical_id AND o.connection = l.connection AND o.stream = l.stream
          AND o.external_id = s._key AND o.operation = 'delete' AND o.status = 'answered'))
WHERE late._key = s._key
"""

# Records that are back there while their canonical row outlived them: each side's changes since the last agreement
# count, as of any linked record. Of several that had the same row one gets it. What a person was to decide about
# a field is to be decided again.
RELINK = """
WITH back AS (
    SELECT DISTINCT ON (l.canonical_id) l.ctid AS _link, l.external_id, l.deleted_at
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON l.deleted_at IS NOT NULL
    JOIN {canonical} c ON c.id = l.canonical_id AND c.deleted_at IS NULL
    WHERE NOT EXISTS (
        SELECT FROM (SELECT * FROM integrations.link WHERE canonical_id = l.canonical_id OFFSET 0) AS o
        WHERE o.deleted_at IS NULL AND o.connection = %(connection)s AND o.stream = %(stream)s)
    ORDER BY l.canonical_id, s._key
), linked AS (
    UPDATE integrations.link l SET deleted_at = NULL, deleted_here = false, recheck = true
    FROM back WHERE l.ctid = back._link
), opened AS (
    UPDATE integrations.conflict f SET status = 'open', closed_at = NULL
    WHERE f.id IN (
        SELECT max(f.id) FROM integrations.conflict f JOIN back USING (external_id)
        WHERE f.connection = %(connection)s AND f.stream = %(stream)s AND f.field <> '' AND f.status = 'settled'
          AND f.closed_at >= back.deleted_at AND NOT EXISTS (
              SELECT FROM integrations.conflict o WHERE o.connection = f.connection AND o.stream = f.stream
                AND o.external_id = f.external_id AND o.field = f.field AND o.status = 'open')
        GROUP BY f.external_id, f.field)
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'merge', 'merged', 'it is back, and was kept here meanwhile'
FROM back
"""

# A reference that waits for its record, and was set here meanwhile: ours isn't overwritten once that record is there.
SET_MEANWHILE = """
UPDATE integrations.link AS link SET pending = nullif(l.pending - l.own, '{{}}')
FROM (
    SELECT l._link, l.pending, ARRAY(SELECT key FROM jsonb_object_keys(l.pending) AS p (key)
                                     WHERE %(policies)s ? key AND to_jsonb(c) -> key <> 'null') AS own
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid AS _link, pending, canonical_id FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key
          AND l.deleted_at IS NULL AND l.pending IS NOT NULL OFFSET 0
    ) AS l ON true
    JOIN {canonical} c ON c.id = l.canonical_id
) AS l
WHERE link.ctid = l._link AND l.own <> '{{}}'
"""

# Rows of the chunk that say something else than last agreed, field by field; those that both sides changed are settled,
# and deleted ones of which the source tells more than the echo of our own write.
MERGE = """
WITH seen AS MATERIALIZED (
    SELECT s._key AS external_id, s._version AS version, s._base AS theirs, l.ctid AS _link, l.canonical_id, l.base,
           l.sent, l.pending,
           c.deleted_at, {theirs_at} >= c.edited_at AS newer, {ours} AS ours,
           ARRAY(SELECT key FROM jsonb_each(s._base) WHERE value IS DISTINCT FROM l.base -> key) AS changed
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON l.deleted_at IS NULL AND l.base <> s._base
    JOIN {canonical} c ON c.id = l.canonical_id
), news AS MATERIALIZED (
    SELECT * FROM seen WHERE deleted_at IS NOT NULL AND EXISTS (
        SELECT FROM unnest(changed) AS name WHERE NOT EXISTS (
            SELECT FROM (SELECT * FROM integrations.outbox WHERE canonical_id = seen.canonical_id OFFSET 0) AS o
            WHERE o.connection = %(connection)s AND o.stream = %(stream)s
              AND o.status IN ('sending', 'unsure', 'parked') AND o.changes -> name = theirs -> name))
), clashing AS MATERIALIZED (
    SELECT seen.*, p.name, CASE
        WHEN p.policy = 'remote_wins' OR (p.policy = 'newest_wins' AND newer) THEN 'theirs'
        WHEN p.policy = 'review' THEN 'review' ELSE 'ours' END AS winner, p.policy
    FROM seen, LATERAL (
        SELECT key AS name, CASE WHEN EXISTS (
            SELECT FROM (SELECT * FROM integrations.outbox WHERE canonical_id = seen.canonical_id OFFSET 0) AS o
            WHERE o.connection = %(connection)s AND o.stream = %(stream)s
              AND o.status IN ('sending', 'unsure', 'parked') AND o.changes -> key = theirs -> key
            ) THEN 'own_write' ELSE value END AS policy
        FROM jsonb_each_text(%(policies)s)) AS p
    WHERE p.name = ANY(changed) AND coalesce(NOT pending ? p.name, true) AND deleted_at IS NULL
      AND ours -> p.name IS DISTINCT FROM coalesce(sent -> p.name, base -> p.name, 'null')
      AND ours -> p.name IS DISTINCT FROM theirs -> p.name
), kept AS (
    SELECT external_id, jsonb_object_agg(name, theirs -> name) AS values FROM clashing WHERE winner <> 'theirs'
    GROUP BY external_id
), linked AS (
    UPDATE integrations.link l
    SET base = l.base || coalesce(k.values, '{{}}'), sent = nullif(l.sent - s.changed, '{{}}'),
        remote_version = CASE WHEN k.values IS NOT NULL THEN s.version ELSE l.remote_version END,
        recheck = l.recheck OR k.values IS NOT NULL OR s.deleted_at IS NOT NULL
    FROM seen s LEFT JOIN kept k USING (external_id)
    WHERE l.ctid = s._link AND (k.values IS NOT NULL OR l.sent ?| s.changed OR s.deleted_at IS NOT NULL)
), parked AS (
    INSERT INTO integrations.conflict AS c
        (connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason, run_id)
    SELECT %(connection)s, %(stream)s, external_id, %(kind)s, canonical_id, name, base -> name, ours -> name,
           theirs -> name, 'changed here and at the source', %(run_id)s
    FROM clashing WHERE winner = 'review'
    UNION ALL
    SELECT %(connection)s, %(stream)s, external_id, %(kind)s, canonical_id, '', base, NULL, theirs,
           'deleted here, changed at the source', %(run_id)s
    FROM news WHERE %(when_deleted)s = 'review'
    ORDER BY 3, 6
    ON CONFLICT (connection, stream, external_id, field) WHERE status = 'open'
    DO UPDATE SET ours = excluded.ours, theirs = excluded.theirs, run_id = excluded.run_id
), revived AS (
    UPDATE {canonical} c SET deleted_at = NULL
    FROM news WHERE c.id = news.canonical_id AND c.deleted_at IS NOT NULL
      AND (%(when_deleted)s = 'remote_wins' OR (%(when_deleted)s = 'newest_wins' AND newer))
    RETURNING news.external_id
), noted AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
    SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'merge', 'merged', 'both sides changed it',
           jsonb_object_agg(name, jsonb_build_object('base', base -> name, 'ours', ours -> name,
               'theirs', theirs -> name, 'policy', policy, 'winner', winner))
    FROM clashing GROUP BY external_id
    UNION ALL
    SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'merge', 'merged',
           'deleted here, changed at the source: ' || %(when_deleted)s, NULL
    FROM news
)
SELECT count(*) FROM clashing
"""

# After the chunk was shaped: a match joined a record with what was here before. What differs goes out, or to a person.
JOINED = """
WITH joined AS MATERIALIZED (
    SELECT l.ctid AS _link, l.external_id, l.canonical_id, l.base, {ours} AS ours
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON l.linked_at = now() AND l.canonical_id <> s._new_id
    JOIN {canonical} c ON c.id = l.canonical_id
), apart AS MATERIALIZED (
    SELECT joined.*, p.name, p.policy = 'review' AND NOT EXISTS (
        SELECT FROM (SELECT * FROM integrations.outbox WHERE canonical_id = joined.canonical_id OFFSET 0) AS o
        WHERE o.connection = %(connection)s AND o.stream = %(stream)s
          AND o.status IN ('sending', 'unsure', 'parked') AND o.changes -> p.name = base -> p.name) AS asks
    FROM joined, jsonb_each_text(%(policies)s) AS p (name, policy)
    WHERE ours -> p.name IS DISTINCT FROM base -> p.name
), checked AS (
    UPDATE integrations.link l SET recheck = true FROM apart a WHERE l.ctid = a._link
)
INSERT INTO integrations.conflict
    (connection, stream, external_id, kind, canonical_id, field, ours, theirs, reason, run_id)
SELECT %(connection)s, %(stream)s, external_id, %(kind)s, canonical_id, name, ours -> name, base -> name,
       'joined by a match, and not the same', %(run_id)s
FROM apart WHERE asks AND ours -> name <> 'null' AND base -> name <> 'null'
ORDER BY external_id, name
ON CONFLICT (connection, stream, external_id, field) WHERE status = 'open' DO NOTHING
"""

# Deleted there, and edited here since last agreed: whether the canonical row stays.
OUTLIVE = """
WITH edited AS MATERIALIZED (
    SELECT l.ctid AS _link, l.external_id, l.canonical_id, l.base, ours, CASE
        WHEN %(when_deleted)s = 'review' THEN 'review'
        WHEN %(when_deleted)s = 'local_wins' OR (%(when_deleted)s = 'newest_wins' AND c.edited_at > coalesce(
            (SELECT {deleted_at} FROM {raw} r WHERE r.external_id = l.external_id), now())) THEN 'ours'
        ELSE 'theirs' END AS winner
    FROM integrations.link l JOIN {canonical} c ON c.id = l.canonical_id AND c.deleted_at IS NULL
    CROSS JOIN LATERAL (SELECT {ours} AS ours OFFSET 0) AS o
    WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = ANY(%(keys)s::text[])
      AND l.deleted_at IS NULL
      AND EXISTS (SELECT FROM jsonb_object_keys(%(policies)s) AS p (name)
                  WHERE (coalesce(NOT l.pending ? p.name, true) OR ours -> p.name <> 'null')
                    AND ours -> p.name IS DISTINCT FROM coalesce(l.sent -> p.name, l.base -> p.name, 'null'))
), again AS (
    UPDATE integrations.link l SET recheck = true FROM edited e WHERE l.ctid = e._link AND e.winner = 'ours'
), parked AS (
    INSERT INTO integrations.conflict
        (connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason, run_id)
    SELECT %(connection)s, %(stream)s, external_id, %(kind)s, canonical_id, '', base, ours, NULL,
           'changed here, deleted at the source', %(run_id)s
    FROM edited WHERE winner = 'review'
    ON CONFLICT (connection, stream, external_id, field) WHERE status = 'open'
    DO UPDATE SET ours = excluded.ours, theirs = NULL
), noted AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
    SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'merge', 'merged',
           'changed here, deleted at the source: ' || %(when_deleted)s, jsonb_build_object('ours', ours)
    FROM edited
)
SELECT canonical_id FROM edited WHERE winner <> 'theirs'
"""

# Conflicts that ended by themselves: both sides say the same of the field by now, or it is gone there; or the record
# lives on both, on none, or another one has taken its place there. Where it lives on both again, what was changed here
# meanwhile is looked at once more: it was left alone while the whole record waited.
SETTLE_CONFLICTS = """
WITH settled AS (
    UPDATE integrations.conflict f SET status = 'settled', closed_at = now()
    FROM integrations.link l JOIN {canonical} c ON c.id = l.canonical_id
    WHERE f.connection = %(connection)s AND f.stream = %(stream)s AND f.status = 'open'
      AND l.connection = f.connection AND l.stream = f.stream AND l.external_id = f.external_id
      AND CASE WHEN f.field <> '' THEN l.deleted_at IS NOT NULL OR ({ours}) -> f.field = l.base -> f.field
               ELSE (l.deleted_at IS NULL) = (c.deleted_at IS NULL) OR EXISTS (
                   SELECT FROM (SELECT * FROM integrations.link WHERE canonical_id = c.id OFFSET 0) AS o
                   WHERE o.deleted_at IS NULL AND o.connection = f.connection AND o.stream = f.stream
                     AND o.external_id <> f.external_id) END
    RETURNING f.external_id, f.field
)
UPDATE integrations.link l SET recheck = true FROM settled s
WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s.external_id AND s.field = ''
  AND l.deleted_at IS NULL
"""


@dataclass
class Merging:
    """The merge of one chunk, inside its transaction and with its kind locked."""

    held: Holder
    session: psycopg.Connection[Any]
    kind: Kind
    writeback: Writeback

    def before(self) -> int:
        """Settles what both sides changed, of the rows that wait to be shaped. Returns how many were late: those are
        left out."""
        late = self.session.execute(self.composed(DROP_LATE), self.held.names).rowcount
        self.session.execute(self.composed(RELINK), self.held.names)
        self.session.execute(self.composed(READ_FORMS), self.held.names)
        if self.writeback.references:
            self.session.execute(self.composed(SET_MEANWHILE), self.named())
        self.session.execute(self.composed(MERGE), self.named())
        return late

    def after(self) -> None:
        """Looks at what was joined by a match, and ends conflicts that are none any more."""
        self.session.execute(self.composed(JOINED), self.named())
        settle_conflicts(self.session, self.held.connection, self.held.stream, self.kind, self.writeback)

    def outliving(self, keys: Sequence[str]) -> list[Any]:
        """The canonical ids that stay although their record was deleted at the source: they were edited here."""
        statement, names = self.composed(OUTLIVE), self.named() | {"keys": list(keys)}
        return [row[0] for row in self.session.execute(statement, names)]

    def named(self) -> dict[str, Any]:
        return self.held.names | {
            "kind": self.kind.kind,
            "policies": Jsonb(dict(self.writeback.policies)),
            "when_deleted": self.writeback.when_deleted,
        }

    def composed(self, statement: str) -> sql.Composed:
        version = sql.SQL(THEIRS_AT)
        return sql.SQL(statement).format(
            canonical=canonical_table(self.kind.kind),
            raw=sql.Identifier("raw", f"{self.held.connection}__{self.held.stream}"),
            ours=ours(self.kind, self.writeback),
            theirs_at=version.format(version=sql.Identifier("s", "_version")),
            deleted_at=version.format(version=sql.Identifier("r", "version")),
        )


def settle_conflicts(
    session: psycopg.Connection[Any], connection: str, stream: str, kind: Kind, writeback: Writeback
) -> None:
    """Ends the open conflicts of a stream that ended by themselves."""
    statement = sql.SQL(SETTLE_CONFLICTS).format(canonical=canonical_table(kind.kind), ours=ours(kind, writeback))
    session.execute(statement, {"connection": connection, "stream": stream})
