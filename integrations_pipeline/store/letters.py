"""Dead letters for people: what was given up and waits for a decision, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.reasons import given_up
from integrations_pipeline.store import delivered, inbox, outbox

OPEN = """
SELECT id, origin, origin_id, connection, reason, tries, died_at FROM integrations.dead_letter
WHERE status = 'open' AND (%(connection)s::text IS NULL OR connection = %(connection)s)
ORDER BY connection, id LIMIT %(limit)s
"""
ONE = """
SELECT id, origin, origin_id, connection, reason, tries, died_at FROM integrations.dead_letter
WHERE id = %s AND status = 'open'
"""

REPLAY: Mapping[str, Callable[[psycopg.Connection[Any], Collection[int]], list[int]]] = {
    "inbox": inbox.replay,
    "outbox": outbox.retry,
    "delivery": delivered.replay,
}
DISCARD: Mapping[str, Callable[[psycopg.Connection[Any], Collection[int], Mapping[str, Any]], list[int]]] = {
    "inbox": inbox.discard,
    "outbox": outbox.discard,
}


@dataclass(frozen=True)
class Letter:
    """``origin``: inbox, outbox or delivery, where the row ``origin_id`` holds what it is about. A delivery is of
    no connection: ''."""

    id: int
    origin: str
    origin_id: int
    connection: str
    reason: dict[str, Any]
    tries: int
    died_at: datetime


def open_letters(session: psycopg.Connection[Any], connection: str | None, limit: int) -> list[Letter]:
    """The oldest first; of all connections unless one is named."""
    values = {"connection": connection, "limit": limit}
    return session.cursor(row_factory=class_row(Letter)).execute(OPEN, values).fetchall()


def replay(session: psycopg.Connection[Any], id: int) -> Letter:
    """Lets it be tried again. Raises ConfigError where it isn't open any more."""
    letter = one_letter(session, id)
    REPLAY[letter.origin](session, [letter.origin_id])
    return letter


def discard(session: psycopg.Connection[Any], id: int, reason: str) -> None:
    """Gives it up for good. Raises ConfigError where it isn't open any more, or can only be tried again."""
    letter = one_letter(session, id)
    if letter.origin not in DISCARD:
        raise ConfigError("a delivery can't be discarded", next="let it be sent again once its address is mended")
    DISCARD[letter.origin](session, [letter.origin_id], given_up(reason))


def one_letter(session: psycopg.Connection[Any], id: int) -> Letter:
    """An open one. Raises ConfigError."""
    found = session.cursor(row_factory=class_row(Letter)).execute(ONE, (id,)).fetchone()
    if found is None:
        raise ConfigError(f"dead letter {id} isn't open any more", next="reload the list")
    return found
