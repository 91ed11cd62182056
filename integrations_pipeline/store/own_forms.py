"""Fields that were written without being told what the source made of them: its answer held no record, or a part
of one.

A link says so by a `sent` that equals its `base`. The first read after the write tells: what stands there is the
source's form of ours. It becomes the base, and ours stays what was sent, so that nothing goes out for it. What was read
before the write tells nothing of these fields, whenever it is shaped.

So that the read after the write is shaped even where it finds the row as it was, the raw row's hash is emptied: that is
how landing knows of it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.store.tables import raw_table

# Of rows that wait to be shaped. Where the source shows the value from before the write, it has kept its own.
READ_FORMS = """
WITH told AS MATERIALIZED (
    SELECT s._key AS external_id, l.ctid AS _link, f.name, f.value, s._base -> f.name AS theirs,
           EXISTS (SELECT FROM {raw} r WHERE r.external_id = s._key AND r.fetched_at <= l.unread_at) AS too_early,
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
    FROM told WHERE NOT too_early GROUP BY _link
), kept AS (
    SELECT external_id, jsonb_object_agg(name, value) AS fields FROM told WHERE too_early GROUP BY external_id
), left_out AS (
    UPDATE shaped s SET _base = s._base || k.fields FROM kept k WHERE k.external_id = s._key
), again AS (
    UPDATE {raw} r SET hash = '' FROM kept k WHERE k.external_id = r.external_id
)
UPDATE integrations.link l
SET base = l.base || coalesce(k.forms, '{{}}'), sent = nullif(l.sent - coalesce(k.plain, '{{}}'), '{{}}'),
    unread_at = NULL
FROM known k WHERE l.ctid = k._link
"""

READ_AGAIN = "UPDATE {raw} SET hash = '' WHERE external_id = %s"


def read_again(session: psycopg.Connection[Any], connection: str, stream: str, external_id: str) -> None:
    """The next read that brings the record is shaped, even where it brings what is stored."""
    session.execute(sql.SQL(READ_AGAIN).format(raw=raw_table(connection, stream)), (external_id,))
