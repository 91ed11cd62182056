"""The names of a connection's own tables, quoted."""

from __future__ import annotations

from psycopg import sql


def raw_table(connection: str, stream: str) -> sql.Identifier:
    """``raw.<connection>__<stream>``."""
    return sql.Identifier("raw", f"{connection}__{stream}")


def canonical_table(kind: str) -> sql.Identifier:
    """``canonical.<kind>``."""
    return sql.Identifier("canonical", kind)
