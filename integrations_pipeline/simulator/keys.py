"""Keys that can be read backwards: a record's number from its key, so that no index of a million keys is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol
from uuid import UUID

from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.placeholders import as_text


class KeyForm(Protocol):
    """One part of a key. ``capacity`` is how many values it has, None for any number."""

    @property
    def capacity(self) -> int | None: ...

    def write(self, number: int) -> Any: ...

    def read(self, value: Any) -> int | None:
        """The number of a key, or None where it can't be one of ours."""


@dataclass(frozen=True, slots=True)
class Counted:
    """1, 2, 3 …, as a number or as text."""

    as_number: bool
    capacity: int | None = None

    def write(self, number: int) -> Any:
        return number + 1 if self.as_number else str(number + 1)

    def read(self, value: Any) -> int | None:
        text = as_text(value)
        return int(text) - 1 if re.fullmatch(r"[1-9][0-9]{0,17}", text) else None


@dataclass(frozen=True, slots=True)
class Prefixed:
    """``con_0000017``."""

    prefix: str
    capacity: int | None = None

    def write(self, number: int) -> Any:
        return f"{self.prefix}{number + 1:07d}"

    def read(self, value: Any) -> int | None:
        text = as_text(value)
        digits = text.removeprefix(self.prefix)
        if digits == text or not re.fullmatch(r"[0-9]{7,18}", digits) or self.write(int(digits) - 1) != text:
            return None
        return int(digits) - 1


@dataclass(frozen=True, slots=True)
class Uuids:
    salt: int
    capacity: int | None = None

    def write(self, number: int) -> Any:
        return str(UUID(int=(self.salt & ((1 << 64) - 1)) << 64 | number, version=4))

    def read(self, value: Any) -> int | None:
        try:
            number = UUID(as_text(value)).int & ((1 << 62) - 1)
        except ValueError:
            return None
        return number if self.write(number) == as_text(value) else None


@dataclass(frozen=True, slots=True)
class Listed:
    """The members of a known list, such as currency codes."""

    pool: tuple[Any, ...]

    @property
    def capacity(self) -> int | None:
        return len(self.pool)

    def write(self, number: int) -> Any:
        return self.pool[number % len(self.pool)]

    def read(self, value: Any) -> int | None:
        texts = [as_text(one) for one in self.pool]
        return texts.index(as_text(value)) if as_text(value) in texts else None


@dataclass(frozen=True, slots=True)
class Days:
    """Consecutive days."""

    start: date
    capacity: int | None

    def write(self, number: int) -> Any:
        return (self.start + timedelta(days=number)).isoformat()

    def read(self, value: Any) -> int | None:
        try:
            number = (date.fromisoformat(as_text(value)[:10]) - self.start).days
        except ValueError:
            return None
        return number if number >= 0 else None


class Composite:
    """Several parts that together number the records: mixed digits, the part at ``outer`` moving slowest."""

    def __init__(self, parts: Sequence[KeyForm], radices: Sequence[int], order: Sequence[int]):
        self.parts = parts
        self.radices = radices
        self.order = order

    def write(self, number: int) -> list[Any]:
        """The values of all parts, in the order of the primary key."""
        digits = [0] * len(self.parts)
        for index in reversed(self.order[1:]):
            number, digits[index] = divmod(number, self.radices[index])
        digits[self.order[0]] = number
        return [part.write(digit) for part, digit in zip(self.parts, digits, strict=True)]

    def digit(self, number: int, wanted: int) -> int:
        """The number of one part alone."""
        for index in reversed(self.order[1:]):
            number, digit = divmod(number, self.radices[index])
            if index == wanted:
                return digit
        return number

    def read(self, values: Sequence[Any]) -> int | None:
        number = 0
        for index in self.order:
            digit = self.parts[index].read(values[index])
            if digit is None or (index != self.order[0] and digit >= self.radices[index]):
                return None
            number = number * self.radices[index] + digit if index != self.order[0] else digit
        return number

    @property
    def capacity(self) -> int | None:
        outer = self.parts[self.order[0]].capacity
        if outer is None:
            return None
        for index in self.order[1:]:
            outer *= self.radices[index]
        return outer


def composite(parts: Sequence[KeyForm], outer: int, count: int) -> Composite:
    """Chooses how many values each inner part takes: few by default, more where the outer part can't hold the rest."""
    order = [outer, *(index for index in range(len(parts)) if index != outer)]
    radices = [0] * len(parts)
    room = parts[outer].capacity
    for index in order[1:]:
        known = parts[index].capacity
        radix = 30 if known else 10
        if room is not None:
            radix = max(radix, -(-count // room))
        radices[index] = min(radix, known) if known else radix
    return Composite(parts, radices, order)


def prefix_of(stream: str, field: Field | None) -> str:
    """``cus_`` for customers."""
    limit = field.max_length if field and field.max_length else 40
    return f"{stream[:3].strip('_')}_" if limit >= 14 else ""
