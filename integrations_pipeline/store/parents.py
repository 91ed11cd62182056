"""A child stream's parents: their records, with the child's own state per parent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.tables import raw_table

BATCH = 500

# The parents in order of their key, after a key and (where given) stamped at or past a mark, with the child's state.
PARENTS = """
SELECT p.external_id, p.payload::text, p.deleted_at IS NOT NULL, s.bookmark, s.watermark, s.highest
FROM {parent} p
LEFT JOIN LATERAL (
    SELECT * FROM integrations.stream_state s
    WHERE s.connection = %(connection)s AND s.stream = %(child)s AND s.parent_key = p.external_id OFFSET 0
) AS s ON true
WHERE p.external_id > %(after)s
  AND (%(mark)s::xid8 IS NULL OR p.stamp >= %(mark)s::xid8)
  AND (p.deleted_at IS NULL OR %(with_deleted)s)
ORDER BY p.external_id
LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Parent:
    """A record of the parent stream, and how far the child has read below it."""

    external_id: str
    payload: dict[str, Any]
    deleted: bool
    bookmark: dict[str, Any] | None
    watermark: Any
    highest: Any


def parents(
    holder: Holder,
    parent_stream: str,
    *,
    after: str = "",
    mark: str | None = None,
    with_deleted: bool = False,
) -> Iterator[list[Parent]]:
    """Batches of parents in the order of their keys. ``mark`` (an xid8) leaves out those unchanged since."""
    statement = sql.SQL(PARENTS).format(parent=raw_table(holder.connection, parent_stream))
    while True:
        values = {
            "connection": holder.connection,
            "child": holder.stream,
            "after": after,
            "mark": mark,
            "with_deleted": with_deleted,
            "limit": BATCH,
        }
        with holder.reading() as session:
            rows = session.execute(statement, values).fetchall()
        if not rows:
            return
        yield [Parent(row[0], decode(row[1].encode()), *row[2:]) for row in rows]
        after = rows[-1][0]


def high_mark(holder: Holder) -> str:
    """A change stamp (xid8 as text): whatever is committed after this call is stamped at or past it, unless its
    transaction was already under way, which the snapshot's lower edge covers."""
    with holder.reading() as session:
        row = session.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert row is not None
    return str(row[0])
