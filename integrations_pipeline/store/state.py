"""What a stream remembers between runs, one row per stream and one per parent of a child stream."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


class Unchanged(Enum):
    """The type of ``UNCHANGED``: None is a value here."""

    TOKEN = "unchanged"


UNCHANGED: Final = Unchanged.TOKEN


@dataclass(frozen=True)
class StreamState:
    """A row of ``stream_state``; before the first run all is empty. ``shaped_below`` is an xid8 as text."""

    parent_key: str = ""
    bookmark: Any = None
    watermark: Any = None
    highest: Any = None
    lease_epoch: int = 0
    refresh_id: UUID | None = None
    probe: Any = None
    shaped_below: str | None = None
    mapping_hash: str | None = None
    boundary_hash: str | None = None
    round: Any = None
    feed: Any = None
    declared: Any = None
    last_success: datetime | None = None
    last_full_refresh: datetime | None = None
    error_count: int = 0
    last_error: Any = None
    resume_at: datetime | None = None
    active: bool = True


@dataclass(frozen=True)
class StateChange:
    """What moves together with rows. A field left UNCHANGED keeps its value; None empties it."""

    parent_key: str = ""
    bookmark: Any = UNCHANGED
    watermark: Any = UNCHANGED
    highest: Any = UNCHANGED
    refresh_id: UUID | Unchanged | None = UNCHANGED
    probe: Any = UNCHANGED
    round: Any = UNCHANGED
    feed: Any = UNCHANGED
    declared: Any = UNCHANGED
    last_full_refresh: datetime | Unchanged = UNCHANGED
    resume_at: datetime | Unchanged | None = UNCHANGED
    shaped_below: str | Unchanged = UNCHANGED
    mapping_hash: str | Unchanged = UNCHANGED
    boundary_hash: str | Unchanged = UNCHANGED

    def columns(self) -> dict[str, Any]:
        """The columns that change, JSON wrapped for psycopg."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "parent_key"}
        return {
            name: Jsonb(value) if name in JSON_COLUMNS and value is not None else value
            for name, value in changed.items()
            if value is not UNCHANGED
        }


JSON_COLUMNS = ("bookmark", "watermark", "highest", "probe", "round", "feed", "declared")

# One row of a stream's state.
READ = """
SELECT parent_key, bookmark, watermark, highest, lease_epoch, refresh_id, probe, shaped_below::text AS shaped_below,
       mapping_hash, boundary_hash, round, feed, declared, last_success, last_full_refresh, error_count, last_error,
       resume_at, active
FROM integrations.stream_state WHERE connection = %s AND stream = %s AND parent_key = %s
"""

# Sets some columns of a stream's or parent's row, which is made where it is missing.
WRITE = """
INSERT INTO integrations.stream_state (connection, stream, parent_key, {columns}) VALUES (%s, %s, %s, {values})
ON CONFLICT (connection, stream, parent_key) DO UPDATE SET ({columns}, updated_at) = ROW ({excluded}, now())
"""

# Keys that an abandoned or completed refresh has left.
FORGET_SEEN = """
DELETE FROM integrations.seen
WHERE connection = %s AND stream = %s AND refresh_id IS DISTINCT FROM %s::uuid
"""


def read_state(session: psycopg.Connection[Any], connection: str, stream: str, parent_key: str = "") -> StreamState:
    """The stored state, or the empty one of a stream or parent that was never read."""
    cursor = session.cursor(row_factory=class_row(StreamState))
    found = cursor.execute(READ, (connection, stream, parent_key)).fetchone()
    return found or StreamState(parent_key=parent_key)


def write_state(session: psycopg.Connection[Any], connection: str, stream: str, change: StateChange) -> None:
    """Applies a change inside the caller's transaction."""
    columns = change.columns()
    if not columns:
        return
    names = [sql.Identifier(name) for name in columns]
    statement = sql.SQL(WRITE).format(
        columns=sql.SQL(", ").join(names),
        values=sql.SQL(", ").join([sql.SQL("%s::xid8") if n == "shaped_below" else sql.SQL("%s") for n in columns]),
        excluded=sql.SQL(", ").join([sql.SQL("excluded.") + name for name in names]),
    )
    session.execute(statement, (connection, stream, change.parent_key, *columns.values()))
    if change.refresh_id is not UNCHANGED:
        session.execute(FORGET_SEEN, (connection, stream, change.refresh_id))
