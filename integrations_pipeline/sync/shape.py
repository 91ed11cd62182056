"""Shape: from changed raw rows to canonical rows and links, set by set. Never asks the source anything."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from integrations_pipeline.mapping import Mapping
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
    pending_rows,
    shape_chunk,
    shape_done,
    shape_until,
)


def shape(lease: Lease, stream: Stream, kind: Kind) -> ShapeCounters:
    """Brings the canonical rows of a stream up to its raw rows: the changed ones, or all after an edit of the mapping.

    Idempotent; an interrupted shape is done again from its last mark, and what was shaped already compares equal.
    """
    mapping = Mapping(stream, kind)
    state = lease.state()
    until = shape_until(lease)
    since = state.shaped_below if state.mapping_hash == mapping.digest else None
    counters = ShapeCounters()
    for rows in changed_rows(lease, since=since, below=until, limit=CHUNK_RECORDS):
        counters = counters + shape_chunk(lease, chunk_of(rows, stream, kind, mapping))
    for rows in pending_rows(lease, limit=CHUNK_RECORDS):
        counters = counters + shape_chunk(lease, chunk_of(rows, stream, kind, mapping))
    shape_done(lease, below=until, mapping_hash=mapping.digest)
    return counters


def chunk_of(rows: list[RawRow], stream: Stream, kind: Kind, mapping: Mapping) -> ShapeChunk:
    """Maps the rows and sorts them by what is to be done with each."""
    chunk = ShapeChunk(kind=kind, fields=mapping.fields, match=stream.map.match if stream.map else [])
    for row in rows:
        if row.deleted:
            chunk.deletes.append(row.external_id)
            continue
        mapped = mapping.apply(row.payload or {})
        if mapped.problems:
            chunk.rejected.append((row.external_id, encode_ascii(row.payload), row.hash, mapped.problems))
            continue
        base = {name: json_form(value) for name, value in mapped.values.items()}
        base.update(mapped.references)
        changed = tuple(name for name in mapping.fields if row.base is None or differs(row, base, name))
        references = {name: (mapping.references[name], key) for name, key in mapped.references.items()}
        chunk.upserts.append(ShapedRow(row.external_id, mapped.values, base, changed, references, row.version))
    return chunk


def differs(row: RawRow, base: dict[str, Any], name: str) -> bool:
    """Whether the source says something else than last agreed, or a reference still waits for its record."""
    if row.pending and name in row.pending:
        return True
    known = (row.base or {}).get(name, differs)  # a field new in the mapping is in no base
    return known is differs or known != base.get(name)


def json_form(value: Any) -> Any:
    """A typed value as it is kept in a link's base: equal values have one form."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    if isinstance(value, datetime | date):
        return version_text(value)
    return value
