"""What becomes of rows at the boundary."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import SAMPLE_CHARACTERS

Reason = dict[str, str]
"""``{"rule", "field", "message", "sample"}``, each text that any PostgreSQL column can hold."""


class Landing(NamedTuple):
    """An accepted record as it is stored. ``hash`` is blake2b-128 of ``payload``, whose keys are sorted."""

    external_id: str
    payload: bytes
    hash: bytes
    version: str
    deleted: bool


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


def digest(payload: bytes) -> bytes:
    """16 bytes; equal payloads have equal ones."""
    return blake2b(payload, digest_size=16).digest()


def printable(text: str) -> str:
    """Text without what PostgreSQL refuses in a text or jsonb value: NUL and lone surrogates stand as escapes."""
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")


def sample(value: Any) -> str:
    """The beginning of a value, for people."""
    text = value[:SAMPLE_CHARACTERS] if isinstance(value, str) else encode_ascii(value)
    return printable(text)[:SAMPLE_CHARACTERS]


def reason(rule: str, path: str, message: str, value: Any = None) -> Reason:
    """Why a row is set aside, and what was found there."""
    return {
        "rule": rule,
        "field": printable(path)[:SAMPLE_CHARACTERS],
        "message": printable(message),
        "sample": "" if value is None else sample(value),
    }
