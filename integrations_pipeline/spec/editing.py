"""Edits of a connection's file that leave the rest of it as it stands: comments, order, and every other line.

Only the text of one block is replaced or added. What comes out is read again, and must be what was there before with
that block in it, else nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import yaml

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.merging import merge
from integrations_pipeline.spec.yaml_text import KeyPath, parse_document

Position = tuple[int, int]
MISSING = object()
BY_HAND = "edit the file by hand, then run `integrations check`"


@dataclass(frozen=True)
class Span:
    """Where a value stands, as (line, column) from 0. ``column``: of its key. ``flow``: it is written in brackets;
    ``inside``: it stands in others."""

    start: Position
    end: Position
    column: int
    flow: bool
    inside: bool


def spans(text: str) -> dict[KeyPath, Span]:
    """Of every value of a document that can be read."""
    events = (one for one in yaml.parse(text, Loader=yaml.SafeLoader))
    found: dict[KeyPath, Span] = {}
    for event in events:
        if isinstance(event, yaml.MappingStartEvent):
            walk(event, events, (), 0, False, found)
    return found


def walk(
    event: Any, events: Iterator[Any], path: KeyPath, column: int, inside: bool, found: dict[KeyPath, Span]
) -> Position:
    """Notes the value that begins with the event, and all below it. Returns where its last character stands; a block
    ends with its last value, not with the comments behind it."""
    flow = bool(getattr(event, "flow_style", False))
    end = end_of(event)
    if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
        number = 0
        while not isinstance(one := next(events), yaml.MappingEndEvent | yaml.SequenceEndEvent):
            key: Any = number
            if isinstance(event, yaml.MappingStartEvent):
                key, below = one.value, one.start_mark.column
                end = walk(next(events), events, (*path, key), below, inside or flow, found)
            else:
                end = walk(one, events, (*path, key), one.start_mark.column, inside or flow, found)
            number += 1
        if flow:
            end = end_of(one)
    found[path] = Span((event.start_mark.line, event.start_mark.column), end, column, flow, inside)
    return end


def end_of(event: Any) -> Position:
    return event.end_mark.line, event.end_mark.column


def value_at(data: Any, path: KeyPath) -> Any:
    """The value, or MISSING."""
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return MISSING
        data = data[key]
    return data


def with_value(data: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    """A copy with the value at the path; what is missing on the way is made."""
    below = data.get(path[0])
    inner = value if len(path) == 1 else with_value(below if isinstance(below, dict) else {}, path[1:], value)
    return {**data, path[0]: inner}


def block_text(text: str, path: KeyPath) -> str | None:
    """A block's own text with its comments, moved to the left edge; None where the file has no such block."""
    span = spans(text).get(path)
    if span is None:
        return None
    lines = text.splitlines(keepends=True)
    if span.flow or span.start[0] == span.end[0]:
        return cut(lines, span)[1].strip() + "\n"
    return dedent("".join(lines[span.start[0] : last_line(span) + 1]))


def cut(lines: list[str], span: Span) -> tuple[str, str, str]:
    """The text before a value, the value, and what follows."""
    (first, left), (last, right) = span.start, span.end
    before = "".join(lines[:first]) + lines[first][:left]
    after = (lines[last][right:] if last < len(lines) else "") + "".join(lines[last + 1 :])
    whole = "".join(lines)
    return before, whole[len(before) : len(whole) - len(after)], after


def last_line(span: Span) -> int:
    """A block text ends where the line behind it begins."""
    line, column = span.end
    return line - 1 if column == 0 and line > span.start[0] else line


def edited(text: str, path: KeyPath, block: str) -> str:
    """The file's text with another text for the block at the path, or with it added.

    A file of Windows' line ends keeps them. Raises ConfigError where that can't be done without touching anything else.
    """
    if "\r\n" in text and text.count("\n") == text.count("\r\n"):
        return edited(text.replace("\r\n", "\n"), path, block).replace("\n", "\r\n")
    before, wanted = parse_document(text, "file"), data_of(block)
    if before.problems or not isinstance(before.data, dict):
        raise ConfigError("the file can't be read as it stands", next=BY_HAND)
    known = spans(text)
    made = replaced(text, known[path], block) if path in known else added(text, known, path, block)
    after = parse_document(made, "file")
    if after.problems or after.data != with_value(before.data, path, wanted):
        raise ConfigError("this can't be put into the file without touching other lines", next=BY_HAND)
    return made


