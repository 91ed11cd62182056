"""External ids: the primary key as one text."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.boundary.columns import read
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.limits import EXTERNAL_ID_BYTES
from integrations_pipeline.spec.paths import Path

SAFE_CHARACTERS = EXTERNAL_ID_BYTES // 4
"""No character takes more than four bytes, so that this many always fit."""


ORDINARY = 10**30


class Keys:
    """One field as its own text; several as a compact JSON array."""

    def __init__(self, paths: tuple[Path, ...]):
        self.paths = paths
        self.name = ", ".join(map(str, paths))

    def read(self, rows: list[Any]) -> tuple[list[str | None], dict[int, str]]:
        """Each row's external id, or None with the reason why it has none that can be stored."""
        columns = [read(rows, path) for path in self.paths]
        if len(columns) == 1 and (plain := plain_ids(columns[0])):
            return [*plain], {}
        ids: list[str | None] = [None] * len(rows)
        bad: dict[int, str] = {}
        for position, parts in enumerate(zip(*columns, strict=True)):
            try:
                ids[position] = external_id(parts)
            except ValueError as error:
                bad[position] = str(error)
        return ids, bad


def plain_ids(column: list[Any]) -> list[str] | None:
    """The ids of a column of ordinary texts or ordinary numbers, which need no look at each; None where one does."""
    kinds = set(map(type, column))
    if kinds == {int} and -ORDINARY < min(column) <= max(column) < ORDINARY:
        return list(map(str, column))
    if kinds != {str} or not all(column) or max(map(len, column)) > SAFE_CHARACTERS:
        return None
    joined = "".join(column)
    return column if joined.isascii() and "\0" not in joined else None


def external_id(parts: tuple[Any, ...]) -> str:
    """Raises ValueError where the key is missing, of a type that names nothing, too long, or can't be stored."""
    for part in parts:
        if part is None:
            raise ValueError("the primary key is missing or null")
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise ValueError("the primary key is neither text nor an integer")
    encoded = encoded_key(parts)
    if not encoded:
        raise ValueError("the primary key is empty")
    if b"\0" in encoded:
        raise ValueError("the primary key holds a NUL character")
    if len(encoded) > EXTERNAL_ID_BYTES:
        raise ValueError(f"the primary key is longer than {EXTERNAL_ID_BYTES} bytes")
    return encoded.decode()


def encoded_key(parts: tuple[str | int, ...]) -> bytes:
    """One text as it is, all else as JSON."""
    try:
        if len(parts) > 1:
            return encode(parts)
        return parts[0].encode() if isinstance(parts[0], str) else encode(parts[0])
    except (UnicodeEncodeError, DataError):
        raise ValueError("the primary key holds what can't be stored") from None
