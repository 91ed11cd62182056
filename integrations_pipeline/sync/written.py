"""What the verb `push` knows of a stream that is written: how values leave, and how an answer is read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations_pipeline.boundary import Boundary
from integrations_pipeline.boundary import Landing as Accepted
from integrations_pipeline.boundary.new_fields import mapped_paths
from integrations_pipeline.mapping import Mapping as Mapped
from integrations_pipeline.mapping.backwards import Backwards
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.limits import TIMEOUT_SECONDS
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.spec.write import Operation, Write
from integrations_pipeline.store.agreed import Writeback, writeback_of
from integrations_pipeline.store.shaping import RawRow
from integrations_pipeline.sync.retrying import lenient
from integrations_pipeline.sync.shape import Shaper, raw_row

NOTHING = (None, "", MISSING)


@dataclass(frozen=True, slots=True)
class Agreed:
    """A source's answer as it is understood. ``theirs``: in the form of a link's base, None where it can't be mapped;
    ``version``: its place among the record's versions. Both None where it isn't ``whole``: it holds less than the
    record is known to have."""

    external_id: str
    theirs: dict[str, Any] | None
    version: str | None
    whole: bool = True


class WrittenStream:
    """Raises ConfigError where the stream's map can't be run backwards. Safe to use from several threads."""

    def __init__(self, connection: Connection, name: str, kinds: Mapping[str, Kind]):
        stream = connection.streams[name]
        writeback = writeback_of(stream)
        assert stream.write is not None and stream.map is not None and writeback is not None
        self.name, self.stream = name, stream
        self.write: Write = stream.write
        self.kind = kinds[stream.map.to]
        self.writeback: Writeback = writeback
        self.backwards = Backwards(stream, self.kind)
        self.boundary = Boundary(connection.name, name, lenient(stream))
        self.sources = {name: stream.map.fields[name].from_ for name in stream.write.fields}
        self.read = {*mapped_paths(stream)}
        self.version_path = stream.version or (stream.cursor.field if stream.cursor else None)
        self.landing = threading.Lock()
        self._shaper = Shaper(stream, self.kind, Mapped(stream, self.kind))
        self._splitting = threading.Lock()

    def agreed(self, record: Any, at: datetime, sent: Mapping[str, Any], before: Any) -> Agreed | None:
        """None where the answer is no record of the stream: it names no key, or its version can't be read.

        ``sent``: the canonical values that were written; ``before``: the source's record as last known.
        """
        try:
            with self._splitting:
                split = self.boundary.split([record], at)
        except ContractError:
            return None
        if not split.good:
            return None
        (accepted,) = split.good
        version = self.own_version(accepted) or (None if self.version_path else moment_text(at))
        if version is None or not (accepted.deleted or self.is_whole(accepted.record, sent, before)):
            return Agreed(accepted.external_id, None, None, whole=False)
        if accepted.deleted:
            return Agreed(accepted.external_id, None, version)
        return Agreed(accepted.external_id, self.theirs(raw_row(accepted)), version)

    def theirs(self, row: RawRow) -> dict[str, Any] | None:
        """A record in the form of a link's base; None where it can't be mapped."""
        mapped = self._shaper.mapping.apply(row.payload or {})
        return None if mapped.problems else self._shaper.shaped(row, mapped).base

    def body(self, operation: str, changes: Mapping[str, Any], record: Any) -> dict[str, Any]:
        """What is sent. Of what replaces the whole record a value that reads as the record's does now goes just as it
        stands there, not in our form of it."""
        body = self.backwards.payload(changes, record).body
        if operation != "update" or not self.write.replaces("update") or record is None:
            return body
        theirs = self.theirs(RawRow("", record, "", b"", deleted=False, stamp="")) or {}
        for name, path in self.sources.items():
            if path is None or name not in changes or theirs.get(name, MISSING) != changes[name]:
                continue
            if (held := path.get(record)) is not MISSING:
                path.put(body, held)
        return body

    def is_whole(self, answer: Any, sent: Mapping[str, Any], before: Any) -> bool:
        """Whether it holds all that the map reads of the record; a field without a value may be left out."""
        written = {self.sources[name]: value for name, value in sent.items() if name in self.sources}
        known = {path: written[path] if path in written else path.get(before) for path in self.read}
        return all(path.get(answer) is not MISSING for path, value in known.items() if value not in NOTHING)

    def own_version(self, row: Accepted) -> str | None:
        """The record's own place in the source's order; None where it names none."""
        if self.version_path is None or self.version_path.get(row.record) in NOTHING:
            return None
        return row.version

    def key_of(self, external_id: str | None, record: dict[str, Any] | None) -> dict[str, Any]:
        """The fields of the primary key."""
        paths = self.stream.primary_key
        if record is not None:
            found = {str(path): path.get(record) for path in paths}
            if MISSING not in found.values():
                return found
        if external_id is None:
            return {}
        parts = [external_id] if len(paths) == 1 else decode(external_id.encode())
        return dict(zip(map(str, paths), parts, strict=True))

    @property
    def repeatable_create(self) -> bool:
        """Whether a create sent twice makes one object all the same."""
        batch = self.write.batch
        return self.write.create is None and (batch is None or batch.create is None)

    @property
    def lag_seconds(self) -> float:
        """After which the source shows what it was sent."""
        find = self.write.find
        return find.lag.total_seconds() if find is not None and find.lag is not None else 0.0

    @property
    def kept_seconds(self) -> float:
        """How long the source remembers a key, less what a request may take; none where it remembers none."""
        key = self.write.idempotency
        return key.kept.total_seconds() - TIMEOUT_SECONDS if key is not None else 0.0

    def size(self, operation: Operation) -> int:
        """How many such changes one request carries. A create of which the source couldn't tell later whether it was
        done goes alone."""
        batch = self.write.batch
        if batch is None or batch.call_of(operation) is None:
            return 1
        certain = self.repeatable_create or self.keyed_create or self.write.find is not None
        return batch.size if operation != "create" or certain else 1

    @property
    def keyed_create(self) -> bool:
        """Whether a lost create may be sent again with its key."""
        return self.write.is_known_by_key("create")


def moment_text(at: datetime) -> str:
    """A time as a version: in whole seconds, since many sources name no more."""
    return version_text(at.replace(microsecond=0))
