"""What becomes of rows at the boundary."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from integrations_pipeline.spec.reasons import Reason


class Landing(NamedTuple):
    """An accepted record as it is stored. ``hash`` is blake2b-128 of ``payload``, whose keys are sorted; ``record`` is
    what that says."""

    external_id: str
    payload: bytes
    hash: bytes
    version: str
    deleted: bool
    record: dict[str, Any]


class Rejected(NamedTuple):
    """A row for quarantine. ``external_id`` is None where no usable key could be read; ``payload`` is ASCII JSON."""

    external_id: str | None
    payload: str
    hash: bytes
    reasons: list[Reason]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the source that people should know, though the rows were kept: ``new_field`` or
    ``discarded_value``; ``rows`` is in how many rows of the call, 0 where that was not counted."""

    kind: str
    field: str
    sample: str
    rows: int = 0


@dataclass(slots=True)
class Split:
    """Every row of one call, each in exactly one of the four lists."""

    good: list[Landing] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: list[tuple[str | None, str]] = field(default_factory=list)
    superseded: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    watermark: Any = None
    positions: list[int] = field(default_factory=list)
    """Of each good row, its place among the rows given."""
    rejected_positions: list[int] = field(default_factory=list)
    """Of each rejected one."""
    skipped_positions: list[int] = field(default_factory=list)
    """Of each skipped one."""


def digest(payload: bytes) -> bytes:
    """16 bytes; equal payloads have equal ones."""
    return blake2b(payload, digest_size=16).digest()
