"""Shaping: mapped rows into their kind's canonical table, each with its link, in one transaction per chunk.

    no link ──▶ matched    exactly one live canonical row has the same match values and no link of this stream yet
                ambiguous  several have: to quarantine, never a guess
                created
    linked  ──▶ updated    the source says something else than last agreed; also a deleted record that is back
                unchanged

A matched record fills its canonical row: its nulls don't empty what another source has said. Of a linked record only
the fields that changed since last agreed are written, so that edits made here to the others stay. Where the stream is
also written, what both sides changed is settled before (``merging``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import args_row

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.limits import SAMPLE_CHARACTERS
from integrations_pipeline.store.agreed import Writeback
from integrations_pipeline.store.copying import JSONB_FORM, copy_rows, copy_storable, unstorable
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.merging import Merging
from integrations_pipeline.store.quarantine import Rejection, any_open, heal, quarantine, storable_key
from integrations_pipeline.store.retrying import still_bad
from integrations_pipeline.store.shape_statement import columns, shape_statement
from integrations_pipeline.store.state import StateChange, write_state
from integrations_pipeline.store.tables import canonical_table, raw_table


class RawRow(NamedTuple):
    """A raw row; ``payload`` is None where it is deleted."""

    external_id: str
    payload: dict[str, Any] | None
    version: str
    hash: bytes
    deleted: bool
    stamp: str


class ShapedRow(NamedTuple):
    """A mapped record. ``values`` are typed for the kind's columns, ``base`` is their JSON form, compared with what was
    last agreed; ``references`` names, per field, the record it points to."""

    external_id: str
    values: dict[str, Any]
    base: dict[str, Any]
    references: dict[str, tuple[str, str]]
    version: str


@dataclass
class ShapeChunk:
    """What is shaped together; each raw row is in exactly one of the lists, once. ``again``: all are in quarantine, and
    those that must stay there are nothing new: they aren't counted. ``writeback``: of a stream that is also written."""

    kind: Kind
    fields: tuple[str, ...]
    match: Sequence[Sequence[str]] = ()
    upserts: list[ShapedRow] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    again: bool = False
    writeback: Writeback | None = None


@dataclass(frozen=True)
class ShapeCounters:
    """What became of the rows; they add up to the rows given. A matched row counts as updated."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    quarantined: int = 0

    def __add__(self, other: ShapeCounters) -> ShapeCounters:
        return ShapeCounters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_dict(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


# Under the lease nobody else writes the stream's raw rows: those there are have lower stamps, later ones don't. Also
# where they were written in this very transaction (a rehearsal's), which isn't over and so not below that edge.
UNTIL = """
SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::numeric,
                pg_current_xact_id_if_assigned()::text::numeric + 1)::text
"""

ROW = """
    r.external_id, CASE WHEN r.deleted_at IS NULL THEN r.payload END, r.version, r.hash, r.deleted_at IS NOT NULL,
    r.stamp::text
"""

# Up to where the stream has landed, and the keys of the rows that did since a mark.
LANDED = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text,
       ARRAY(SELECT r.external_id FROM {raw} r WHERE r.stamp >= %(since)s::xid8 LIMIT %(limit)s)
"""

# The raw rows of these keys.
NAMED = "SELECT {row} FROM {raw} r WHERE r.external_id = ANY(%(keys)s::text[]) ORDER BY r.external_id"

# The raw rows stamped in a span, after a place in the order of stamp and key.
CHANGED = """
SELECT {row} FROM {raw} r
WHERE (r.stamp, r.external_id) {after} (%(stamp)s::xid8, %(key)s) AND r.stamp < %(below)s::xid8
ORDER BY r.stamp, r.external_id LIMIT %(limit)s
"""

