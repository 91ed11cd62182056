"""Shape: from changed raw rows to canonical rows and links, set by set. Never asks the source anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from integrations_pipeline.mapping import Mapped, Mapping
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.store.shaping import (
    RawRow,
    ShapeChunk,
    ShapeCounters,
    ShapedRow,
    changed_rows,
    leave_other_kinds,
    pending_rows,
    shape_chunk,
    shape_done,
    shape_until,
    waiting_rows,
)
from integrations_pipeline.sync.committing import Committer


def shape(lease: Lease, stream: Stream, kind: Kind, *, retry: Sequence[int] | None = ()) -> ShapeCounters:
    """Brings the canonical rows of a stream up to its raw rows: the changed ones, or all after an edit of the mapping.

    Tries ambiguous matches again, which a person or another row may have settled, and the open rows of quarantine with
    the ids ``retry`` (None: all). Idempotent; an interrupted shape is done again from its last mark, and what was
    shaped already compares equal.
    """
    mapping = Mapping(stream, kind)
    state = lease.state()
    until = shape_until(lease)
    since = state.shaped_below if state.mapping_hash == mapping.digest else None
    if since is None:
        leave_other_kinds(lease, kind.kind)
    shaper, committer = Shaper(stream, kind, mapping), Committer(ShapeCounters())
    try:
        with lease.beside() as reader:
            changed = changed_rows(reader, since=since, below=until, limit=CHUNK_RECORDS)
            shape_batches(lease, changed, shaper, committer)
            shape_batches(lease, pending_rows(reader, limit=CHUNK_RECORDS), shaper, committer)
            shaper.again = True
            shape_batches(lease, waiting_rows(reader, ids=retry, limit=CHUNK_RECORDS), shaper, committer)
    finally:
        committer.close()
    shape_done(lease, below=until, mapping_hash=mapping.digest)
    return committer.counters


def shape_batches(
    lease: Lease, batches: Iterator[list[RawRow]], shaper: Shaper, committer: Committer[ShapeCounters]
) -> None:
    """Reads and maps one batch while the one before it is committed: each raw row is in one batch only."""
    for rows in batches:
        committer.submit(partial(shape_chunk, lease, shaper.chunk(rows)))
    committer.settle()


class Shaper:
    """Turns raw rows into a chunk: maps each and says what is to be done with it."""

    def __init__(self, stream: Stream, kind: Kind, mapping: Mapping):
        self.kind, self.mapping = kind, mapping
        self.match = stream.map.match if stream.map else []
        self.again = False
        types = {name: kind.fields[name].type for name in mapping.fields}
        self.forms = [(name, FORMS[types[name]]) for name in mapping.fields if types[name] in FORMS]

    def chunk(self, rows: list[RawRow]) -> ShapeChunk:
        chunk = ShapeChunk(kind=self.kind, fields=self.mapping.fields, match=self.match, again=self.again)
        for row in rows:
            if row.deleted:
                chunk.deletes.append(row.external_id)
                continue
            mapped = self.mapping.apply(row.payload or {})
            if mapped.problems:
                chunk.rejected.append((row.external_id, encode_ascii(row.payload), row.hash, mapped.problems))
            else:
                chunk.upserts.append(self.shaped(row, mapped))
        return chunk

    def shaped(self, row: RawRow, mapped: Mapped) -> ShapedRow:
        base = dict(mapped.values)
        for name, form in self.forms:
            if base[name] is not None:
                base[name] = form(base[name])
        references = {}
        if mapped.references:
            base.update(mapped.references)
            references = {name: (self.mapping.references[name], key) for name, key in mapped.references.items()}
        changed = self.mapping.fields
        if row.base is not None:
            changed = tuple(name for name in changed if differs(row, base, name))
        return ShapedRow(row.external_id, mapped.values, base, changed, references, row.version)


def differs(row: RawRow, base: dict[str, Any], name: str) -> bool:
    """Whether the source says something else than last agreed, or a reference still waits for its record."""
    if row.pending and name in row.pending:
        return True
    known = (row.base or {}).get(name, differs)  # a field new in the mapping is in no base
    return known is differs or known != base.get(name)


def decimal_form(value: Decimal) -> str:
    """Equal amounts have one form, whatever zeros they came with."""
    return format(value.normalize(), "f") if value else "0"


FORMS: dict[str, Callable[[Any], Any]] = {"decimal": decimal_form, "timestamp": version_text, "date": version_text}
"""By type, how a value is kept in a link's base where it isn't JSON already: equal values have one form."""
