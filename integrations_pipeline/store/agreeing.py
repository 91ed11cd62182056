"""What was agreed with a source by a write: the link, made or brought up to date in the transaction that notes the
answer. The answer itself is landed later, under the stream's lease; until then its version keeps older rows away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from integrations_pipeline.store.agreed import THEIRS_AT, UNDECLARED, Writeback
from integrations_pipeline.store.shaping import LOCK_KIND
from integrations_pipeline.store.tables import canonical_table

# The link of the record that was written, if there is one; whose it is tells `canonical_id`. Last, whether the record
# was read in a state later than the answer's.
LINK = """
SELECT canonical_id, base, deleted_at IS NULL, coalesce(remote_version > %(version)s, false) FROM integrations.link
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s FOR UPDATE
"""

# A poll or an event brought the created record before its create was noted, and made a canonical row of its own.
MOVE = """
UPDATE integrations.link SET canonical_id = %(canonical_id)s
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s
"""
OTHERS = "SELECT count(*) FROM integrations.link WHERE canonical_id = %s AND deleted_at IS NULL"
HELD = """
SELECT external_id FROM integrations.link
WHERE connection = %(connection)s AND stream = %(stream)s AND canonical_id = %(canonical_id)s
  AND external_id <> %(external_id)s AND deleted_at IS NULL LIMIT 1
"""
LEAVE = "UPDATE {canonical} SET deleted_at = now() WHERE id = %s AND deleted_at IS NULL"

# Columns that may hold a canonical record's id, by table: which of them are references is known to the maps only, but
# nothing else has such a value.
REFERRING = """
SELECT c.relname, jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'canonical'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid IN ('uuid'::regtype, 'text'::regtype) AND a.attname <> 'id'
GROUP BY c.relname ORDER BY c.relname
"""
REFER = "UPDATE {table} SET {assignments} WHERE {any}"
REFER_TO = "{column} = CASE WHEN {column}::text = %(other)s THEN %(survivor)s::{type} ELSE {column} END"
REFERS = "{column}::text = %(other)s"

# What waited for the one that is none any more can go.
WAKE = """
UPDATE integrations.outbox SET next_try_at = NULL
WHERE connection = %(connection)s AND status = 'queued' AND reason ->> 'waits_for' = %(other)s
"""
NOTE = """
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail, call)
VALUES (%(run_id)s, %(connection)s, %(stream)s, %(external_id)s, 'push', %(decision)s, %(reason)s, %(detail)s, %(call)s)
"""

# The answer to an update may be one that was given before: what was deleted there since isn't back by it.
AGREE = """
INSERT INTO integrations.link
    (connection, stream, external_id, kind, canonical_id, base, sent, remote_version, answered_version, unread_at,
     run_id)
VALUES (%(connection)s, %(stream)s, %(external_id)s, %(kind)s, %(canonical_id)s, %(base)s, %(sent)s, %(version)s,
        %(version)s, CASE WHEN %(unread)s THEN now() END, %(run_id)s)
ON CONFLICT (connection, stream, external_id) DO UPDATE
SET base = link.base || excluded.base, sent = nullif((coalesce(link.sent, '{}') - %(fields)s::text[])
        || coalesce(excluded.sent, '{}'), '{}'),
    pending = nullif(link.pending - %(fields)s::text[], '{}'),
    answered_version = coalesce(excluded.answered_version, link.answered_version),
    unread_at = coalesce(excluded.unread_at, link.unread_at),
    linked_at = CASE WHEN %(creates)s AND link.deleted_at IS NOT NULL THEN now() ELSE link.linked_at END,
    deleted_at = CASE WHEN %(creates)s THEN NULL ELSE link.deleted_at END,
    deleted_here = link.deleted_here AND NOT %(creates)s
"""

# Dead links of the same record: it was created anew, and isn't asked for again.
ANEW = """
UPDATE integrations.link SET recheck = false, deleted_here = false
WHERE connection = %(connection)s AND stream = %(stream)s AND canonical_id = %(canonical_id)s AND deleted_at IS NOT NULL
"""

RECHECK = """
UPDATE integrations.link SET recheck = true
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s AND deleted_at IS NULL
"""

PARK = """
INSERT INTO integrations.conflict
    (connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason, run_id)
VALUES (%(connection)s, %(stream)s, %(external_id)s, %(kind)s, %(canonical_id)s, %(field)s, %(base_value)s, %(ours)s,
        %(theirs)s, %(reason)s, %(run_id)s)
