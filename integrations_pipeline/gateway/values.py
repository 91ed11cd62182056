"""What a request may say of a record: each value held against its kind's field, exactly as it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from integrations_pipeline.mapping.kinds import converter, rules
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.formats import is_uuid
from integrations_pipeline.spec.values import parse_string

Problem = dict[str, str]
"""``{"field", "message", "expected"}``."""

NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it; behind an escaped backslash the same letters are text."""

TEXTS = ("string", "timestamp", "date")
WORDS = {"true": True, "false": False}


class Refusals(Exception):
    """All that is wrong with what was said, a problem per field."""

    def __init__(self, problems: list[Problem]):
        super().__init__(problems)
        self.problems = problems


def checked(kind: Kind, given: Any, *, whole: bool) -> dict[str, Any]:
    """The values, typed. ``whole``: of a new record, so that required fields must be there. Raises Refusals."""
    if not isinstance(given, dict) or (not given and not whole):
        raise Refusals([{"field": "", "message": "no fields", "expected": "an object with at least one field"}])
    problems: list[Problem] = []
    values = {}
    for name, value in given.items():
        try:
            values[name] = typed(kind, name, value)
        except ValueError as error:
            problems.append(problem(kind, name, str(error)))
    for name, field in kind.fields.items():
        if (
            field.required
            and (name in values or whole)
            and values.get(name) in (None, "")
            and name not in bad(problems)
        ):
            problems.append(problem(kind, name, "nothing is there, and the field is required"))
    if problems:
        raise Refusals(problems)
    return values


def filters(kind: Kind, given: Mapping[str, str]) -> dict[str, Any]:
    """The values of a query, typed; empty is None: records without a value. Raises Refusals."""
    problems, values = [], {}
    for name, text in given.items():
        try:
            values[name] = filter_of(kind, name, text)
        except ValueError as error:
            problems.append(problem(kind, name, str(error)))
    if problems:
        raise Refusals(problems)
    return values


def filter_of(kind: Kind, name: str, text: str) -> Any:
    field = known(kind, name)
    if field.type == "json":
        raise ValueError("objects and lists can't be asked for")
    if text == "":
        return None
    return with_type(field, WORDS.get(text, text) if field.type == "boolean" else text)


def of_text(kind: Kind, name: str, text: str) -> Any:
    """What a person typed for a field: as it stands for texts and times, else as JSON; empty is no value. Raises
    ValueError."""
    if text == "":
        return None
    field = known(kind, name)
    try:
        value = text if field.type in TEXTS else json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(f"{describe(field)} was expected, as JSON writes it") from None
    typed(kind, name, value)
    return value


def typed(kind: Kind, name: str, value: Any) -> Any:
    """One value by its field's type and rules. Raises ValueError."""
    field = known(kind, name)
    found = with_type(field, value)
    if found is None:
        return None
    for _, rule in rules(field):
        found = rule(found, None)
    return found


def with_type(field: Field, value: Any) -> Any:
    if value is None:
        return None
    refuse_unstorable(value)
    if field.format == "uuid" and not (isinstance(value, str) and is_uuid(value)):
        raise ValueError("a UUID was expected")
    return parse_string(value) if field.type == "string" else converter(field)(value, None)


def refuse_unstorable(value: Any) -> None:
    try:
        if NUL.search(encode(value)):
            raise ValueError("a NUL can't be stored")
    except DataError as error:
        raise ValueError(error.what) from None


def known(kind: Kind, name: str) -> Field:
    if name in kind.fields:
        return kind.fields[name]
    close = get_close_matches(name, kind.fields, 1)
    raise ValueError(f"the kind {kind.kind} has no such field{f' (did you mean {close[0]}?)' if close else ''}")


def bad(problems: list[Problem]) -> set[str]:
    return {one["field"] for one in problems}


def problem(kind: Kind, name: str, message: str) -> Problem:
    expected = describe(kind.fields[name]) if name in kind.fields else f"one of {', '.join(kind.fields)}"
    return {"field": name, "message": message, "expected": expected}


def describe(field: Field) -> str:
    """What a field takes, in words."""
    parts = [field.type if field.format is None else f"{field.type} of the format {field.format}"]
    if field.values is not None:
        parts.append(f"one of {', '.join(map(str, field.values))}")
    bounds = {"at least": field.min, "at most": field.max}
    parts += [f"{words} {value}" for words, value in bounds.items() if value is not None]
    if field.max_length is not None:
        parts.append(f"at most {field.max_length} characters")
    return ", ".join([*parts, *(["required"] if field.required else [])])
