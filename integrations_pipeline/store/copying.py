"""Rows into a temporary table by binary COPY; what PostgreSQL refuses is found and left out, row by row."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql

Row = TypeVar("Row")

REFUSED = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    UnicodeError,
    OverflowError,
    struct.error,
)
"""How a value says that no column can hold it: NUL, lone surrogates, numbers too large, text that isn't JSON."""

JSONB_FORM = b"\x01"
"""The first byte of binary jsonb: what follows is JSON text."""


def copy_rows(
    session: psycopg.Connection[Any], table: str, columns: Sequence[str], types: Sequence[Any], rows: Iterable[Any]
) -> None:
    """One COPY. ``types`` are names or oids; a value that already is in binary form goes as ``bytea``."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table), names)
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        write_row = copy.write_row
        for row in rows:
            write_row(row)


def copy_storable(
    session: psycopg.Connection[Any], copy: Callable[[Sequence[Row]], None], rows: Sequence[Row]
) -> list[tuple[Row, str]]:
    """Copies all rows that can be stored; returns the others, each with the database's reason.

    A refused half is halved again, in savepoints of the caller's transaction, so that one bad row costs one row.
    """
    if not rows:
        return []
    try:
        with session.transaction():
            copy(rows)
        return []
    except REFUSED as error:
        if len(rows) == 1:
            return [(rows[0], reason_of(error))]
    half = len(rows) // 2
    return copy_storable(session, copy, rows[:half]) + copy_storable(session, copy, rows[half:])


def reason_of(error: Exception) -> str:
    """The database's own words, without its context lines."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    detail = error.diag.message_detail if isinstance(error, psycopg.Error) else None
    return f"the database can't store it: {primary or str(error).splitlines()[0]}" + (f" ({detail})" if detail else "")


def unstorable(reason: str, sample: str) -> list[dict[str, Any]]:
    """The reasons of a row that was refused."""
    return [{"rule": "unstorable", "field": None, "message": reason, "sample": sample}]
