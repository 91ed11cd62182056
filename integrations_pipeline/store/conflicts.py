"""Open conflicts: what both sides changed and a person is to decide; listed, looked at, resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.shaping import LOCK_KIND
from integrations_pipeline.store.tables import canonical_table

Side = Literal["ours", "theirs", "value"]

COLUMNS = """id, connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason, status,
    resolution, resolved_by, opened_at, closed_at"""
LISTED = f"""
SELECT {COLUMNS} FROM integrations.conflict
WHERE status = 'open' AND (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(stream)s::text IS NULL OR stream = %(stream)s)
ORDER BY id LIMIT %(limit)s
"""
ONE = f"SELECT {COLUMNS} FROM integrations.conflict WHERE id = %s"
COUNTED = """
SELECT connection, stream, count(*) FROM integrations.conflict WHERE status = 'open' GROUP BY 1, 2 ORDER BY 1, 2
"""
CLOSE = """
UPDATE integrations.conflict SET status = 'resolved', resolution = %(side)s, resolved_by = %(by)s, closed_at = now()
WHERE id = %(id)s AND status = 'open' RETURNING id
"""
# What a decision changes: the field's value, or whether the record lives. A reference is looked up as the source's id.
SET_FIELD = """
UPDATE {canonical} AS c SET {field} = given.{field}
FROM jsonb_populate_record(NULL::{canonical}, jsonb_build_object({name}, %(value)s::jsonb)) AS given
WHERE c.id = %(canonical_id)s
"""
REFERENCED = """
SELECT to_jsonb(l.canonical_id) FROM integrations.link l
WHERE l.connection = %(connection)s AND l.stream = %(lookup)s AND l.external_id = %(key)s AND l.deleted_at IS NULL
"""
REVIVE = "UPDATE {canonical} SET deleted_at = NULL WHERE id = %(canonical_id)s"
DELETE = """
UPDATE {canonical} SET deleted_at = now() WHERE id = %(canonical_id)s AND deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM integrations.link WHERE canonical_id = %(canonical_id)s AND deleted_at IS NULL)
"""
SEND = """
UPDATE integrations.link SET recheck = true, sent = nullif(sent - %(field)s, '{}')
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s
"""
NOTE = """
INSERT INTO integrations.decision (connection, stream, external_id, stage, decision, reason, detail)
VALUES (%(connection)s, %(stream)s, %(external_id)s, 'merge', 'merged', %(reason)s, %(detail)s)
"""


@dataclass(frozen=True)
class OpenConflict:
    """``field`` '' is the whole record: deleted on one side (whose values are None), changed on the other."""

    id: int
    connection: str
    stream: str
    external_id: str
    kind: str
    canonical_id: UUID
    field: str
    base: Any
    ours: Any
    theirs: Any
    reason: str
    status: str
    resolution: str | None
    resolved_by: str | None
    opened_at: datetime
    closed_at: datetime | None


def open_conflicts(
    session: psycopg.Connection[Any], connection: str | None = None, stream: str | None = None, *, limit: int = 1000
) -> list[OpenConflict]:
    """Those of a connection, or of one stream, oldest first."""
    cursor = session.cursor(row_factory=class_row(OpenConflict))
    return cursor.execute(LISTED, {"connection": connection, "stream": stream, "limit": limit}).fetchall()


def one_conflict(session: psycopg.Connection[Any], id: int) -> OpenConflict | None:
    """The conflict with that id, open or decided."""
    return session.cursor(row_factory=class_row(OpenConflict)).execute(ONE, (id,)).fetchone()


def counted(session: psycopg.Connection[Any]) -> list[tuple[str, str, int]]:
    """Open conflicts by connection and stream."""
    return session.execute(COUNTED).fetchall()


def resolve(
    session: psycopg.Connection[Any],
    id: int,
    side: Side,
    *,
    value: Any = None,
    lookup: str | None = None,
    by: str | None = None,
) -> OpenConflict:
    """Decides an open conflict: ours goes out with the next push, theirs is taken over here, or ``value`` is both.

    ``lookup``: the stream a reference field looks up. One transaction. Raises ConfigError where it isn't open any more,
    or where the value can't be stored.
    """
    with session.transaction():
        found = one_conflict(session, id)
        if found is None or found.status != "open":
            raise ConfigError(f"conflict {id} isn't open", next="see `integrations conflicts list`")
        session.execute(LOCK_KIND, (found.kind,))
        if session.execute(CLOSE, {"id": id, "side": side, "by": by}).fetchone() is None:
            raise ConfigError(f"conflict {id} was just decided", next="see `integrations conflicts list`")
        if found.field == "":
            decide_record(session, found, side)
        else:
            decide_field(session, found, side, value, lookup)
        note(session, found, side, value, by)
        return found


def decide_record(session: psycopg.Connection[Any], found: OpenConflict, side: Side) -> None:
    """The side that has values keeps the record alive, the other one deletes it."""
    if side == "value":
        raise ConfigError("a record is either kept or deleted", next="choose ours or theirs")
    if side == "ours":
        session.execute(SEND, vars(found))
        return
    statement = DELETE if found.theirs is None else REVIVE
    session.execute(sql.SQL(statement).format(canonical=canonical_table(found.kind)), vars(found))


def decide_field(
    session: psycopg.Connection[Any], found: OpenConflict, side: Side, value: Any, lookup: str | None
) -> None:
    if side != "ours":
        chosen = found.theirs if side == "theirs" else value
        if lookup is not None and chosen is not None:
            names = {"connection": found.connection, "lookup": lookup, "key": str(chosen)}
            row = session.execute(REFERENCED, names).fetchone()
            if row is None:
                raise ConfigError(f"{lookup} {chosen} isn't known here", next="sync it first, then decide again")
            chosen = row[0]
        statement = sql.SQL(SET_FIELD).format(
            canonical=canonical_table(found.kind), field=sql.Identifier(found.field), name=sql.Literal(found.field)
        )
        try:
            session.execute(statement, vars(found) | {"value": Jsonb(chosen)})
        except psycopg.DataError as error:
            raise ConfigError(f"{found.field} can't hold {chosen!r}: {error}", next="give another value") from None
    if side != "theirs":
        session.execute(SEND, vars(found))


def note(session: psycopg.Connection[Any], found: OpenConflict, side: Side, value: Any, by: str | None) -> None:
    detail: dict[str, Any] = {"base": found.base, "ours": found.ours, "theirs": found.theirs, "winner": side}
    detail |= {"value": value} if side == "value" else {}
    names: Sequence[str] = ("connection", "stream", "external_id")
    told = {name: getattr(found, name) for name in names}
    reason = f"decided by {by}" if by else "decided by a person"
    session.execute(NOTE, told | {"reason": reason, "detail": Jsonb({found.field or "record": detail})})
