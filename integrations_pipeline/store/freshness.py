"""How fresh the records of a kind are: when each source that feeds it was last read well, and why not since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

# The streams in the order given. held: whether the record (of a question about one) has a living link of the stream.
FRESHNESS = """
SELECT w.connection, w.stream, s.last_success, coalesce(s.active, true) AS active, s.resume_at,
    s.last_error ->> 'message' AS error, now() AS asked_at,
    EXISTS (SELECT FROM integrations.link l WHERE l.canonical_id = %(record_id)s AND l.connection = w.connection
            AND l.stream = w.stream AND l.deleted_at IS NULL) AS held
FROM unnest(%(connections)s::text[], %(streams)s::text[]) WITH ORDINALITY AS w (connection, stream, place)
LEFT JOIN integrations.stream_state s
    ON s.connection = w.connection AND s.stream = w.stream AND s.parent_key = ''
ORDER BY w.place
"""


@dataclass(frozen=True)
class Fed:
    """A stream that feeds a kind. ``error``: of its last run, where that didn't succeed."""

    connection: str
    stream: str
    last_success: datetime | None
    active: bool
    resume_at: datetime | None
    error: str | None
    asked_at: datetime
    held: bool


def read_freshness(
    session: psycopg.Connection[Any], streams: Sequence[tuple[str, str]], record_id: UUID | None = None
) -> list[Fed]:
    """The (connection, stream) pairs in their order; ``held`` is about the record."""
    values = {
        "connections": [one for one, _ in streams],
        "streams": [one for _, one in streams],
        "record_id": record_id,
    }
    return session.cursor(row_factory=class_row(Fed)).execute(FRESHNESS, values).fetchall()
