"""Conditions: ``archived`` or ``{status: [a, b], error.code: {contains: limit}}``; all parts must hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from integrations_pipeline.spec.paths import MISSING, Path, parse_path

TESTS = ("present", "contains", "not")
HEADER = "header "


@dataclass(frozen=True, slots=True)
class Condition:
    """Paths with what must be found there. ``text`` is how the user wrote it, for reasons in counters and logs."""

    tests: tuple[tuple[Path, Any], ...]
    text: str

    def holds(self, document: Any) -> bool:
        """Total: a path that isn't there, or a value of another type, simply doesn't hold."""
        return all(matches(path.get(document), wanted) for path, wanted in self.tests)


def same(found: Any, wanted: Any) -> bool:
    """Equal and of one type, so that 1 is not true and 0 is not false."""
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def matches(found: Any, wanted: Any) -> bool:
    """One test against one value."""
    if isinstance(wanted, list):
        return any(same(found, one) for one in wanted)
    if isinstance(wanted, dict):
        if "present" in wanted:
            return (found is not MISSING and found is not None) is wanted["present"]
        if "contains" in wanted:
            return isinstance(found, str | list) and wanted["contains"] in found
        return not matches(found, wanted["not"])
    return same(found, wanted)


def check_test(wanted: Any) -> None:
    """Raises ValueError unless the test is a scalar, a list of scalars, or one of the named tests."""
    if isinstance(wanted, list):
        for one in wanted:
            if isinstance(one, list | dict):
                raise ValueError("a list of plain values was expected")
    elif isinstance(wanted, dict):
        if len(wanted) != 1 or next(iter(wanted)) not in TESTS:
            raise ValueError(f"one of {{present: true}}, {{contains: text}}, {{not: x}} was expected, not {wanted!r}")
        name, value = next(iter(wanted.items()))
        if name == "present" and not isinstance(value, bool):
            raise ValueError("{present: true} or {present: false} was expected")
        if name == "contains" and not isinstance(value, str):
            raise ValueError("{contains: text} was expected")
        if name == "not":
            check_test(value)


def parse_condition(value: Any) -> Condition:
    if isinstance(value, Condition):
        return value
    if isinstance(value, str):
        return Condition(((parse_path(value), True),), value)
    if not isinstance(value, dict) or not value:
        raise ValueError(f"a path, or paths with their values, was expected, not {value!r}")
    for wanted in value.values():
        check_test(wanted)
    text = ", ".join(f"{key}: {written(wanted)}" for key, wanted in value.items())
    return Condition(tuple((parse_path(key), wanted) for key, wanted in value.items()), text)


def written(wanted: Any) -> str:
    """A test as it stands in the file."""
    if isinstance(wanted, dict):
        return "{" + ", ".join(f"{name}: {written(value)}" for name, value in wanted.items()) + "}"
    if isinstance(wanted, list):
        return f"[{', '.join(map(written, wanted))}]"
    return json.dumps(wanted) if wanted is None or isinstance(wanted, bool) else str(wanted)


@dataclass(frozen=True, slots=True)
class AnswerCondition:
    """A condition on an answer: tests of its body, and of headers by name (``header X-Reason: busy``)."""

    body: Condition | None
    headers: tuple[tuple[str, Any], ...]

    def holds(self, document: Any, headers: Mapping[str, str]) -> bool:
        """Total, as Condition.holds. ``headers`` don't mind their names' case."""
        found = all(matches(headers.get(name, MISSING), wanted) for name, wanted in self.headers)
        return found and (self.body is None or self.body.holds(document))


def as_text(wanted: Any) -> Any:
    """A test of a header, whose value is always text: `0` is meant as "0", `true` as "true"."""
    if isinstance(wanted, list):
        return [as_text(one) for one in wanted]
    if isinstance(wanted, dict):
        return {name: value if name == "present" else as_text(value) for name, value in wanted.items()}
    return str(wanted).lower() if isinstance(wanted, bool) else str(wanted)


def parse_answer_condition(value: Any) -> AnswerCondition:
    """As a condition; keys like ``header NAME`` are tests of headers."""
    if isinstance(value, AnswerCondition):
        return value
    if not isinstance(value, dict):
        if isinstance(value, str) and value.startswith(HEADER):
            raise ValueError(f"what the header must be was expected, as in {{{value}: {{present: true}}}}")
        return AnswerCondition(parse_condition(value), ())
    headers = {name: wanted for name, wanted in value.items() if isinstance(name, str) and name.startswith(HEADER)}
    for wanted in headers.values():
        check_test(wanted)
    body = {name: wanted for name, wanted in value.items() if name not in headers}
    tests = tuple((name.removeprefix(HEADER).strip(), as_text(wanted)) for name, wanted in headers.items())
    return AnswerCondition(parse_condition(body) if body or not headers else None, tests)


ConditionText = Annotated[Condition, BeforeValidator(parse_condition, json_schema_input_type=str | dict[str, Any])]
AnswerConditionText = Annotated[
    AnswerCondition, BeforeValidator(parse_answer_condition, json_schema_input_type=str | dict[str, Any])
]