ON CONFLICT (connection, stream, external_id, field) WHERE status = 'open'
DO UPDATE SET ours = excluded.ours, theirs = excluded.theirs
"""

# Theirs is taken over; a reference is looked up as the source's id, and waits where it isn't known.
TAKE = """
UPDATE {canonical} AS c SET {field} = given.{field}
FROM jsonb_populate_record(NULL::{canonical}, jsonb_build_object({name}, %(value)s::jsonb)) AS given
WHERE c.id = %(canonical_id)s
"""
REFERENCED = """
SELECT to_jsonb(canonical_id) FROM integrations.link
WHERE connection = %(connection)s AND stream = %(lookup)s AND external_id = %(key)s
"""
WAIT = """
UPDATE integrations.link SET pending = coalesce(pending, '{}') || %(pending)s
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s
"""
NEWER = "SELECT {theirs_at} >= edited_at FROM {canonical} WHERE id = %(canonical_id)s"

UNLINK = """
UPDATE integrations.link SET deleted_at = now(), deleted_here = true, recheck = false
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = %(external_id)s AND deleted_at IS NULL
"""


class Written(Protocol):
    """A row of the outbox."""

    connection: str
    stream: str
    kind: str
    canonical_id: UUID
    external_id: str | None
    operation: str
    changes: dict[str, Any]
    run_id: UUID | None


class ElsewhereError(Exception):
    """The source answered with a record that belongs to another canonical one: a person must say which is which."""


@dataclass
class Agreement:
    """One write that the source took. ``theirs``: its answer as mapped, in the form of a base; None where it has none:
    what was sent counts then, until the next read tells the source's form of it (``own_forms``). ``version``: the
    answer's; None where there was none. ``found``: it is no answer, but what was found at the source later, so where it
    differs from what was sent the policies decide. ``call``: the request's entry in the call log."""

    session: psycopg.Connection[Any]
    written: Written
    external_id: str
    theirs: dict[str, Any] | None
    version: str | None
    found: Writeback | None = None
    call: int | None = None

    @property
    def names(self) -> dict[str, Any]:
        one = self.written
        return {
            "connection": one.connection,
            "stream": one.stream,
            "kind": one.kind,
            "canonical_id": one.canonical_id,
            "external_id": self.external_id,
            "run_id": one.run_id,
            "call": self.call,
        }

    def note(self) -> None:
        sent = self.written.changes
        self.session.execute(LOCK_KIND, (self.written.kind,))
        base, overtaken = self.known() or ({}, False)
        theirs = sent if self.theirs is None else self.theirs
        if overtaken:  # what was read counts; the answer tells only what came of the fields that still stand so
            sent = {name: value for name, value in sent.items() if base.get(name) == theirs.get(name)}
        taken = {name: theirs.get(name) for name in sent}
        differing = [name for name in sent if taken[name] != sent[name]]
        apart = [name for name in differing if self.found is not None and plain(taken[name]) != plain(sent[name])]
        formed = [name for name in differing if name not in apart]
        unkept = [name for name in formed if kept_its_own(base, name, sent[name], taken[name])]
        unread = self.theirs is None and self.found is None
        own_form = {name: sent[name] for name in sent if unread or (name in formed and name not in unkept)}
        values = {
            "base": Jsonb(taken if base else theirs | taken),
            "sent": Jsonb(own_form) if own_form else None,
            "fields": list(sent),
            "version": self.version,
            "creates": self.written.operation == "create",
            "unread": unread,
        }
        self.session.execute(AGREE, self.names | values)
        self.session.execute(ANEW, self.names)
        for name in unkept:
            self.park(name, base.get(name), taken[name], "the source took the write and kept its own value")
        for name in apart:
            self.part(name, base.get(name), taken[name])
        self.decide()

    def park(self, name: str, base: Any, theirs: Any, reason: str) -> None:
        values = {"base_value": base, "ours": self.written.changes[name], "theirs": theirs}
        told = {"field": name, "reason": reason} | {key: Jsonb(value) for key, value in values.items()}
        self.session.execute(PARK, self.names | told)

    def part(self, name: str, base: Any, theirs: Any) -> None:
        """A field that was found to differ goes by its policy, as after a match. Ours is kept by leaving it
        alone: it differs from what is agreed then, and goes out."""
        policy = self.found.policies.get(name, UNDECLARED) if self.found else UNDECLARED
        if theirs is None:
            return
        if self.written.changes[name] is None or policy == "remote_wins" or (policy == "newest_wins" and self.newer()):
            self.take(name, theirs)
        elif policy == "review":
            self.park(name, base, theirs, "found at the source later, and not as it was sent")

    def newer(self) -> bool:
        theirs_at = sql.SQL(THEIRS_AT).format(version=sql.SQL("%(version)s::text"))
        statement = sql.SQL(NEWER).format(theirs_at=theirs_at, canonical=canonical_table(self.written.kind))
        row = self.session.execute(statement, self.names | {"version": self.version}).fetchone()
        return bool(row and row[0])

    def take(self, name: str, theirs: Any) -> None:
        lookup = self.found.references.get(name) if self.found else None
        if lookup is not None:
            row = self.session.execute(REFERENCED, self.names | {"lookup": lookup, "key": str(theirs)}).fetchone()
            if row is None:
                waits = Jsonb({name: {"stream": lookup, "external_id": str(theirs)}})
                self.session.execute(WAIT, self.names | {"pending": waits})
            theirs = row[0] if row else None
        statement = sql.SQL(TAKE).format(
            canonical=canonical_table(self.written.kind), field=sql.Identifier(name), name=sql.Literal(name)
        )
        self.session.execute(statement, self.names | {"value": Jsonb(theirs)})

    def known(self) -> tuple[dict[str, Any], bool] | None:
        """The link's base, and whether it was read since in a later state; None where there is no link. Raises
        ElsewhereError."""
        creates = self.written.operation == "create"
        if creates and (held := self.session.execute(HELD, self.names).fetchone()):
            raise ElsewhereError(
                f"{self.external_id}, beside {held[0]}, which was found to be the same {self.written.kind} meanwhile; "
                "remove one of both there, then discard this change"
            )
        row = self.session.execute(LINK, self.names | {"version": self.version}).fetchone()
        if row is None:
            return None
        canonical_id, base, live, overtaken = row
        if canonical_id != self.written.canonical_id:
            if creates:
                self.join(canonical_id, live)
            else:  # it was joined with another one meanwhile, whose values count
                self.session.execute(RECHECK, self.names)
        return dict(base), overtaken

    def join(self, other: UUID, live: bool) -> None:
        """The record is already known as another canonical one, which was made of it alone: both become one."""
        held = self.session.execute(OTHERS, (other,)).fetchone()
        if live and held is not None and held[0] > 1:
            raise ElsewhereError(f"{self.external_id} belongs to the {self.written.kind} {other}")
        self.session.execute(MOVE, self.names)
        self.session.execute(sql.SQL(LEAVE).format(canonical=canonical_table(self.written.kind)), (other,))
        self.refer(str(other))
        why = {"decision": "matched", "reason": "the record that was created", "detail": Jsonb({"was": str(other)})}
        self.session.execute(NOTE, self.names | why)

    def refer(self, other: str) -> None:
        """What refers to the other one refers to the one that stays."""
        names = self.names | {"other": other, "survivor": str(self.written.canonical_id)}
        for table, found in self.session.execute(REFERRING).fetchall():
            columns = [(sql.Identifier(name), sql.SQL(type_)) for name, type_ in found.items()]
            statement = sql.SQL(REFER).format(
                table=canonical_table(table),
                assignments=sql.SQL(", ").join(
                    sql.SQL(REFER_TO).format(column=one, type=type_) for one, type_ in columns
                ),
                any=sql.SQL(" OR ").join(sql.SQL(REFERS).format(column=one) for one, _ in columns),
            )
            self.session.execute(statement, names)
        self.session.execute(WAKE, names)

    def decide(self) -> None:
        decision = "created" if self.written.operation == "create" else "updated"
        told = {"decision": decision, "reason": "written to the source", "detail": Jsonb(self.written.changes)}
        self.session.execute(NOTE, self.names | told)


