"""What was registered at providers so that they send webhooks here; what they gave for it is encrypted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.store.sealing import Borrow, Seal

READ = """
SELECT connection, event, value, key_name, url, declared, expires_at, updated_at FROM integrations.subscription
WHERE connection = ANY(%s) OR %s::boolean ORDER BY connection, event
"""
WRITE = """
INSERT INTO integrations.subscription (connection, event, value, key_name, url, declared, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (connection, event) DO UPDATE SET value = excluded.value, key_name = excluded.key_name,
    url = excluded.url, declared = excluded.declared, expires_at = excluded.expires_at, updated_at = clock_timestamp()
"""
REMOVE = "DELETE FROM integrations.subscription WHERE connection = %s AND event = %s"
FORGET = "DELETE FROM integrations.subscription WHERE connection = %s"
KNOWN = "SELECT EXISTS (SELECT FROM integrations.subscription WHERE connection = %s)"

# What tells whether anything changed since.
MARKS = "SELECT connection, event, updated_at::text FROM integrations.subscription ORDER BY 1, 2"

# Those that end within a day, or past half of their time where that is shorter; not those of a stopped connection.
DUE = """
SELECT connection, min(expires_at) FROM integrations.subscription s
WHERE expires_at - least(interval '1 day', (expires_at - updated_at) / 2) <= %s AND NOT EXISTS (
    SELECT FROM integrations.stream_state t WHERE t.connection = s.connection AND NOT t.active)
GROUP BY connection ORDER BY connection
"""

# One process at a time subscribes for a connection; freed at the end of the transaction, also of a killed process.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('integrations subscription ' || %s, 0))"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """One subscription. ``kept`` may hold secrets; ``event`` is '' where one call covers all events."""

    connection: str
    event: str
    kept: dict[str, Any] = field(repr=False)
    url: str
    declared: str
    expires_at: datetime | None


class Subscriptions:
    """Of all connections of a database. What is read raises ConfigError where the key is missing or another one."""

    def __init__(self, borrow: Borrow, state: Path):
        self._borrow = borrow
        self._seal = Seal(borrow, state, "subscription")

    def of(self, connection: str) -> list[Subscribed]:
        return list(self._read([connection], every=False))

    def every(self) -> list[Subscribed]:
        return list(self._read([], every=True))

    def _read(self, names: Sequence[str], *, every: bool) -> Iterator[Subscribed]:
        with self._borrow() as session:
            rows = session.execute(READ, (list(names), every)).fetchall()
        for connection, event, value, key_name, url, declared, expires_at, _ in rows:
            kept = decode(self._seal.open(bytes(value), key_name))
            yield Subscribed(connection, event, kept, url, declared, expires_at)

    def known(self, connection: str) -> bool:
        """Whether it has any; needs no key."""
        with self._borrow() as session:
            row = session.execute(KNOWN, [connection]).fetchone()
        return bool(row and row[0])

    def marks(self) -> list[tuple[str, str, str]]:
        """What differs as soon as anything was written; needs no key."""
        with self._borrow() as session:
            return session.execute(MARKS).fetchall()

    def due(self, now: datetime) -> dict[str, datetime]:
        """The connections with a subscription to renew, and when it would end."""
        with self._borrow() as session:
            return dict(session.execute(DUE, [now]).fetchall())

    def write(self, one: Subscribed) -> None:
        """Keeps it, in the place of an earlier one for the same event."""
        value, key_name = self._seal.close(encode(one.kept))
        row = (one.connection, one.event, value, key_name, one.url, one.declared, one.expires_at)
        with self._borrow() as session:
            session.execute(WRITE, row)

    def remove(self, one: Subscribed) -> None:
        with self._borrow() as session:
            session.execute(REMOVE, (one.connection, one.event))

    def forget(self, connection: str) -> None:
        """Removes all that is known of a connection's subscriptions; the provider isn't told."""
        with self._borrow() as session:
            session.execute(FORGET, [connection])

    @contextmanager
    def alone(self, connection: str) -> Iterator[None]:
        """Waits until no other process subscribes for this connection, and keeps them waiting until the block ends."""
        with self._borrow() as session, session.transaction():
            session.execute(LOCK, [connection])
            yield
