"""The tables of a connection: one raw table per stream, one canonical table per kind, made and widened as declared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.limits import IDENTIFIER_BYTES
from integrations_pipeline.store.tables import canonical_table, raw_table

Statements = list[sql.Composed | sql.SQL]

COLUMN_TYPES = {
    "string": "text",
    "integer": "bigint",  # larger ones are a problem of the mapping, since half of all tools can't read them
    "decimal": "numeric",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "date": "date",
    "json": "jsonb",
}
OWN_COLUMNS = {
    "id": "uuid PRIMARY KEY DEFAULT gen_random_uuid()",
    "version": "bigint NOT NULL DEFAULT 1",
    "updated_at": "timestamptz NOT NULL DEFAULT now()",
    "edited_at": "timestamptz NOT NULL DEFAULT now()",
    "edit_stamp": "xid8 NOT NULL DEFAULT pg_current_xact_id()",
    "deleted_at": "timestamptz",
}
LOCK = 7_203_515_941_000_002
"""An advisory lock's number: concurrent prepares make their tables one after the other."""

# What there is of the named tables: columns with their types, indexes, triggers.
PRESENT = """
SELECT n.nspname || '.' || c.relname,
    (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT coalesce(jsonb_agg(i.relname), '[]') FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
     WHERE x.indrelid = c.oid),
    (SELECT coalesce(jsonb_agg(t.tgname), '[]') FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

RAW_TABLE = """
CREATE TABLE {table} (PRIMARY KEY (external_id)) INHERITS (integrations.raw_record);
CREATE INDEX {stamps} ON {table} (stamp, external_id);
"""
# The rows below one parent; only child streams have any.
PARENT_INDEX = "CREATE INDEX {parents} ON {table} (parent_key)"

KEEP_DELETED = """
CREATE TRIGGER keep_deleted BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION integrations.keep_deleted()
"""
STAMP_EDIT = """
CREATE OR REPLACE TRIGGER stamp_edit BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (ROW({old}) IS DISTINCT FROM ROW({new})) EXECUTE FUNCTION integrations.stamp_edit()
"""

EDIT_INDEX = "CREATE INDEX {} ON {} (edit_stamp)"

QUEUE_CHANGES = {
    "insert": """
CREATE TRIGGER {name} AFTER INSERT ON {table} REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION integrations.queue_created({targets})
""",
    "update": """
