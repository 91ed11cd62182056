"""Fields that were written without being told what the source made of them: its answer held no record, or a part
of one.

A link says so by a `sent` that equals its `base`, and by `unread_at`, the time of the last such write. The next read of
the record tells: what stands there is the source's form of ours. It becomes the base, and ours stays what was sent, so
that nothing goes out for it. Where it is the value from before the write, the source has kept its own; but only a page
that was asked for after the write says so. Until one did, landing has each read of the record shaped, also one that
brings what is stored.
"""

from __future__ import annotations

from integrations_pipeline.store.holder import Holder

# Of rows that wait to be shaped. `earlier`: what was written, and what stood there before, back through the writes.
READ_FORMS = """
WITH looked AS MATERIALIZED (
    SELECT s._key AS external_id, s._base AS theirs, l.ctid AS _link, l.canonical_id, l.base, l.sent, l.unread_at,
           coalesce((SELECT r.fetched_at <= l.unread_at FROM {raw} r WHERE r.external_id = s._key), false) AS early
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON l.deleted_at IS NULL AND (l.sent IS NOT NULL OR l.unread_at IS NOT NULL)
), told AS MATERIALIZED (
    SELECT external_id, f.name, f.value, early, theirs -> f.name AS theirs, theirs -> f.name <> f.value AND EXISTS (
        WITH RECURSIVE earlier (value) AS (
            SELECT f.value
            UNION
            SELECT o.before -> f.name FROM earlier e
            JOIN (SELECT * FROM integrations.outbox WHERE canonical_id = looked.canonical_id OFFSET 0) AS o
                ON o.connection = %(connection)s AND o.stream = %(stream)s AND o.status = 'done'
                AND o.changes -> f.name = e.value)
        SELECT FROM earlier e WHERE e.value = theirs -> f.name) AS as_before
    FROM looked CROSS JOIN LATERAL jsonb_each(sent) AS f (name, value)
    WHERE base -> f.name = f.value AND theirs ? f.name
), known AS (
    SELECT external_id,
           jsonb_object_agg(name, theirs) FILTER (WHERE NOT as_before AND theirs <> value) AS forms,
           array_agg(name) FILTER (WHERE (as_before AND NOT early) OR (NOT as_before AND theirs = value)) AS plain,
           jsonb_object_agg(name, value) FILTER (WHERE as_before AND early) AS untold
    FROM told GROUP BY external_id
), left_out AS (
    UPDATE shaped s SET _base = s._base || k.untold
    FROM known k WHERE k.external_id = s._key AND k.untold IS NOT NULL
)
UPDATE integrations.link l
SET base = l.base || coalesce(k.forms, '{{}}'), sent = nullif(l.sent - coalesce(k.plain, '{{}}'), '{{}}'),
    unread_at = CASE WHEN k.untold IS NOT NULL THEN l.unread_at END
FROM looked LEFT JOIN known k USING (external_id)
WHERE l.ctid = looked._link AND (k.external_id IS NOT NULL OR looked.unread_at IS NOT NULL)
"""

FORGET = """
UPDATE integrations.link SET unread_at = NULL
WHERE connection = %(connection)s AND stream = %(stream)s AND unread_at IS NOT NULL
"""


def forget_unread(held: Holder) -> None:
    """Of a stream that isn't written any more nothing waits to be read."""
    held.write(lambda session: session.execute(FORGET, held.names))
