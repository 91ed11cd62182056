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


class Keys:
    """One field as its own text; several as a compact JSON array."""

    def __init__(self, paths: tuple[Path, ...]):
        self.paths = paths
        self.name = ", ".join(map(str, paths))

    def read(self, rows: list[Any]) -> tuple[list[str | None], dict[int, str]]:
        """Each row's external id, or None with the reason why it has none that can be stored."""
        columns = [read(rows, path) for path in self.paths]
        if len(columns) == 1 and are_plain(columns[0]):
            return columns[0], {}
        ids: list[str | None] = [None] * len(rows)
        bad: dict[int, str] = {}
        for position, parts in enumerate(zip(*columns, strict=True)):
            try:
                ids[position] = external_id(parts)
            except ValueError as error:
                bad[position] = str(error)
        return ids, bad


def are_plain(column: list[Any]) -> bool:
    """Whether these are all texts that can be ids as they stand."""
    if set(map(type, column)) != {str} or not all(column) or max(map(len, column)) > SAFE_CHARACTERS:
        return False
    joined = "".join(column)
    return joined.isascii() and "\0" not in joined


def external_id(parts: tuple[Any, ...]) -> str:
    """Raises ValueError where the key is missing, of a type that names nothing, too long, or can't be stored."""
    for part in parts:
        if part is None:
            raise ValueError("the primary key is missing or null")
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise ValueError("the primary key is neither text nor an integer")
    text = parts[0] if len(parts) == 1 else None
    if text == "" or text == b"":
        raise ValueError("the primary key is empty")
    if isinstance(text, str) and "\0" in text:
        raise ValueError("the primary key holds a NUL character")
    try:
        encoded = text.encode() if isinstance(text, str) else encode(parts[0] if len(parts) == 1 else parts)
    except (UnicodeEncodeError, DataError):
        raise ValueError("the primary key holds characters that can't be stored") from None
    if len(encoded) > EXTERNAL_ID_BYTES:
        raise ValueError(f"the primary key is longer than {EXTERNAL_ID_BYTES} bytes")
    return encoded.decode()
