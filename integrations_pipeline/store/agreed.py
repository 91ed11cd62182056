"""What a stream writes back, and ours as a link's base would hold it: the SQL by which both sides are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg import sql

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.streams import Stream

UNDECLARED = "newest_wins"
"""The policy where none is declared: no side is preferred, and what was overwritten is in the decision."""

PAIRS = 40
"""Of `jsonb_build_object`: a function takes a hundred arguments."""

# When theirs was changed, as far as its version tells; else it counts as of now. A version is a time only in the very
# form in which times are stored (a date, or a moment of UTC): other text may begin like one, or hold no day there is.
DAY = (
    r"(?!0000)\d{{4}}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"|(\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
)
MOMENT = r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{{6}}Z"
THEIRS_AT = f"CASE WHEN {{version}} ~ '^({DAY})({MOMENT})?$' THEN {{version}}::timestamptz ELSE now() END"

# By type, a column as a link's base holds it; other types are JSON already.
FORMS = {
    "decimal": "to_jsonb(trim_scale({column})::text)",
    "timestamp": """to_jsonb(to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))""",
    "date": "to_jsonb(to_char({column}, 'YYYY-MM-DD'))",
}

# A reference as the source knows it; of a record that has no id there yet its canonical id, in an object.
REFERENCE = """
CASE WHEN {column} IS NOT NULL THEN coalesce(
    (SELECT to_jsonb(r.external_id) FROM (SELECT * FROM integrations.link WHERE canonical_id::text = {column}::text
                                          OFFSET 0) AS r
     WHERE r.connection = %(connection)s AND r.stream = {stream} AND r.deleted_at IS NULL
     ORDER BY r.external_id LIMIT 1),
    jsonb_build_object('canonical_id', {column})) END"""


@dataclass(frozen=True)
class Writeback:
    """``policies``: for each field that may leave. ``references``: field → the stream whose ids it is written with."""

    policies: Mapping[str, str]
    when_deleted: str
    references: Mapping[str, str]
    creates: bool
    updates: bool
    deletes: bool

    @property
    def fields(self) -> list[str]:
        return list(self.policies)

    def without_creates(self) -> Writeback:
        return replace(self, creates=False)


def writeback_of(stream: Stream) -> Writeback | None:
    """None where nothing is written back."""
    write, mapped = stream.write, stream.map
    if write is None or mapped is None:
        return None
    default = write.conflict.get("default", UNDECLARED)
    batch = write.batch
    return Writeback(
        policies={name: write.conflict.get(name, default) for name in write.fields},
        when_deleted=write.when_deleted or default,
        references={name: mapped.fields[name].lookup or "" for name in write.fields if mapped.fields[name].lookup},
        creates=bool(write.create or write.upsert or (batch and (batch.create or batch.upsert))),
        updates=bool(write.update or write.upsert or (batch and (batch.update or batch.upsert))),
        deletes=write.delete is not None,
    )


def ours(kind: Kind, writeback: Writeback, table: str = "c") -> sql.Composable:
    """The fields that may leave, as one JSON object, of a row of the kind's table."""
    pairs = [(name, form(kind, name, writeback, table)) for name in writeback.fields]
    parts = [
        sql.SQL("jsonb_build_object({})").format(
            sql.SQL(", ").join([part for name, value in pairs[at : at + PAIRS] for part in (sql.Literal(name), value)])
        )
        for at in range(0, len(pairs), PAIRS)
    ]
    return sql.SQL("({})").format(sql.SQL(" || ").join(parts))


def form(kind: Kind, name: str, writeback: Writeback, table: str) -> sql.Composable:
    column = sql.Identifier(table, name)
    if name in writeback.references:
        return sql.SQL(REFERENCE).format(column=column, stream=sql.Literal(writeback.references[name]))
    return sql.SQL(FORMS.get(kind.fields[name].type, "to_jsonb({column})")).format(column=column)
