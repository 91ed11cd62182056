"""Values column by column: a whole column is accepted by the set of its types, only the rest is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from types import NoneType
from typing import Any

from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.paths import MISSING, Path, step_through
from integrations_pipeline.spec.values import Parser, parser

TYPED: dict[str, frozenset[type]] = {
    "string": frozenset((str, NoneType)),
    "integer": frozenset((int, NoneType)),
    "boolean": frozenset((bool, NoneType)),
}
"""JSON types that are a field's own type already. (``bool`` is a type of its own here, not a kind of ``int``.)"""

NUMBERS = frozenset((int, float, Decimal, NoneType))

ONCE = (str, int, float, Decimal)
"""A column of one of these is parsed once per distinct value: equal values of one type have equal meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field of many rows. ``typed`` holds None for null, a missing and a bad value; ``bad`` the reasons by row."""

    typed: list[Any]
    bad: dict[int, str]

    def select(self, positions: Sequence[int]) -> Column:
        """The column of some of the rows only, in the order of the positions."""
        bad = {new: self.bad[old] for new, old in enumerate(positions) if old in self.bad} if self.bad else {}
        return Column(pick(self.typed, positions), bad)


def pick(values: list[Any], positions: Sequence[int]) -> list[Any]:
    """The values at these (ascending) positions; the list itself where that is all of them."""
    return values if len(positions) == len(values) else [values[position] for position in positions]


def read(rows: list[dict[str, Any]], path: Path) -> list[Any]:
    """What stands at the path in each row, None where nothing does; goes down level by level, not row by row."""
    if not path.parts:
        return list(rows)
    values: list[Any] = list(map(dict.get, rows, repeat(path.parts[0])))
    for part in path.parts[1:]:
        if part.lstrip("-").isdecimal():
            found = (step_through(value, (part,)) for value in values)
            values = [None if value is MISSING else value for value in found]
        else:
            values = [value.get(part) if isinstance(value, dict) else None for value in values]
    return values


@dataclass(frozen=True, slots=True)
class Reader:
    """A path with the parser of its values; values whose types are all in ``typed`` need no parsing."""

    path: Path
    parse: Parser
    typed: frozenset[type] = frozenset()
    anything: bool = False

    def read(self, rows: list[dict[str, Any]]) -> Column:
        values = read(rows, self.path)
        kinds = set(map(type, values))
        if self.anything or kinds <= self.typed:
            return Column(values, {})
        if len(kinds - {NoneType}) == 1 and not kinds.isdisjoint(ONCE):
            return parse_distinct(self.parse, values)
        return parse_each(self.parse, values)


def reader(path: Path, field: Field) -> Reader:
    """The reader of a declared field. Numbers are parsed only where a bound is compared with them, exactly."""
    unbounded = field.type == "decimal" and field.min is None and field.max is None
    typed = NUMBERS if unbounded else TYPED.get(field.type, frozenset())
    return Reader(path, parser(field), typed, anything=field.type == "json")


def parse_distinct(parse: Parser, values: list[Any]) -> Column:
    known: dict[Any, Any] = {}
    reasons: dict[Any, str] = {}
    for value in set(values):
        try:
            known[value] = parse(value)
        except ValueError as error:
            reasons[value] = str(error)
    typed = list(map(known.get, values))
    bad = {position: reasons[value] for position, value in enumerate(values) if value in reasons} if reasons else {}
    return Column(typed, bad)


def parse_each(parse: Callable[[Any], Any], values: list[Any]) -> Column:
    typed: list[Any] = [None] * len(values)
    bad: dict[int, str] = {}
    for position, value in enumerate(values):
        try:
            typed[position] = parse(value)
        except ValueError as error:
            bad[position] = str(error)
    return Column(typed, bad)


def put(document: Any, parts: tuple[str, ...], value: Any) -> Any:
    """A copy of the document with another value at the path (which it has), or without it for MISSING."""
    edited = document.copy()
    part: Any = int(parts[0]) if isinstance(edited, list) else parts[0]
    if len(parts) > 1:
        edited[part] = put(edited[part], parts[1:], value)
    elif value is MISSING:
        del edited[part]
    else:
        edited[part] = value
    return edited
