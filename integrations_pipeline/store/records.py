"""Canonical records for whoever reads and edits them through the gateway. Each function runs in the caller's
transaction; the trigger of the table stamps each edit, as it does those by plain SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb, set_json_loads

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.store.shape_statement import columns
from integrations_pipeline.store.shaping import new_ids
from integrations_pipeline.store.tables import canonical_table

Record = dict[str, Any]
"""``id``, ``version``, ``updated_at``, ``deleted_at`` and the kind's fields, typed."""

# Live records of a kind in the order of their ids, which for those made by us is about that of time.
LIST = """
SELECT {columns} FROM {canonical}
WHERE deleted_at IS NULL AND (%(after)s::uuid IS NULL OR id > %(after)s) {filters}
ORDER BY id LIMIT %(limit)s
"""
ONE = "SELECT {columns} FROM {canonical} WHERE id = %(id)s"
CREATE = "INSERT INTO {canonical} ({names}) VALUES ({values}) RETURNING {columns}"
UPDATE = """
UPDATE {canonical} SET {assignments} WHERE id = %(id)s AND deleted_at IS NULL AND {expected} RETURNING {columns}
"""
EXPECTED = "(%(versions)s::bigint[] IS NULL OR version = ANY(%(versions)s))"

# A request waits no longer for the database: whoever asks is still there.
BOUNDS = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"


def bound(session: psycopg.Connection[Any], seconds: float) -> None:
    """No statement of this transaction takes longer."""
    milliseconds = str(int(seconds * 1000))
    session.execute(BOUNDS, (milliseconds, milliseconds))


def list_records(
    session: psycopg.Connection[Any], kind: Kind, filters: Mapping[str, Any], *, after: UUID | None, limit: int
) -> list[Record]:
    """Live records whose fields equal the typed values (None: have none), those after an id."""
    query = composed(LIST, kind, filters=sql.SQL(" ").join(equals(*one) for one in filters.items()))
    return fetch(session, query, {**typed(kind, filters), "after": after, "limit": limit})


def equals(name: str, value: Any) -> sql.Composed:
    if value is None:
        return sql.SQL("AND {} IS NULL").format(sql.Identifier(name))
    return sql.SQL("AND {} = {}").format(sql.Identifier(name), placeholder(name))


def one_record(session: psycopg.Connection[Any], kind: Kind, record_id: UUID) -> Record | None:
    """The record, also a deleted one."""
    return next(iter(fetch(session, composed(ONE, kind), {"id": record_id})), None)


def new_id() -> UUID:
    """Of a record to be made: later ones sort behind it."""
    return UUID(bytes=new_ids(1)[0])


def create_record(session: psycopg.Connection[Any], kind: Kind, record_id: UUID, values: Mapping[str, Any]) -> Record:
    """A new record of these typed values; all other fields are null."""
    names = list(values)
    given = [sql.Placeholder("id"), *map(placeholder, names)]
    query = composed(CREATE, kind, names=columns(["id", *names]), values=sql.SQL(", ").join(given))
    return fetch(session, query, {**typed(kind, values), "id": record_id})[0]


def update_record(
    session: psycopg.Connection[Any],
    kind: Kind,
    record_id: UUID,
    values: Mapping[str, Any],
    versions: list[int] | None = None,
) -> Record | None:
    """Sets these fields; None where the record is unknown, deleted, or not at one of the versions (None: at any)."""
    parts = [sql.SQL("{} = {}").format(sql.Identifier(name), placeholder(name)) for name in values]
    return edit(session, kind, record_id, sql.SQL(", ").join(parts), typed(kind, values), versions)


def delete_record(
    session: psycopg.Connection[Any], kind: Kind, record_id: UUID, versions: list[int] | None = None
) -> Record | None:
    """Sets ``deleted_at``; None as ``update_record`` says."""
    return edit(session, kind, record_id, sql.SQL("deleted_at = now()"), {}, versions)


def edit(
    session: psycopg.Connection[Any],
    kind: Kind,
    record_id: UUID,
    assignments: sql.Composable,
    values: Mapping[str, Any],
    versions: list[int] | None,
) -> Record | None:
    query = composed(UPDATE, kind, assignments=assignments, expected=sql.SQL(EXPECTED))
    return next(iter(fetch(session, query, {**values, "id": record_id, "versions": versions})), None)


def composed(statement: str, kind: Kind, **parts: sql.Composable) -> sql.Composed:
    shown = columns(["id", "version", *kind.fields, "updated_at", "deleted_at"])
    return sql.SQL(statement).format(columns=shown, canonical=canonical_table(kind.kind), **parts)


def placeholder(name: str) -> sql.Placeholder:
    """Fields have names of their own among a statement's values."""
    return sql.Placeholder(f"field_{name}")


def typed(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"field_{name}": Jsonb(value, dumps=encode) if kind.fields[name].type == "json" and value is not None else value
        for name, value in values.items()
    }


def fetch(session: psycopg.Connection[Any], query: sql.Composed, values: Mapping[str, Any]) -> list[Record]:
    cursor = session.cursor(row_factory=dict_row)
    set_json_loads(decode, cursor)  # type: ignore[arg-type]  # exact numbers
    return cursor.execute(query, values).fetchall()