CREATE TRIGGER {name} AFTER UPDATE ON {table} REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION integrations.queue_changed({targets})
""",
}


@dataclass(frozen=True)
class Present:
    """A table as the database has it."""

    columns: dict[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()


def prepare(session: psycopg.Connection[Any], connection: Connection, kinds: Mapping[str, Kind]) -> None:
    """Makes or widens the tables of the selected streams and the kinds they map to; cheap where nothing is missing.

    Never drops or retypes anything. Raises ConfigError where a field's type changed, or where a kind is unknown.
    """
    _carry_out(session, partial(_plan, session, connection, kinds))


def prepare_kind(session: psycopg.Connection[Any], kind: Kind) -> None:
    """Makes or widens the table of a kind, whether or not a connection maps to it; else as ``prepare``."""

    def plan() -> Statements:
        present = read_present(session, [("canonical", kind.kind)])
        return _canonical_statements(kind, [], present.get(f"canonical.{kind.kind}", Present()))

    _carry_out(session, plan)


def _carry_out(session: psycopg.Connection[Any], plan: Callable[[], Statements]) -> None:
    """What is missing, looked at again once nobody else makes tables."""
    if not plan():
        return
    with session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for statement in plan():
            session.execute(statement)


def _plan(session: psycopg.Connection[Any], connection: Connection, kinds: Mapping[str, Kind]) -> Statements:
    """The statements that are missing, after one look at what there is."""
    mapped = {stream.map.to for stream in connection.selected.values() if stream.map}
    wanted = [("raw", f"{connection.name}__{name}") for name in connection.selected]
    wanted += [("canonical", kind) for kind in sorted(mapped)]
    present = read_present(session, wanted)
    statements = []
    for name, stream in connection.selected.items():
        table = present.get(f"raw.{connection.name}__{name}", Present())
        statements += _raw_statements(connection.name, name, stream.parent_stream is not None, table)
    for kind in sorted(mapped):
        matched = [keys for s in connection.selected.values() if s.map and s.map.to == kind for keys in s.map.match]
        table = present.get(f"canonical.{kind}", Present())
        statements += _canonical_statements(_known(kind, kinds), matched, table)
        if any(s.write and s.map and s.map.to == kind for s in connection.selected.values()):
            statements += _edit_index(kind, table)
    return statements


def read_present(session: psycopg.Connection[Any], wanted: Iterable[tuple[str, str]]) -> dict[str, Present]:
    """By ``schema.table``: those of the wanted tables that exist."""
    schemas, names = map(list, zip(*wanted, strict=True))
    rows = session.execute(PRESENT, [schemas, names]).fetchall()
    return {name: Present(columns, tuple(indexes), tuple(triggers)) for name, columns, indexes, triggers in rows}


def _known(kind: str, kinds: Mapping[str, Kind]) -> Kind:
    if kind not in kinds:
        raise ConfigError(f"there is no kind {kind}", where=f"models/{kind}.yaml", next=f"write models/{kind}.yaml")
    return kinds[kind]


def _raw_statements(connection: str, stream: str, child: bool, present: Present) -> Statements:
    names = {
        "table": raw_table(connection, stream),
        "stamps": sql.Identifier(index_name(f"{connection}__{stream}", "stamp")),
        "parents": sql.Identifier(index_name(f"{connection}__{stream}", "parent")),
    }
    statements = [] if present.columns else [sql.SQL(RAW_TABLE).format(**names)]
    if child and index_name(f"{connection}__{stream}", "parent") not in present.indexes:
        statements.append(sql.SQL(PARENT_INDEX).format(**names))
    return [*statements]


def _canonical_statements(kind: Kind, matched: list[list[str]], present: Present) -> Statements:
    table = canonical_table(kind.kind)
    declared = {name: column_type(one) for name, one in kind.fields.items()}
    _refuse_changed_types(kind, declared, present)
    missing = {name: type_ for name, type_ in declared.items() if name not in present.columns}
    statements: list[sql.Composed | sql.SQL] = []
    if not present.columns:
        columns = {"id": OWN_COLUMNS["id"]} | declared | {n: t for n, t in OWN_COLUMNS.items() if n != "id"}
        body = sql.SQL(", ").join(_column(name, type_) for name, type_ in columns.items())
        statements += [sql.SQL("CREATE TABLE {} ({})").format(table, body), sql.SQL(KEEP_DELETED).format(table=table)]
    elif missing:
        added = sql.SQL(", ").join(sql.SQL("ADD COLUMN ") + _column(name, type_) for name, type_ in missing.items())
        statements.append(sql.SQL("ALTER TABLE {} {}").format(table, added))
    if missing:
        statements.append(_stamp_edit(table, {*declared, *present.columns, "deleted_at"}))
    return statements + _match_indexes(kind, matched, present) + _change_triggers(kind, present)


def _change_triggers(kind: Kind, present: Present) -> Statements:
    """The triggers of `on_change`; a kind without has none, and pays nothing. Their names tell the targets."""
    targets = list(dict.fromkeys(one.target for one in kind.on_change))
    digest = hashlib.blake2b("\0".join(targets).encode(), digest_size=6).hexdigest()
    wanted = {f"on_change_{event}_{digest}": text for event, text in QUEUE_CHANGES.items()} if targets else {}
    table, arguments = canonical_table(kind.kind), sql.SQL(", ").join(map(sql.Literal, targets))
    gone = sorted(name for name in present.triggers if name.startswith("on_change_") and name not in wanted)
    dropped = [sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(name), table) for name in gone]
    made = [
        sql.SQL(text).format(name=sql.Identifier(name), table=table, targets=arguments)
        for name, text in wanted.items()
        if name not in present.triggers
    ]
    return [*dropped, *made]


def _edit_index(kind: str, present: Present) -> list[sql.Composed | sql.SQL]:
    """By which edits are found, of a kind that is written somewhere."""
    name = index_name(kind, "edit_stamp")
    return [] if name in present.indexes else [
        sql.SQL(EDIT_INDEX).format(sql.Identifier(name), canonical_table(kind))
    ]  # fmt: skip


def _column(name: str, type_: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))


def _stamp_edit(table: sql.Identifier, columns: set[str]) -> sql.Composed:
    """The trigger over all of the kind's columns, those no longer declared too."""
    watched = sorted(columns - (OWN_COLUMNS.keys() - {"deleted_at"}))
    old = sql.SQL(", ").join(sql.Identifier("old", name) for name in watched)
    new = sql.SQL(", ").join(sql.Identifier("new", name) for name in watched)
    return sql.SQL(STAMP_EDIT).format(table=table, old=old, new=new)


def _refuse_changed_types(kind: Kind, declared: Mapping[str, str], present: Present) -> None:
    changed = [name for name, type_ in declared.items() if present.columns.get(name, type_) != type_]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"fields.{name}: it is {declared[name]} now, the column canonical.{kind.kind}.{name} is "
            f"{present.columns[name]}",
            where=f"models/{kind.kind}.yaml",
            who="whoever edits the model",
            next="take the old type back or give the field a new name; or convert the column yourself: "
            f'ALTER TABLE canonical.{kind.kind} ALTER COLUMN "{name}" TYPE {declared[name]} USING …',
        )


def _match_indexes(kind: Kind, matched: list[list[str]], present: Present) -> Statements:
    """One index per alternative. A single text is hashed: an index entry holds no more than about 2,700 bytes."""
    statements: dict[str, sql.Composed | sql.SQL] = {}
    for keys in matched:
        name = index_name(kind.kind, "_".join(["match", *keys]))
        if name in present.indexes:
            continue
        single_text = len(keys) == 1 and column_type(kind.fields[keys[0]]) == "text"
        statements[name] = sql.SQL("CREATE INDEX {} ON {} USING {} ({})").format(
            sql.Identifier(name),
            canonical_table(kind.kind),
            sql.SQL("hash" if single_text else "btree"),
            sql.SQL(", ").join(map(sql.Identifier, keys)),
        )
    return [*statements.values()]


def column_type(declared: Field) -> str:
    """As PostgreSQL's format_type writes it."""
    return "uuid" if declared.format == "uuid" else COLUMN_TYPES[declared.type]


def index_name(table: str, purpose: str) -> str:
    """Within PostgreSQL's limit, and still one per table and purpose."""
    name = f"{table}_{purpose}"
    if len(name.encode()) <= IDENTIFIER_BYTES:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    return f"{name.encode()[: IDENTIFIER_BYTES - 13].decode(errors='ignore')}_{digest}"