# Live rows one of whose references waits for a record that is there by now, in the order of their keys.
PENDING = """
SELECT {row} FROM integrations.link l
JOIN {raw} r ON r.external_id = l.external_id AND r.deleted_at IS NULL
WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.pending IS NOT NULL AND l.deleted_at IS NULL
  AND l.external_id > %(key)s
  AND EXISTS (SELECT FROM jsonb_each(l.pending) p, LATERAL (
                  SELECT FROM integrations.link t WHERE t.connection = %(connection)s
                   AND t.stream = p.value ->> 'stream' AND t.external_id = p.value ->> 'external_id' OFFSET 0) AS t)
ORDER BY l.external_id LIMIT %(limit)s
"""

# Rows in quarantine that may do better although neither they nor the mapping changed, in the order of their keys: those
# that several canonical records matched, or those asked for by id.
WAITING = """
SELECT {row} FROM integrations.quarantine q
JOIN {raw} r ON r.external_id = q.external_id
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'mapping' AND q.status = 'open'
  AND q.external_id > %(key)s AND (%(all)s OR q.id = ANY(%(ids)s::bigint[])
                                   OR q.reasons @> '[{{"rule": "ambiguous_match"}}]')
ORDER BY q.external_id LIMIT %(limit)s
"""

# One at a time per kind: two streams that bring the same person at once must see each other's rows to match them.
LOCK_KIND = "SELECT pg_advisory_xact_lock(hashtextextended('integrations kind ' || %s, 0))"

# Canonical ids of records that references name; a deleted record keeps its id.
RESOLVE = """
SELECT wanted.stream, wanted.key, l.canonical_id
FROM unnest(%(streams)s::text[], %(keys)s::text[]) AS wanted (stream, key), LATERAL (
    SELECT l.canonical_id FROM integrations.link l
    WHERE l.connection = %(connection)s AND l.stream = wanted.stream AND l.external_id = wanted.key OFFSET 0) AS l
"""

# Where a chunk's rows wait, the fields typed as in the canonical table. Our own columns can't be named like a field.
TABLE = """
CREATE TEMPORARY TABLE IF NOT EXISTS shaped ON COMMIT DELETE ROWS AS
SELECT ''::text COLLATE "C" AS _key, ''::text COLLATE "C" AS _version, NULL::jsonb AS _base, NULL::jsonb AS _pending,
       NULL::uuid AS _new_id, {fields}
FROM {canonical} WITH NO DATA
"""
COLUMNS = ("_key", "_version", "_base", "_pending", "_new_id")
TYPES = ("text", "text", "bytea", "bytea", "bytea")

# Links of deleted records; a canonical row follows when no other record holds it.
UNLINK = """
UPDATE integrations.link SET deleted_at = now()
WHERE connection = %(connection)s AND stream = %(stream)s AND external_id = ANY(%(keys)s::text[]) AND deleted_at IS NULL
RETURNING external_id, canonical_id
"""
DELETE = """
UPDATE {canonical} c SET deleted_at = now()
WHERE c.id = ANY(%(ids)s) AND c.deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM integrations.link l WHERE l.canonical_id = c.id AND l.deleted_at IS NULL)
RETURNING c.id
"""
NOTE_DELETED = """
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason)
SELECT %(run_id)s, %(connection)s, %(stream)s, key, 'canonical', 'deleted',
       CASE WHEN id <> ALL(%(gone)s::uuid[]) THEN 'unlinked only: another record holds it' ELSE %(reason)s END
FROM unnest(%(keys)s::text[], %(ids)s::uuid[]) AS u (key, id)
"""

# Links to a kind that the stream is no longer mapped to.
LEAVE = """
DELETE FROM integrations.link
WHERE connection = %(connection)s AND stream = %(stream)s AND kind <> %(kind)s
RETURNING kind, external_id, canonical_id, deleted_at IS NULL
"""

# The stored form of rows that are put into quarantine.
PAYLOADS = "SELECT external_id, payload::text, hash FROM {raw} WHERE external_id = ANY(%s)"


