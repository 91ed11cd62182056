"""The rows of one call while they are judged. A row is known by its position; what is said of it is kept beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from integrations_pipeline.boundary.outcome import Finding, digest
from integrations_pipeline.spec.decoding import NonFinite, encode_sorted
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.limits import NESTING_DEPTH
from integrations_pipeline.spec.reasons import Reason, printable, reason, sample

FINDINGS = 100
"""Per call: an object whose keys are data (one per date, say) would else make a finding of each."""


@dataclass(slots=True)
class Batch:
    """``rows`` are the source's, never changed; ``records`` what is stored: the same objects, or edited copies."""

    rows: list[Any]
    records: list[dict[str, Any]]
    ids: list[str | None] = field(default_factory=list)
    reasons: dict[int, list[Reason]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    tombstones: set[int] = field(default_factory=set)
    bodies: list[bytes] = field(init=False)
    hashes: list[bytes] = field(init=False)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bodies = [b""] * len(self.rows)
        self.hashes = [b""] * len(self.rows)

    def reject(self, position: int, rule: str, path: str, message: str, value: Any = None) -> None:
        self.reasons.setdefault(position, []).append(reason(rule, path, message, value))

    def note(self, kind: str, path: str, value: Any, rows: int = 0) -> None:
        """Counts a finding; the first value met is its sample."""
        known = self.findings.get((kind, path))
        if known is None and len(self.findings) >= FINDINGS:
            return
        shown = known.sample if known else sample(value)
        self.findings[kind, path] = Finding(kind, printable(path), shown, rows + (known.rows if known else 0))

    def standing(self) -> list[int]:
        """Positions of the rows that nothing has been said against."""
        return self.without(self.reasons.keys() | self.skipped.keys())

    def living(self) -> list[int]:
        """Those of them that the fields are asked of: a tombstone needs only its key and version."""
        return self.without(self.reasons.keys() | self.skipped.keys() | self.tombstones)

    def without(self, out: set[int]) -> list[int]:
        return [position for position in range(len(self.rows)) if position not in out]

    def encode(self, positions: list[int]) -> None:
        """Makes payload and hash; what PostgreSQL can't hold is rejected one by one."""
        records, bodies, hashes = self.records, self.bodies, self.hashes
        for position in positions:
            try:
                body = encode_sorted(records[position])
            except (DataError, RecursionError) as error:
                self.reject_unstorable(position, error.args[0])
                continue
            bodies[position], hashes[position] = body, digest(body)
            if b"\\u0000" in body or (len(body) > NESTING_DEPTH and is_suspect(body)):
                self.reject_unstorable(position, None)

    def reject_unstorable(self, position: int, known: str | None) -> None:
        """Names what can't be stored; without a known reason it is only suspected (an escaped ``\\u0000`` is text)."""
        found = unstorable(self.records[position]) or (known and ("", known))
        if found:
            self.reject(position, "storable", found[0], found[1], self.rows[position])


def is_suspect(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > NESTING_DEPTH


def unstorable(value: Any, path: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """The path of the first thing in a JSON value that jsonb refuses, and what it is."""
    if isinstance(value, str):
        wrong = unstorable_text(value)
        return (".".join(path), f"holds {wrong}") if wrong else None
    if isinstance(value, NonFinite) or (isinstance(value, float) and not isfinite(value)):
        return ".".join(path), f"{value} is no number"
    if not isinstance(value, dict | list):
        return None
    if len(path) >= NESTING_DEPTH:
        return ".".join(path[:3]), f"nested deeper than {NESTING_DEPTH} levels"
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        below = (*path, str(key))
        if wrong := unstorable_text(below[-1]):
            return ".".join(below), f"the field's name holds {wrong}"
        if found := unstorable(inner, below):
            return found
    return None


def unstorable_text(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    return None if text.isascii() or encodable(text) else "half of a surrogate pair"


def encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
