"""Faults of records: other fields, and values that are hard to store or plainly wrong.

What JSON libraries refuse to write (NaN, half a surrogate pair, a key twice) stands as a marker in the record, and is
put into the finished body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.simulator.records import Plan, put
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.faults import BAD_ROWS
from integrations_pipeline.spec.paths import MISSING, Path, parse_path

MARKER = re.compile(rb'"raw-fragment-(\d+)-of-a-fault"(:null)?')
DEEP_LEVELS = 230
"""Deeper than we store, and than PostgreSQL's own parser likes."""
LARGE_BYTES = 10_000_000
LONG_ID_BYTES = 3_000

Row = dict[str, Any]


@dataclass(slots=True)
class Spoiling:
    """The records of one answer while they are spoilt. ``raw`` are the fragments that markers stand for."""

    plan: Plan
    raw: list[bytes] = field(default_factory=list)

    def marker(self, text: bytes) -> str:
        """What stands in a record for this piece of JSON."""
        self.raw.append(text)
        return f"raw-fragment-{len(self.raw) - 1}-of-a-fault"

    def finished(self, body: bytes) -> bytes:
        return MARKER.sub(lambda found: self.raw[int(found[1])], body) if self.raw else body

    def target(self, switched: Switched, types: Sequence[str]) -> Path:
        """The field to spoil: the one named, else the first that is of such a type and that nothing else needs."""
        named = switched.arguments.get("path")
        if named is not None:
            return parse_path(named)
        needed = {*self.plan.key_paths, self.plan.stamp_path, self.plan.stream.version}
        free = [path for path, one in self.plan.declared.items() if one.type in types and path not in needed]
        return free[0] if free else Path(("spoilt",))


Spoil = Callable[[Spoiling, Row, Switched], Any]
"""The record, changed in place; or what is to stand instead of it."""


def rename_field(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    value = removed(row, parse_path(switched.arguments["path"]))
    if value is not MISSING:
        row[switched.arguments["name"]] = value


def drop_field(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    removed(row, parse_path(switched.arguments["path"]))


def retype_field(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    path = parse_path(switched.arguments["path"])
    value = path.get(row)
    put(row, path.parts, switched.number("value") % 1000 if isinstance(value, str) else str(value))


def new_field(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    row[switched.arguments["name"]] = f"new-{switched.number('value') % 1000}"


def new_value(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    put(row, parse_path(switched.arguments["path"]).parts, f"brand_new_{switched.number('value') % 100}")


def removed(row: Row, path: Path) -> Any:
    """Takes a field out; what it held, or MISSING."""
    above = Path(path.parts[:-1]).get(row)
    return above.pop(path.parts[-1], MISSING) if isinstance(above, dict) else MISSING


# values that are hard to store, or wrong

TEXT, NUMBER, TIME = ("string",), ("integer", "decimal"), ("timestamp", "date")
ANY = ("string", "integer", "decimal", "boolean", "timestamp", "date", "json")
VALUES: dict[str, tuple[Sequence[str], Callable[[], bytes]]] = {
    "nul": (TEXT, lambda: rb'"a\u0000b"'),
    "surrogate": (TEXT, lambda: rb'"half \ud83d"'),
    "nan": (NUMBER, lambda: b"NaN"),
    "infinity": (NUMBER, lambda: b"-Infinity"),
    "big_integer": (NUMBER, lambda: b"9007199254740993"),
    "huge_integer": (NUMBER, lambda: b"170141183460469231731687303715884105729"),
    "wrong_type": (ANY, lambda: b'{"unexpected":[true]}'),
    "text_boolean": (("boolean",), lambda: b'"false"'),
    "mixed": (TEXT, lambda: b'[1,"two",null]'),
    "zero_date": (TIME, lambda: b'"0000-00-00"'),
    "far_year": (TIME, lambda: b'"12024-02-03T04:05:06Z"'),
    "naive_time": (TIME, lambda: b'"2024-02-03T04:05:06"'),
    "deep": (("json",), lambda: b"[" * DEEP_LEVELS + b"]" * DEEP_LEVELS),
    "large": (TEXT, lambda: b'"' + b"x" * LARGE_BYTES + b'"'),
    "entities": (TEXT, lambda: b'"Fish &amp; Chips &lt;b&gt;"'),
    "empty": (TEXT, lambda: b'""'),
    "null": (ANY, lambda: b"null"),
}


def bad_row(spoiling: Spoiling, row: Row, switched: Switched) -> Any:
    kind = kind_of(switched, row)
    if kind in SHAPES:
        return SHAPES[kind](spoiling, row, switched)
    types, value = VALUES[kind]
    put(row, spoiling.target(switched, types).parts, spoiling.marker(value()))
    return None


def kind_of(switched: Switched, row: Row) -> str:
    """By seed and record where none is named; one field of 10 MB per answer would be another test."""
    choices = [kind for kind in BAD_ROWS if kind != "large"]
    named: str | None = switched.arguments.get("kind")
    return named or choices[switched.number("kind", repr(row)) % len(choices)]


def null_id(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    put(row, spoiling.plan.key_paths[0].parts, None)


def missing_id(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    removed(row, spoiling.plan.key_paths[0])


def long_id(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    path = spoiling.plan.key_paths[0]
    put(row, path.parts, f"{path.get(row)}".ljust(LONG_ID_BYTES, "x"))


def missing(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    removed(row, spoiling.target(switched, ANY))


def duplicate_key(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    name = spoiling.target(switched, ANY).parts[0]
    row[spoiling.marker(encode(name) + b':"the second of two"')] = None


def no_object(spoiling: Spoiling, row: Row, switched: Switched) -> Any:
    return f"a text where {[path.get(row) for path in spoiling.plan.key_paths]} should be"


SHAPES: dict[str, Spoil] = {
    "null_id": null_id,
    "missing_id": missing_id,
    "long_id": long_id,
    "missing": missing,
    "duplicate_key": duplicate_key,
    "no_object": no_object,
}


def repeat_row(spoiling: Spoiling, row: Row, switched: Switched) -> None:
    """The record stands twice: done where the list is made."""