def data_of(block: str) -> Any:
    """The data of a block's text. Raises ConfigError with what is wrong with it first."""
    document = parse_document(block, "the text")
    if document.problems:
        first = document.problems[0]
        raise ConfigError(f"line {first.line}: {first.path or 'the text'}: {first.message}", next="correct the text")
    return document.data


def replaced(text: str, span: Span, block: str) -> str:
    lines = text.splitlines(keepends=True)
    if span.inside:
        before, _, after = cut(lines, span)
        return before + block.strip() + after
    body = indent(dedent(block).strip("\n") + "\n", " " * (span.column + 2))
    if not span.flow:
        return "".join(lines[: span.start[0]]) + body + "".join(lines[last_line(span) + 1 :])
    before, _, after = cut(lines, span)
    comment, newline, rest = after.partition("\n")
    return before.rstrip(" ") + comment.rstrip() + "\n" + body + (rest if newline else "")


def added(text: str, known: dict[KeyPath, Span], path: KeyPath, block: str) -> str:
    """Behind the last value of the nearest block around it."""
    depth = next(n for n in range(len(path) - 1, -1, -1) if path[:n] in known)
    around, lines = known[path[:depth]], text.splitlines(keepends=True)
    if around.flow or around.inside:
        raise ConfigError(f"`{'.'.join(map(str, path[:depth])) or 'the file'}` is written in brackets", next=BY_HAND)
    column = around.start[1]
    keys = "".join(f"{' ' * (column + 2 * n)}{key}:\n" for n, key in enumerate(path[depth:]))
    body = indent(dedent(block).strip("\n") + "\n", " " * (column + 2 * len(path[depth:])))
    at = last_line(around) + 1
    head = "".join(lines[:at])
    return head + ("" if head.endswith("\n") else "\n") + keys + body + "".join(lines[at:])


def override(base: Any, wanted: Any) -> Any:
    """What must stand over the base so that both merged are what is wanted; null removes a key."""
    if not (isinstance(base, dict) and isinstance(wanted, dict)):
        return wanted
    changed = {
        key: override(base.get(key), value) for key, value in wanted.items() if key not in base or base[key] != value
    }
    return {**changed, **{key: None for key in base if key not in wanted}}


def laid_over(base: Any, wanted: Any, path: KeyPath) -> Any:
    """The override of a connector's block at the path. Raises ConfigError where none makes what is wanted of it: a null
    over a key that is there takes the key away, so it can't become null."""
    over = override(base, wanted)
    made = merge(base, over, path)
    if made != wanted:
        raise ConfigError(
            f"`{first_of(override(made, wanted))}` can't be said over the connector's: there null takes a key away",
            next="write it otherwise, or copy the connector into your own connectors/ and change it there",
        )
    return over


def first_of(data: Any) -> str:
    """The path of the first value in it."""
    names: list[str] = []
    while isinstance(data, dict) and data:
        names.append(str(next(iter(data))))
        data = next(iter(data.values()))
    return ".".join(names)


def digest(text: str) -> str:
    """Another one after any change of a file."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_loaded(text: str, file: Path, home: Home) -> Connection:
    """The connection that the text would be in the place of the file. Raises ConfigError with all that is wrong."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".yaml", dir=file.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        return load_connection(str(draft), home)
    except ConfigError as error:
        said = error.what.replace(draft.name, file.name)
        raise ConfigError(said, next="correct the text") from None
    finally:
        draft.unlink(missing_ok=True)


def save(text: str, file: Path, home: Home, known: str | None) -> None:
    """Puts the text in the place of the file, at once and whole, once all of it is right. ``known``: the digest of what
    the file held when it was read; None for a new file.

    Raises ConfigError where it is wrong, or the file was changed (or made) meanwhile.
    """
    as_loaded(text, file, home)
    target = file.resolve()
    handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        if known is None:
            draft.chmod(0o644)
            os.link(draft, target)  # fails where there is one
            return
        if digest(read(target)) != known:
            raise ConfigError(f"{file.name} was changed meanwhile", next="reload the page, and make the change again")
        shutil.copymode(target, draft)
        draft.replace(target)
    except FileExistsError:
        raise ConfigError(f"{file.name} is there already", next="choose another name") from None
    finally:
        draft.unlink(missing_ok=True)


def read(file: Path) -> str:
    """Its text as it stands, line ends included. Raises ConfigError."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.name} can't be read: {error}", next=BY_HAND) from None
