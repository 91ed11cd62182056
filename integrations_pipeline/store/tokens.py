"""What a source granted at run time, encrypted, one row per connection, shared by all its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from integrations_pipeline.spec.errors import ConfigError, DestinationError
from integrations_pipeline.store.sealing import Borrow, Seal

WRITE_SECONDS = 30.0
"""A database that restarts just now is waited for this long: a single-use token that isn't stored is lost."""

WRITE_AGAIN_SECONDS = 0.5

READ = "SELECT value, key_name, seed FROM integrations.token WHERE connection = %s"
WRITE = """
INSERT INTO integrations.token (connection, value, key_name, seed, expires_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (connection) DO UPDATE SET value = excluded.value, key_name = excluded.key_name, seed = excluded.seed,
    expires_at = excluded.expires_at, updated_at = now()
"""

# Freed with the session, also when its process is killed.
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('integrations token ' || %s, 0))"


class SharedTokens:
    """``ports.TokenStore`` on PostgreSQL, of one connection. Safe to use from several threads."""

    def __init__(self, borrow: Borrow, connection: str, state: Path):
        self._borrow, self._name = borrow, connection
        self._seal = Seal(borrow, state, "token")

    def read(self, seed: str) -> bytes | None:
        """The stored value; None where there is none, or one that can't be read and grew from another seed.

        Raises ConfigError, with what to do, where the key is missing, another one, or the value was damaged.
        """
        with self._borrow() as session:
            row = session.execute(READ, [self._name]).fetchone()
        if row is None:
            return None
        value, key_name, grown_from = row
        try:
            return self._seal.open(bytes(value), key_name)
        except ConfigError as error:
            if seed != grown_from:
                return None
            raise error.at(self._name) from None

    def write(self, value: bytes, seed: str, expires_at: datetime | None) -> None:
        """Stores it durably. Raises DestinationError where the database stays away, ConfigError without a key."""
        row = [self._name, *self._seal.close(value), seed, expires_at]
        ends = time.monotonic() + WRITE_SECONDS
        while True:
            try:
                with self._borrow() as session:
                    session.execute(WRITE, row)
                    return
            except DestinationError:
                if time.monotonic() > ends:
                    raise
            time.sleep(WRITE_AGAIN_SECONDS)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this is the only one that may ask for a new token until the block ends; never waits."""
        with self._borrow() as session:
            row = session.execute(LOCK, [self._name]).fetchone()
            yield bool(row and row[0])