def settle(
    session: psycopg.Connection[Any],
    written: Written,
    *,
    external_id: str,
    theirs: dict[str, Any] | None,
    version: str | None,
    found: Writeback | None = None,
    call: int | None = None,
) -> None:
    """Notes in the caller's transaction that the source took a create or an update. Raises ElsewhereError, and nothing
    is to be committed then."""
    Agreement(session, written, external_id, theirs, version, found, call).note()


def unlink(session: psycopg.Connection[Any], written: Written, call: int | None = None) -> None:
    """Notes in the caller's transaction that the source deleted the record."""
    session.execute(LOCK_KIND, (written.kind,))
    names = {"connection": written.connection, "stream": written.stream, "external_id": written.external_id}
    session.execute(UNLINK, names)
    told = {
        "run_id": written.run_id,
        "decision": "deleted",
        "reason": "deleted at the source by us",
        "detail": None,
        "call": call,
    }
    session.execute(NOTE, names | told)


def kept_its_own(base: dict[str, Any], name: str, sent: Any, taken: Any) -> bool:
    """Whether the answer holds the value from before the write, and not another form of what was sent."""
    return name in base and taken == base[name] and taken != sent and plain(taken) != plain(sent)


def plain(value: Any) -> Any:
    """A text without what sources like to normalise."""
    return " ".join(value.casefold().split()) if isinstance(value, str) else value