def shape_until(held: Holder) -> str:
    """The stamp (xid8 as text) below which all raw rows of the stream are, and past which all later ones will be."""
    with held.reading() as session:
        row = session.execute(UNTIL).fetchone()
    assert row is not None
    return str(row[0])


def landed_since(held: Holder, since: str, limit: int | None = None) -> tuple[str, list[str]]:
    """The mark up to where the stream has landed by now, and the keys of rows stamped from ``since`` to there."""
    query = sql.SQL(LANDED).format(raw=raw_table(held.connection, held.stream))
    with held.reading() as session:
        row = session.execute(query, {"since": since, "limit": limit}, binary=True).fetchone()
    assert row is not None
    return row[0], row[1]


def named_rows(held: Holder, keys: Sequence[str]) -> list[RawRow]:
    """The stream's raw rows of these keys, as they are stored."""
    query = sql.SQL(NAMED).format(row=sql.SQL(ROW), raw=raw_table(held.connection, held.stream))
    return fetch_rows(held, query, {"keys": list(keys)})


def changed_rows(held: Holder, *, below: str, since: str | None, limit: int) -> Iterator[list[RawRow]]:
    """Batches of raw rows stamped from ``since`` (None: all) to below ``below``; chunks may be shaped between them."""
    statement, place = sql.SQL(CHANGED), {"stamp": since or "0", "key": "", "below": below, "limit": limit}
    after = sql.SQL(">=")
    while True:
        query = statement.format(row=sql.SQL(ROW), raw=raw_table(held.connection, held.stream), after=after)
        rows = fetch_rows(held, query, place)
        if rows:
            yield rows
        if len(rows) < limit:
            return
        place |= {"stamp": rows[-1].stamp, "key": rows[-1].external_id}
        after = sql.SQL(">")


def pending_rows(held: Holder, *, limit: int) -> Iterator[list[RawRow]]:
    """Batches of rows whose references can be looked up by now."""
    query = sql.SQL(PENDING).format(row=sql.SQL(ROW), raw=raw_table(held.connection, held.stream))
    place = {"key": "", "limit": limit}
    while rows := fetch_rows(held, query, place):
        yield rows
        place["key"] = rows[-1].external_id


def waiting_rows(held: Holder, *, ids: Sequence[int] | None = (), limit: int) -> Iterator[list[RawRow]]:
    """Batches of quarantined rows to be mapped again: ambiguous matches, and those with these ids (None: all)."""
    with held.reading() as session:
        if not any_open(held, session, "mapping"):
            return
    query = sql.SQL(WAITING).format(row=sql.SQL(ROW), raw=raw_table(held.connection, held.stream))
    place = {"key": "", "limit": limit, "all": ids is None, "ids": list(ids or ())}
    while rows := fetch_rows(held, query, place):
        yield rows
        place["key"] = rows[-1].external_id


def fetch_rows(held: Holder, query: sql.Composed, place: dict[str, Any]) -> list[RawRow]:
    with held.reading() as session:
        return session.cursor(row_factory=args_row(RawRow)).execute(query, held.names | place, binary=True).fetchall()


def shape_chunk(held: Holder, chunk: ShapeChunk, done: StateChange | None = None) -> ShapeCounters:
    """Commits the chunk, and how far the stream is shaped with it. Raises LeaseHeld (nothing written) or
    DestinationError."""

    def work(session: psycopg.Connection[Any]) -> ShapeCounters:
        counters = Shaping(held, session, chunk).commit()
        if done is not None:
            write_state(session, held.connection, held.stream, done)
        return counters

    return held.write(work)


def shape_done(held: Holder, *, below: str, mapping_hash: str) -> None:
    """All rows stamped below are shaped with this mapping."""
    change = StateChange(shaped_below=below, mapping_hash=mapping_hash)
    held.write(lambda session: write_state(session, held.connection, held.stream, change))


