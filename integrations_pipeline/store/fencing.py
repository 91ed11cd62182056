"""What is known of records that events speak of, so that an older event never overwrites a newer state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.tables import raw_table

# Stored records, and the highest order of the events that were applied to them or came too late for them.
KNOWN = """
SELECT k.key, r.version, r.fetched_at, r.deleted_at, e.highest
FROM unnest(%(keys)s::text[]) AS k (key)
LEFT JOIN LATERAL (SELECT version, fetched_at, deleted_at FROM {raw} r WHERE r.external_id = k.key OFFSET 0) r ON true
LEFT JOIN LATERAL (
    SELECT max(order_value) AS highest FROM integrations.inbox i
    WHERE i.connection = %(connection)s AND i.stream = %(stream)s AND i.external_id = k.key AND i.status = 'done'
    OFFSET 0) e ON true
"""

# A version of the stream's own, to know whether its versions are times.
SAMPLE = "SELECT version FROM {raw} WHERE version <> '' LIMIT 1"

# What became of the rows that wait in the temporary table, once they were judged.
OUTCOMES = """
SELECT l.external_id, CASE
    WHEN r.stamp = pg_current_xact_id() THEN 'applied'
    WHEN r.external_id IS NULL OR (l.deleted AND r.deleted_at IS NOT NULL) THEN 'unchanged'
    WHEN r.hash = l.hash AND NOT l.deleted AND r.deleted_at IS NULL THEN 'unchanged'
    ELSE 'superseded' END
FROM landing l LEFT JOIN {raw} r ON r.external_id = l.external_id
"""


class Known(NamedTuple):
    """A record as it is stored, nulls where it is not; ``order`` is the highest of the events that spoke of it."""

    version: str | None
    fetched_at: datetime | None
    deleted_at: datetime | None
    order: str | None


def known_records(held: Holder, keys: Collection[str]) -> dict[str, Known]:
    """Each key's record and events. Raises DestinationError."""
    statement = sql.SQL(KNOWN).format(raw=raw_table(held.connection, held.stream))
    with held.reading() as session:
        rows = session.execute(statement, {**held.names, "keys": list(keys)}).fetchall()
    return {key: Known(*rest) for key, *rest in rows}


def sample_version(held: Holder) -> str | None:
    """The version of one stored record; None where there is none."""
    with held.reading() as session:
        row = session.execute(sql.SQL(SAMPLE).format(raw=raw_table(held.connection, held.stream))).fetchone()
    return row[0] if row else None


def landed_outcomes(session: psycopg.Connection[Any], connection: str, stream: str) -> dict[str, str]:
    """By key: applied, unchanged or superseded, inside the transaction that landed the rows."""
    return dict(session.execute(sql.SQL(OUTCOMES).format(raw=raw_table(connection, stream))).fetchall())
