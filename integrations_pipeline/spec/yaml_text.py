"""YAML text → plain data with the line of every key. Nothing is guessed from YAML's loose scalars.

Only ``true false null``, integers and decimals are typed; what YAML programs read differently (``no``, ``012``,
``1:30``) is refused, as are duplicate keys, tags and merge keys. Built on the parser's events, since composing nodes
overflows the stack of the C library on a few kilobytes of brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any

import yaml

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.errors import Problem

KeyPath = tuple[Any, ...]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its parser is used; the C one is eight times faster
DEPTH = 40
VALUES = 50_000  # with aliases counted as often as they are used: a bomb of nine lines makes a billion

CONSTANTS = {"true": True, "false": False, "null": None}
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})")
DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,999})\.[0-9]{1,999}")
WORD = re.compile(r"(?i:yes|no|on|off|true|false)")
NUMBER = re.compile(r"[-+]?(?:0[xob][0-9a-f_]+|\.?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?|\.(?:inf|nan))", re.I)
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
SUSPECT = frozenset("0123456789+-.~nNtTfFyYoO")


class Refused(Exception):
    """The rest of the text can't be read."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass
class Document:
    """A file's data, the line of each key path, and what is wrong with its text. ``file`` is how messages name it."""

    file: str
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, line: int, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.file, line, shown_path(path), message))

    def line_of(self, path: KeyPath) -> int:
        """Of the path, else of the nearest one around it."""
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 1)


