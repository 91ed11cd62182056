"""Profiles and findings of drift: read before a pull, written with each of its chunks, accepted by people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import args_row, class_row

from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.drift import Drift, FieldProfile
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.quarantine import jsonb_text

FIELDS = """
SELECT path, rows, filled, missing, types, "values" FROM integrations.profile
WHERE connection = %(connection)s AND stream = %(stream)s
"""
OPEN = """
SELECT kind, path, severity, found, samples, rows, looked, calm FROM integrations.drift
WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'open'
"""

# The profile as it is now; one statement for all paths.
WRITE_FIELDS = """
INSERT INTO integrations.profile (connection, stream, path, rows, filled, missing, types, "values")
SELECT %(connection)s, %(stream)s, path, rows, filled, missing, types::jsonb, "values"::jsonb
FROM unnest(%(paths)s::text[], %(rows)s::bigint[], %(filled)s::bigint[], %(missing)s::bigint[], %(types)s::text[],
            %(values)s::text[]) AS g (path, rows, filled, missing, types, "values")
ON CONFLICT (connection, stream, path) DO UPDATE SET rows = excluded.rows, filled = excluded.filled,
    missing = excluded.missing, types = excluded.types, "values" = excluded."values"
"""

# One open finding per kind and path: it is told once, and its end is noted. `last_seen` is when rows last showed it.
WRITE_DRIFT = """
INSERT INTO integrations.drift AS d
    (connection, stream, kind, path, severity, found, samples, rows, looked, calm, run_id)
VALUES (%(connection)s, %(stream)s, %(kind)s, %(path)s, %(severity)s, %(found)s::jsonb, %(samples)s::jsonb, %(rows)s,
        %(looked)s, %(calm)s, %(run_id)s)
ON CONFLICT (connection, stream, kind, path) WHERE status = 'open' DO UPDATE SET
    severity = excluded.severity, found = excluded.found, samples = excluded.samples, rows = excluded.rows,
    looked = excluded.looked, calm = excluded.calm, run_id = excluded.run_id,
    last_seen = CASE WHEN excluded.rows > d.rows THEN now() ELSE d.last_seen END
"""
END = """
UPDATE integrations.drift SET status = 'ended', closed_at = now(), reason = %(ended)s
WHERE connection = %(connection)s AND stream = %(stream)s AND kind = %(kind)s AND path = %(path)s AND status = 'open'
"""

LIST = """
SELECT id, connection, stream, kind, path, severity, samples, rows, looked, first_seen, last_seen
FROM integrations.drift
WHERE status = 'open' AND (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(stream)s::text IS NULL OR stream = %(stream)s)
ORDER BY connection, stream, severity, first_seen, id
"""
IDS = """
SELECT connection, stream, array_agg(id) FROM integrations.drift WHERE id = ANY(%s) AND status = 'open' GROUP BY 1, 2
"""

# What a person accepts is what the profile is from now on.
ACCEPT = """
WITH taken AS (
    UPDATE integrations.drift SET status = 'accepted', closed_at = now()
    WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'open'
      AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
    RETURNING kind, path, found
), met AS (
    INSERT INTO integrations.profile (connection, stream, path, rows, filled, missing, types, "values")
    SELECT %(connection)s, %(stream)s, path, 0, 0, 0, '{}', NULL FROM taken WHERE kind = 'new_field'
    ON CONFLICT DO NOTHING
), left_out AS (
    DELETE FROM integrations.profile p USING taken t
    WHERE p.connection = %(connection)s AND p.stream = %(stream)s AND p.path = t.path AND t.kind = 'vanished_field'
), widened AS (
    UPDATE integrations.profile p SET
        types = CASE t.kind WHEN 'changed_type' THEN p.types || (SELECT jsonb_object_agg(k, 0)
            FROM jsonb_array_elements_text(t.found) k) ELSE p.types END,
        "values" = CASE t.kind WHEN 'new_value' THEN coalesce(p."values", '[]') || t.found ELSE p."values" END
    FROM taken t WHERE p.connection = %(connection)s AND p.stream = %(stream)s AND p.path = t.path
      AND t.kind IN ('changed_type', 'new_value')
)
SELECT count(*) FROM taken
"""


@dataclass(frozen=True)
class OpenFinding:
    """A finding that is neither over nor accepted. ``rows`` showed it, of ``looked`` that were looked at."""

    id: int
    connection: str
    stream: str
    kind: str
    path: str
    severity: str
    samples: list[str]
    rows: int
    looked: int
    first_seen: datetime
    last_seen: datetime


def read_profile(held: Holder) -> tuple[list[FieldProfile], list[Drift]]:
    """What is known of the stream's rows, and its open findings."""
    with held.reading() as session:
        fields = session.cursor(row_factory=args_row(FieldProfile)).execute(FIELDS, held.names).fetchall()
        return fields, session.cursor(row_factory=args_row(Drift)).execute(OPEN, held.names).fetchall()


def write_profile(
    held: Holder, session: psycopg.Connection[Any], fields: Sequence[FieldProfile], findings: Sequence[Drift]
) -> None:
    """What changed, inside the caller's transaction."""
    if fields:
        columns = {name: [getattr(one, name) for one in fields] for name in ("rows", "filled", "missing")}
        types = [encode_ascii(one.types) for one in fields]
        values = [jsonb_text(one.values) for one in fields]
        paths = [one.path for one in fields]
        session.execute(WRITE_FIELDS, {**held.names, **columns, "paths": paths, "types": types, "values": values})
    for one in findings:
        given = {**held.names, **vars(one), "found": jsonb_text(one.found), "samples": jsonb_text(one.samples)}
        session.execute(WRITE_DRIFT, given)
        if one.ended:
            session.execute(END, given)


def save_profile(held: Holder, fields: Sequence[FieldProfile], findings: Sequence[Drift]) -> None:
    """The same in a transaction of its own, at the end of a list."""
    if fields or findings:
        held.write(lambda session: write_profile(held, session, fields, findings))


def open_findings(
    session: psycopg.Connection[Any], connection: str | None = None, stream: str | None = None
) -> list[OpenFinding]:
    """Findings of all connections unless one is named, errors before warnings."""
    cursor = session.cursor(row_factory=class_row(OpenFinding))
    return cursor.execute(LIST, {"connection": connection, "stream": stream}).fetchall()


def finding_places(session: psycopg.Connection[Any], ids: Sequence[int]) -> dict[tuple[str, str], list[int]]:
    """Connection and stream of the findings that are open of these ids."""
    return {(connection, stream): found for connection, stream, found in session.execute(IDS, [list(ids)])}


def accept(held: Holder, ids: Sequence[int] | None) -> int:
    """Takes open findings over into the profile, all unless ids are given. Returns how many."""
    values = {**held.names, "ids": None if ids is None else list(ids)}

    def work(session: psycopg.Connection[Any]) -> int:
        row = session.execute(ACCEPT, values).fetchone()
        return int(row[0]) if row else 0

    return held.write(work)
