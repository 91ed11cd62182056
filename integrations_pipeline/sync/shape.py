"""Shape: from changed raw rows to canonical rows and links, set by set. Never asks the source anything.

Rows just landed are shaped from memory, chunk by chunk (``Following``). All else is read from raw: what an edit of the
mapping, an interrupted run or a full refresh's tombstones left, and references that can be looked up by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from integrations_pipeline.boundary import Landing
from integrations_pipeline.mapping import Mapped, Mapping
from integrations_pipeline.mapping.forms import FORMS
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.agreed import writeback_of
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.store.own_forms import forget_unread
from integrations_pipeline.store.shaping import (
    RawRow,
    ShapeChunk,
    ShapeCounters,
    ShapedRow,
    changed_rows,
    landed_since,
    leave_other_kinds,
    named_rows,
    pending_rows,
    shape_chunk,
    shape_done,
    shape_until,
    waiting_rows,
)
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.sync.committing import Committer

Rows = dict[str, Landing]
"""A chunk's checked rows by external id."""


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
    if stream.write is None:
        forget_unread(lease)
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


def follow(lease: Lease, stream: Stream, kind: Kind) -> Following | None:
    """Ready to shape what lands from now on; None where something older is to be shaped before it."""
    mapping = Mapping(stream, kind)
    state = lease.state()
    since = state.shaped_below if state.mapping_hash == mapping.digest else None
    mark, waiting = landed_since(lease, since or "0", limit=1)
    if waiting:
        return None
    if since is None:
        leave_other_kinds(lease, kind.kind)
    return Following(lease, Shaper(stream, kind, mapping), mark)


class Following:
    """Shapes each chunk's rows from memory as soon as they have landed, in a thread and a session of its own.

    The mark moves with them. It ends at the first error: the rows from there on are left to ``shape``, which raises it.
    """

    def __init__(self, lease: Lease, shaper: Shaper, mark: str):
        self.lease, self.shaper, self.mark = lease, shaper, mark
        self._sessions = ExitStack()
        self.beside = self._sessions.enter_context(lease.beside())
        self.failed = False
        self._committer = Committer(ShapeCounters())

    @property
    def counters(self) -> ShapeCounters:
        return self._committer.counters

    def landed(self, rows: Rows) -> None:
        """Takes the chunk that was committed last, and waits until the one before it is shaped. To be told of each one:
        what was stamped since the last time is taken for its rows.
        """
        if self.failed:
            return
        try:
            self.mark, keys = landed_since(self.lease, self.mark)
            if keys:  # mapped here, while the database shapes the chunk before
                chunk = self.shaper.chunk([raw_row(rows[key]) for key in keys if key in rows])
                self._committer.submit(partial(self.shape, chunk, [key for key in keys if key not in rows], self.mark))
        except Exception:  # noqa: BLE001 - whatever it is, ``shape`` meets it again and says so
            self.failed = True

    def shape(self, chunk: ShapeChunk, absent: list[str], mark: str) -> ShapeCounters:
        """What landed but isn't in memory is read back, as is what goes to quarantine."""
        again = absent + [str(one[0]) for one in chunk.rejected]
        if again:
            chunk.rejected = []
            self.shaper.add(chunk, named_rows(self.beside, again))
        done = StateChange(shaped_below=mark, mapping_hash=self.shaper.mapping.digest)
        return shape_chunk(self.beside, chunk, done)

    def close(self) -> None:
        """Waits for what is under way."""
        try:
            self._committer.settle()
        except Exception:  # noqa: BLE001 - as above
            self.failed = True
        finally:
            self._committer.close()
            self._sessions.close()


def raw_row(row: Landing) -> RawRow:
    """A row as it would be read back."""
    return RawRow(row.external_id, None if row.deleted else row.record, row.version, row.hash, row.deleted, "")


class Shaper:
    """Turns raw rows into a chunk: maps each and says what is to be done with it."""

    def __init__(self, stream: Stream, kind: Kind, mapping: Mapping):
        self.kind, self.mapping = kind, mapping
        self.match = stream.map.match if stream.map else []
        self.writeback = writeback_of(stream)
        self.again = False
        types = {name: kind.fields[name].type for name in mapping.fields}
        self.forms = [(name, FORMS[types[name]]) for name in mapping.fields if types[name] in FORMS]

    def chunk(self, rows: list[RawRow]) -> ShapeChunk:
        chunk = ShapeChunk(
            kind=self.kind, fields=self.mapping.fields, match=self.match, again=self.again, writeback=self.writeback
        )
        self.add(chunk, rows)
        return chunk

    def add(self, chunk: ShapeChunk, rows: list[RawRow]) -> None:
        for row in rows:
            if row.deleted:
                chunk.deletes.append(row.external_id)
                continue
            mapped = self.mapping.apply(row.payload or {})
            if mapped.problems:
                chunk.rejected.append((row.external_id, encode_ascii(row.payload), row.hash, mapped.problems))
            else:
                chunk.upserts.append(self.shaped(row, mapped))

    def shaped(self, row: RawRow, mapped: Mapped) -> ShapedRow:
        base = dict(mapped.values)
        for name, form in self.forms:
            if base[name] is not None:
                base[name] = form(base[name])
        references = {}
        if mapped.references:
            base.update(mapped.references)
            references = {name: (self.mapping.references[name], key) for name, key in mapped.references.items()}
        return ShapedRow(row.external_id, mapped.values, base, references, row.version)
