"""Fields that were written without being told what the source made of them: its answer held no record, or a part
of one.

A link says so by a `sent` that equals its `base`. The first read of the record tells: what stands there is the source's
form of ours. It becomes the base, and ours stays what was sent, so that nothing goes out for it.
"""

from __future__ import annotations

# Of rows that wait to be shaped. Where the source shows the value from before the write, it has kept its own.
READ_FORMS = """
WITH told AS MATERIALIZED (
    SELECT l.ctid AS _link, f.name, s._base -> f.name AS theirs,
           s._base -> f.name <> f.value AND NOT EXISTS (
               SELECT FROM (SELECT * FROM integrations.outbox WHERE canonical_id = l.canonical_id OFFSET 0) AS o
               WHERE o.connection = %(connection)s AND o.stream = %(stream)s AND o.status = 'done'
                 AND o.changes -> f.name = f.value AND o.before -> f.name = s._base -> f.name) AS own_form
    FROM shaped s
    JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON l.deleted_at IS NULL AND l.sent IS NOT NULL
    CROSS JOIN LATERAL jsonb_each(l.sent) AS f (name, value)
    WHERE l.base -> f.name = f.value AND s._base ? f.name
), known AS (
    SELECT _link, jsonb_object_agg(name, theirs) FILTER (WHERE own_form) AS forms,
           array_agg(name) FILTER (WHERE NOT own_form) AS plain
    FROM told GROUP BY _link
)
UPDATE integrations.link l
SET base = l.base || coalesce(k.forms, '{}'), sent = nullif(l.sent - coalesce(k.plain, '{}'), '{}')
FROM known k WHERE l.ctid = k._link
"""
