"""Where a value is found inside a JSON document: ``paging.next.after``, ``0.code``, ``.``, ``["@odata.nextLink"]``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator


class Missing:
    """The type of MISSING: nothing stands at that path, which is not the same as null."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
Getter = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Path:
    """Keys and list indexes from the root; no parts means the whole."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts) if self.parts else "."

    def get(self, document: Any) -> Any:
        """The value, or MISSING. For many documents compile a ``getter`` once."""
        return step_through(document, self.parts)

    def put(self, document: dict[str, Any], value: Any) -> None:
        """Sets the value inside a dict, making the objects on the way; never through a list."""
        for part in self.parts[:-1]:
            inner = document.get(part)
            if not isinstance(inner, dict):
                inner = document[part] = {}
            document = inner
        document[self.parts[-1]] = value


WHOLE: Final = Path(())
"""``.``, the document itself."""


def step_through(document: Any, parts: tuple[str, ...]) -> Any:
    """Follows the parts: a key in an object, an index (also negative) in a list; MISSING where there is none."""
    for part in parts:
        if isinstance(document, dict):
            document = document.get(part, MISSING)
        elif isinstance(document, list) and part.lstrip("-").isdecimal():
            index = int(part)
            document = document[index] if -len(document) <= index < len(document) else MISSING
        else:
            return MISSING
    return document


def getter(path: Path) -> Getter:
    """A function of one document, without per-call parsing; a single key costs about 60 ns."""
    parts = path.parts
    if not parts:
        return lambda document: document
    if len(parts) == 1 and not parts[0].lstrip("-").isdecimal():
        key = parts[0]
        return lambda document: document.get(key, MISSING) if isinstance(document, dict) else MISSING
    return lambda document: step_through(document, parts)


def parse_path(value: Any) -> Path:
    """Text with dots, ``.`` for the whole, or a list where a key holds a dot."""
    if isinstance(value, Path):
        return value
    if isinstance(value, list) and value and all(isinstance(part, str | int) for part in value):
        return Path(tuple(str(part) for part in value))
    if not isinstance(value, str) or not value or value != value.strip():
        raise ValueError(f"a path like paging.next.after was expected, not {value!r}")
    if value == ".":
        return WHOLE
    parts = tuple(value.split("."))
    if "" in parts:
        raise ValueError(f'{value!r} has an empty part; a key that holds a dot is written as a list: ["a.b"]')
    return Path(parts)


PathText = Annotated[Path, BeforeValidator(parse_path, json_schema_input_type=str | list[str])]


def parse_paths(value: Any) -> tuple[Path, ...]:
    """One field, or a list of fields that together make a key."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, list) and value:
        return tuple(parse_path(item) for item in value)
    return (parse_path(value),)


PathsText = Annotated[tuple[Path, ...], BeforeValidator(parse_paths, json_schema_input_type=str | list[str])]