def leave_other_kinds(held: Holder, kind: str) -> None:
    """After an edit of `map.to`: links to the former kind end, and its rows that nobody else holds become deleted."""

    def work(session: psycopg.Connection[Any]) -> None:
        left = session.execute(LEAVE, {**held.names, "kind": kind}).fetchall()
        for former in sorted({row[0] for row in left}):
            session.execute(LOCK_KIND, (former,))
            unlinked = [(key, canonical_id) for of, key, canonical_id, live in left if live and of == former]
            if unlinked:
                delete_unheld(held, session, former, unlinked, reason=f"now mapped to {kind}")

    held.write(work)


def delete_unheld(
    held: Holder,
    session: psycopg.Connection[Any],
    kind: str,
    unlinked: Sequence[tuple[str, UUID]],
    reason: str | None = None,
) -> None:
    """Canonical rows of these (external id, canonical id) become deleted, unless another record holds them."""
    keys, ids = map(list, zip(*unlinked, strict=True))
    statement = sql.SQL(DELETE).format(canonical=canonical_table(kind))
    gone = [row[0] for row in session.execute(statement, {"ids": ids})]
    session.execute(NOTE_DELETED, {**held.names, "keys": keys, "ids": ids, "gone": gone, "reason": reason})


@dataclass
class Shaping:
    """One chunk inside its transaction."""

    held: Holder
    session: psycopg.Connection[Any]
    chunk: ShapeChunk

    def commit(self) -> ShapeCounters:
        self.session.execute(LOCK_KIND, (self.chunk.kind.kind,))
        rows = self.chunk.upserts
        refused = self.copy(rows) if rows else []
        late = self.merging.before() if rows and self.merging else 0
        outcomes, ambiguous = self.shape() if rows else ({}, [])
        if rows and self.merging:
            self.merging.after()
        bad = [*self.chunk.rejected, *self.with_payloads([*refused, *ambiguous])]
        self.close_quarantine({key for key, *_ in bad})
        if self.chunk.again:
            still_bad(self.held, self.session, "mapping", {str(key): reasons for key, _, _, reasons in bad})
        else:
            quarantine(self.held, self.session, "mapping", bad)
        deleted = self.delete()
        return ShapeCounters(
            created=outcomes.get("created", 0),
            updated=outcomes.get("updated", 0) + outcomes.get("matched", 0),
            unchanged=outcomes.get("unchanged", 0) + late + len(self.chunk.deletes) - deleted,
            deleted=deleted,
            quarantined=0 if self.chunk.again else len(bad),
        )

    @property
    def canonical(self) -> sql.Identifier:
        return canonical_table(self.chunk.kind.kind)

    @cached_property
    def merging(self) -> Merging | None:
        writeback = self.chunk.writeback
        return Merging(self.held, self.session, self.chunk.kind, writeback) if writeback else None

    def copy(self, rows: list[ShapedRow]) -> list[tuple[str, list[dict[str, Any]]]]:
        """Brings the rows into the temporary table; returns the keys of those that can't be stored, with reasons."""
        names = columns(self.chunk.fields)
        self.session.execute(sql.SQL(TABLE).format(fields=names, canonical=self.canonical))
        described = self.session.execute(sql.SQL("SELECT {} FROM shaped LIMIT 0").format(names)).description or []
        types = (*TYPES, *(column.type_code for column in described))
        uuids = {column.name for column in described if column.type_code == UUID_OID}
        found = self.resolve(rows)

        def copy(part: Sequence[tuple[ShapedRow, bytes]]) -> None:
            forms = (self.form(row, new_id, found, uuids) for row, new_id in part)
            copy_rows(self.session, "shaped", (*COLUMNS, *self.chunk.fields), types, forms)

        refused = copy_storable(self.session, copy, list(zip(rows, new_ids(len(rows)), strict=True)))
        return [(row.external_id, unstorable(why, row.external_id[:SAMPLE_CHARACTERS])) for (row, _), why in refused]

    def form(
        self, row: ShapedRow, new_id: bytes, found: dict[tuple[str, str], UUID], uuids: set[str]
    ) -> tuple[Any, ...]:
        """One row of the temporary table."""
        values, pending = row.values, None
        if row.references:
            values, pending = dict(values), {}
            for name, target in row.references.items():
                known = found.get(target)
                values[name] = known if known is None or name in uuids else str(known)
                if known is None:
                    pending[name] = {"stream": target[0], "external_id": target[1]}
        return (
            row.external_id,
            row.version,
            JSONB_FORM + encode(row.base),
            JSONB_FORM + encode(pending) if pending else None,
            new_id,
            *(values[name] for name in self.chunk.fields),
        )

    def resolve(self, rows: list[ShapedRow]) -> dict[tuple[str, str], UUID]:
        """The canonical ids of the records that the rows refer to, as far as they are known."""
        wanted = {target for row in rows for target in row.references.values() if storable_key(target[1])}
        if not wanted:
            return {}
        streams, keys = map(list, zip(*wanted, strict=True))
        found = self.session.execute(RESOLVE, {**self.held.names, "streams": streams, "keys": keys})
        return {(stream, key): canonical_id for stream, key, canonical_id in found}

    def shape(self) -> tuple[dict[str, int], list[tuple[str, list[dict[str, Any]]]]]:
        """Rows by outcome, and the keys of ambiguous ones with their reasons."""
        policies = self.chunk.writeback.policies if self.chunk.writeback else {}
        statement = shape_statement(self.canonical, self.chunk.fields, self.chunk.match, policies)
        outcomes: dict[str, int] = {}
        ambiguous: list[tuple[str, list[dict[str, Any]]]] = []
        for outcome, count, candidates in self.session.execute(
            statement, {**self.held.names, "kind": self.chunk.kind.kind}
        ):
            outcomes[outcome] = count
            for key, (by, ids) in (candidates or {}).items():
                message = f"several {self.chunk.kind.kind} records have the same {by}"
                reason = {"rule": "ambiguous_match", "field": by, "message": message, "sample": ", ".join(ids)}
                ambiguous.append((key, [reason]))
        return outcomes, ambiguous

    def with_payloads(self, bad: list[tuple[str, list[dict[str, Any]]]]) -> list[Rejection]:
        """Rejections of rows known by their key, with what is stored of them."""
        if not bad:
            return []
        query = sql.SQL(PAYLOADS).format(raw=raw_table(self.held.connection, self.held.stream))
        stored = {key: (text, digest) for key, text, digest in self.session.execute(query, ([key for key, _ in bad],))}
        return [(key, *stored[key], reasons) for key, reasons in bad]

    def close_quarantine(self, bad: set[str | None]) -> None:
        """Rows that could be mapped, or are deleted, end what was wrong with them."""
        if any_open(self.held, self.session, "mapping"):
            well: Iterable[str] = (row.external_id for row in self.chunk.upserts if row.external_id not in bad)
            heal(self.held, self.session, "mapping", [*well, *self.chunk.deletes])

    def delete(self) -> int:
        """Unlinks deleted records. Returns how many were linked."""
        if not self.chunk.deletes:
            return 0
        stay = self.merging.outliving(self.chunk.deletes) if self.merging else []
        unlinked = self.session.execute(UNLINK, {**self.held.names, "keys": self.chunk.deletes}).fetchall()
        gone = [one for one in unlinked if one[1] not in stay]
        if gone:
            delete_unheld(self.held, self.session, self.chunk.kind.kind, gone)
        return len(unlinked)


UUID_OID = 2950


def new_ids(count: int) -> list[bytes]:
    """UUIDs of version 7 as bytes: in the order of time, so that an index grows at its end."""
    moment = int(time.time() * 1000).to_bytes(6, "big")
    noise = os.urandom(count * 10)
    return [
        moment + bytes((0x70 | (part[0] & 0x0F), part[1], 0x80 | (part[2] & 0x3F))) + part[3:10]
        for part in (noise[at : at + 10] for at in range(0, count * 10, 10))
    ]