def shown_path(path: KeyPath) -> str:
    """``streams.contacts.errors[0].status``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_document(path: FilePath, shown: str) -> Document:
    """The document in a file. Never raises: what is wrong, also with the file itself, is in ``problems``."""
    document = Document(shown)
    try:
        content = path.read_bytes()
    except OSError as error:
        document.complain(0, (), f"the file can't be read: {error.strerror}")
        return document
    if len(content) > limits.YAML_BYTES:
        document.complain(0, (), f"the file is larger than {limits.YAML_BYTES} bytes")
        return document
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        document.complain(line, (), "the file is not UTF-8 text")
        return document
    return parse_document(text, shown)


def parse_document(text: str, shown: str) -> Document:
    """The document in a text. Never raises: what is wrong is in ``problems``."""
    document = Document(shown)
    try:
        document.data = Builder(document, text).build()
    except Refused as error:
        document.complain(error.line, (), error.message)
    except yaml.YAMLError as error:
        document.complain(*syntax_problem(error, text))
    return document


class Builder:
    """Turns the parser's events into dicts, lists and scalars, one pass."""

    def __init__(self, document: Document, text: str):
        self.document = document
        self.events: Iterator[Any] = yaml.parse(text, Loader=LOADER)
        self.values = 0
        self.anchors: dict[str, tuple[Any, int]] = {}

    def build(self) -> Any:
        next(self.events)  # the stream's start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise Refused(1, "the file is empty")
        data = self.value(next(self.events), ())
        next(self.events)  # the document's end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Refused(line_of(after), "one document was expected: remove the '---' and what follows")
        return data

    def value(self, event: Any, path: KeyPath) -> Any:
        """The value that starts with the event."""
        before = self.values
        self.count(event, path)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if event.tag is not None:
            self.complain(event, path, f"a value without a tag was expected: remove {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event, path)
        else:
            value = self.mapping(path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(path)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, self.values - before
        return value

    def count(self, event: Any, path: KeyPath) -> None:
        self.values += 1
        if self.values > VALUES:
            raise Refused(line_of(event), f"the file holds more than {VALUES} values")
        if len(path) > DEPTH:
            raise Refused(line_of(event), f"the file is nested deeper than {DEPTH} levels")

    def alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise Refused(line_of(event), f"*{event.anchor} has no &{event.anchor} that ended before it")
        value, size = self.anchors[event.anchor]
        self.values += size
        return value

    def sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self.document.lines[place] = line_of(event)
            items.append(self.value(event, place))
        return items

    def mapping(self, path: KeyPath) -> dict[Any, Any]:
        data: dict[Any, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, path)
            place = (*path, key)
            if key in data:
                self.complain(event, place, f"a key once was expected: it stands already in line {self.lines[place]}")
                self.value(next(self.events), (*path, key, "…"))
                continue
            self.lines[place] = line_of(event)
            data[key] = self.value(next(self.events), place)
        return data

    @property
    def lines(self) -> dict[KeyPath, int]:
        return self.document.lines

    def key(self, event: Any, path: KeyPath) -> Any:
        if not isinstance(event, yaml.ScalarEvent):
            raise Refused(line_of(event), "a plain key was expected, not a list, a map or an alias")
        if event.value == "<<" and event.implicit[0]:
            raise Refused(line_of(event), "no merge keys (<<): repeat the keys, or move them to a connector")
        key = self.scalar(event, (*path, event.value))
        return event.value if key is None else key

    def scalar(self, event: Any, path: KeyPath) -> Any:
        """Quoted and block texts as they stand; plain ones typed by the few rules of this module."""
        text: str = event.value
        if not event.implicit[0] or (text and text[0] not in SUSPECT):
            return text
        try:
            return typed(text)
        except ValueError as error:
            hint = " (a space after the colon?)" if not text and path and ":" in str(path[-1]) else ""
            self.complain(event, path, f"{error}{hint}")
            return text

    def complain(self, event: Any, path: KeyPath, message: str) -> None:
        self.document.complain(line_of(event), path, message)


def line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1


def typed(text: str) -> Any:
    """What an unquoted scalar means. Raises ValueError for one that YAML programs read differently."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if DECIMAL.fullmatch(text):
        return float(text) if repr(float(text)) == text else Decimal(text)
    if not text or text == "~" or text.lower() == "null":
        raise ValueError("a value was expected (null is written as null, and removes a connector's key)")
    if WORD.fullmatch(text):
        raise ValueError(f"true, false or a quoted text was expected: quote it ('{text}') if it is text")
    if NUMBER.fullmatch(text):
        raise ValueError(f"a plain number like 12 or 1.5 was expected, not {text}: quote it ('{text}') if it is text")
    if SEXAGESIMAL.fullmatch(text):
        raise ValueError(f"{text} is a number of base 60 to some programs: quote it ('{text}')")
    return text


def syntax_problem(error: Any, text: str) -> tuple[int, KeyPath, str]:
    """Line and message for what the parser refused."""
    position = getattr(error, "position", None)
    if position is not None:
        return text[:position].count("\n") + 1, (), "a control character can't stand in YAML: remove it"
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", "") or "it can't be read"
    opened = getattr(error, "context_mark", None)
    last = len(text.splitlines())
    line = mark.line + 1 if mark else 1
    if line > last and "flow node" in (getattr(error, "context", None) or ""):
        return last, (), "a bracket is still open at the end of the file"
    if "cannot start any token" in what and mark:
        return line, (), unfit_start((text.splitlines()[mark.line] + " ")[mark.column])
    if "tab character" in what:
        return line, (), unfit_start("\t")
    if "expected ',' or" in what and opened:
        return opened.line + 1, (), "the bracket that opens here isn't closed, or a comma is missing"
    if "mapping values are not allowed" in what:
        return line, (), "a second ': ' in one line: quote the value, or check the indentation"
    if "unexpected end of stream" in what and opened:
        return opened.line + 1, (), "the quote that opens here isn't closed"
    return line, (), f"not YAML: {what}{f', {error.context}' if getattr(error, 'context', None) else ''}"


def unfit_start(character: str) -> str:
    if character == "\t":
        return "a tab can't indent YAML: use spaces"
    return f"an unquoted value can't start with {character}: quote it"


def to_yaml(data: dict[str, Any]) -> str:
    """The YAML of plain data, keys in their order, short maps in one line each, as people write them."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))
