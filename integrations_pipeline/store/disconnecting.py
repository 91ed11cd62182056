"""Stopping a connection, and dropping its data. By name: its file may say other streams than were synced."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.tables import canonical_table

# The streams a connection has raw tables for, whatever its file says today.
STREAMS = """
SELECT split_part(c.relname, '__', 2) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'raw' AND c.relkind = 'r' AND split_part(c.relname, '__', 1) = %s
"""

# Stops each stream and fences out whoever is syncing it: its next commit finds another lease epoch.
DEACTIVATE = """
INSERT INTO integrations.stream_state (connection, stream, active, lease_epoch)
SELECT %(connection)s, stream, false, 1 FROM unnest(%(streams)s::text[]) AS stream
ON CONFLICT (connection, stream, parent_key)
DO UPDATE SET active = false, lease_epoch = stream_state.lease_epoch + 1, updated_at = now()
"""
ACTIVATE = "UPDATE integrations.stream_state SET active = true, updated_at = now() WHERE connection = %s AND NOT active"

# The kinds of the connection's records that still have a table.
KINDS = """
SELECT DISTINCT kind FROM integrations.link
WHERE connection = %s AND to_regclass(format('canonical.%%I', kind)) IS NOT NULL
"""

# Records that only this connection brought get deleted_at; those another connection also has stay.
DELETE_CANONICAL = """
UPDATE {table} c SET deleted_at = now()
FROM (SELECT DISTINCT canonical_id FROM integrations.link WHERE connection = %(connection)s) mine
WHERE c.id = mine.canonical_id AND c.deleted_at IS NULL AND NOT EXISTS (
    SELECT FROM integrations.link other
    WHERE other.canonical_id = c.id AND other.connection <> %(connection)s AND other.deleted_at IS NULL)
"""

# A stopped stream forgets where it was. Its lease epoch goes on counting, or an old writer's would come round again.
FORGET_STATE = """
UPDATE integrations.stream_state SET bookmark = NULL, watermark = NULL, highest = NULL, refresh_id = NULL,
    probe = NULL, shaped_below = NULL, mapping_hash = NULL, boundary_hash = NULL, round = NULL, feed = NULL,
    declared = NULL, last_success = NULL, last_full_refresh = NULL, error_count = 0, last_error = NULL, resume_at = NULL
WHERE connection = %s
"""
FORGET_PARENTS = "DELETE FROM integrations.stream_state WHERE connection = %s AND parent_key <> ''"
ALL_STOPPED = "SELECT DISTINCT connection FROM integrations.stream_state WHERE NOT active"
STOPPED = "SELECT EXISTS (SELECT FROM integrations.stream_state WHERE connection = %s AND NOT active)"
OWNED_TABLES = (
    "link", "quarantine", "seen", "missing", "decision", "run_log", "rate_limit", "inbox", "dead_letter", "breaker",
    "token", "profile", "drift", "http_log", "alert", "outbox", "merge_state", "conflict",
)  # fmt: skip


def drop(session: psycopg.Connection[Any], connection: str, *, keep_data: bool) -> None:
    """Stops all streams of the connection; without ``keep_data`` also removes what it brought, in one transaction.

    Canonical records that no other connection holds get ``deleted_at``: they are the team's own and stay readable.
    """
    with session.transaction():
        names = {row[0] for row in session.execute(STREAMS, [connection])}
        known = session.execute(
            "SELECT stream FROM integrations.stream_state WHERE connection = %s AND parent_key = ''", [connection]
        )
        streams = sorted(names | {row[0] for row in known})
        session.execute(DEACTIVATE, {"connection": connection, "streams": streams})
        if not keep_data:
            _drop_data(session, connection, names)


def is_stopped(session: psycopg.Connection[Any], connection: str) -> bool:
    row = session.execute(STOPPED, [connection]).fetchone()
    return bool(row and row[0])


def refuse_stopped(session: psycopg.Connection[Any], connection: str) -> None:
    """Raises ConfigError where the connection was stopped. One that was never connected is not."""
    if is_stopped(session, connection):
        raise ConfigError(
            f"connection {connection} is disconnected",
            where=connection,
            who="whoever runs this connection",
            next=f"run `integrations connect {connection}` to let it sync again",
        )


def stopped_connections(session: psycopg.Connection[Any]) -> frozenset[str]:
    """The names of those that were disconnected and not connected since. Raises DestinationError."""
    with destination_errors():
        return frozenset(row[0] for row in session.execute(ALL_STOPPED))


def activate(session: psycopg.Connection[Any], connection: str) -> None:
    """Lets a stopped connection sync again."""
    session.execute(ACTIVATE, [connection])


def _drop_data(session: psycopg.Connection[Any], connection: str, streams: set[str]) -> None:
    for (kind,) in session.execute(KINDS, [connection]).fetchall():
        session.execute(sql.SQL(DELETE_CANONICAL).format(table=canonical_table(kind)), {"connection": connection})
    for name in OWNED_TABLES:
        statement = sql.SQL("DELETE FROM {} WHERE connection = %s").format(sql.Identifier("integrations", name))
        session.execute(statement, [connection])
    session.execute(FORGET_PARENTS, [connection])
    session.execute(FORGET_STATE, [connection])
    for stream in sorted(streams):
        session.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("raw", f"{connection}__{stream}")))
