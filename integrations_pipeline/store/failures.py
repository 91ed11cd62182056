"""What a person is told when our own database is lost, full, locked or read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from integrations_pipeline.spec.errors import DestinationError

NEXT_STEPS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (errors.DiskFull, "free disk space where the database lives"),
    (errors.TooManyConnections, "raise the database's max_connections, or run fewer processes"),
    (errors.InsufficientPrivilege, "grant the user of INTEGRATIONS_DATABASE_URL the rights on its database"),
    (errors.ReadOnlySqlTransaction, "point INTEGRATIONS_DATABASE_URL to the primary, not to a replica"),
    (errors.LockNotAvailable, "look who holds the lock in pg_stat_activity, then run the command again"),
    (errors.QueryCanceled, "look for what slows the database down in pg_stat_activity, then run the command again"),
    (errors.DeadlockDetected, "run the command again: nothing of it was written"),
)
LOST = "see that the database is up (its log says why it went), then run the command again: it goes on where it was"


@contextmanager
def destination_errors(where: str = "") -> Iterator[None]:
    """Turns a lost or unwritable database into DestinationError; programming errors pass as they are."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, errors.InsufficientPrivilege,
            errors.ReadOnlySqlTransaction) as error:  # fmt: skip
        step = next((step for kind, step in NEXT_STEPS if isinstance(error, kind)), LOST)
        raise DestinationError(f"the database refused: {one_line(error)}", where=where, next=step) from error


def one_line(error: Exception) -> str:
    """libpq's messages span lines and name host, port and user, never the password."""
    return " ".join(str(error).split())
