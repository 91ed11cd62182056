"""What an edit of a mapping changes, from the raw records held: no request, no lock, nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations_pipeline.mapping import Mapping as Mapped
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.store.planned import MappedRow, Sample, mapped_rows
from integrations_pipeline.store.preparing import read_present
from integrations_pipeline.store.shaping import RawRow
from integrations_pipeline.store.state import read_state
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.run import choose
from integrations_pipeline.sync.shape import Shaper

SAMPLES = 3
"""Of each sort."""


@dataclass
class MappingPreview:
    """One stream, of ``rows`` held. ``changed``: says something else than when it was mapped last, by field in
    ``fields``; ``fails``: was well; ``heals``: had failed; ``new``: was never mapped. ``edited``: whether anything of
    the mapping was since."""

    stream: str
    edited: bool
    rows: int = 0
    changed: int = 0
    fails: int = 0
    heals: int = 0
    new: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "samples": [one._asdict() for one in self.samples]}

    def sample(self, sort: str, row: MappedRow, after: dict[str, Any] | None, reason: str | None = None) -> None:
        if sum(one.sort == sort for one in self.samples) < SAMPLES:
            before = row.base and {name: row.base.get(name) for name in after} if after else None
            self.samples.append(Sample(sort, row.external_id, before or None, after, reason))


def preview(
    connection: Connection, store: Store, kinds: Mapping[str, Kind], *, streams: Iterable[str] = ()
) -> list[MappingPreview]:
    """Maps every record held as the file says now, and compares with what it was mapped to last.

    Raises ConfigError for an unknown stream, one without `map`, or a map that doesn't fit its kind.
    """
    named = list(streams)
    chosen = [name for name in choose(connection, named) if connection.streams[name].map is not None]
    if named and len(chosen) < len(named):
        raise ConfigError("the stream has no `map`", where=f"{connection.name}", next="name one that has")
    return [preview_stream(connection, name, store, kinds) for name in chosen]


def preview_stream(
    connection: Connection, name: str, store: Store, kinds: Mapping[str, Kind], at_most: int | None = None
) -> MappingPreview:
    """One stream with a `map`; not all of its records, but about ``at_most``, where somebody waits.

    Raises ConfigError for a map that doesn't fit its kind.
    """
    stream = connection.streams[name]
    assert stream.map is not None
    kind = kinds[stream.map.to]
    shaper = Shaper(stream, kind, Mapped(stream, kind))
    with store.borrow() as session:
        known = read_state(session, connection.name, name).mapping_hash
        found = MappingPreview(name, edited=known != shaper.mapping.digest)
        if read_present(session, [("raw", f"{connection.name}__{name}")]):
            for batch in mapped_rows(session, connection.name, name, kind.kind, limit=CHUNK_RECORDS):
                for row in batch:
                    compare(found, row, shaper)
                if at_most is not None and found.rows >= at_most:
                    break
    return found


def compare(found: MappingPreview, row: MappedRow, shaper: Shaper) -> None:
    """Counts what becomes of one record."""
    found.rows += 1
    mapped = shaper.mapping.apply(row.payload)
    if mapped.problems:
        if not row.failed:
            found.fails += 1
            found.reasons.update(f"{one['field']}: {one['message']}" for one in mapped.problems)
            found.sample("fails", row, None, "; ".join(f"{one['field']}: {one['message']}" for one in mapped.problems))
        return
    said = decode(encode(shaper.shaped(RawRow(row.external_id, row.payload, row.version, b"", False, ""), mapped).base))
    if row.failed or row.base is None:
        sort = "heals" if row.failed else "new"
        setattr(found, sort, getattr(found, sort) + 1)
        found.sample(sort, row, said)
        return
    differs = {name: value for name, value in said.items() if value != row.base.get(name)}
    if differs:
        found.changed += 1
        found.fields.update(list(differs))
        found.sample("changed", row, differs)
