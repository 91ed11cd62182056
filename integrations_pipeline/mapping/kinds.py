"""A mapped value into the type of its kind's field, exactly or not at all, and the rules the kind declares for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from integrations_pipeline.mapping.transforms import Rule, Step, as_text
from integrations_pipeline.spec.codes import COUNTRIES, CURRENCIES
from integrations_pipeline.spec.conditions import matches
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.formats import is_email, is_url, is_uuid
from integrations_pipeline.spec.values import parse_decimal, parser

BIGINT_LOW, BIGINT_HIGH = -(2**63), 2**63 - 1
"""What PostgreSQL's bigint holds."""


def converter(field: Field) -> Step:
    """The last step of a field: its kind's type. Raises ValueError rather than lose or guess anything."""
    special = {"string": to_text, "integer": to_integer, "json": to_json}.get(field.type)
    if special:
        return special
    if field.type == "timestamp":
        return to_timestamp(field)
    if field.type == "date":
        return to_date(field)
    if field.type == "decimal":
        return to_decimal
    parse = parser(field)
    return lambda value, _: parse(value)


def to_decimal(value: Any, _: Any) -> Decimal | None:
    return None if value == "" else parse_decimal(value)


def to_text(value: Any, _: Any) -> str:
    """Text, and integers as their digits; other numbers have more than one spelling and are refused."""
    return value if type(value) is str else as_text(value)


PARSE_INTEGER = parser(Field(type="integer"))


def to_integer(value: Any, _: Any) -> int | None:
    number = value if type(value) is int else PARSE_INTEGER(value)
    if number is not None and not BIGINT_LOW <= number <= BIGINT_HIGH:
        raise ValueError("an integer beyond 64 bits")
    return number


def to_json(value: Any, _: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def to_timestamp(field: Field) -> Step:
    parse = parser(field)

    def step(value: Any, _: Any) -> Any:
        if isinstance(value, datetime):
            return value
        if isinstance(value, date):
            raise ValueError("a date without a time of day")
        return parse(value)

    return step


def to_date(field: Field) -> Step:
    parse = parser(field)

    def step(value: Any, _: Any) -> Any:
        if isinstance(value, datetime):
            raise ValueError("a time of day, not a date (the transform `date` takes its day)")
        return value if isinstance(value, date) else parse(value)

    return step


FORMATS: dict[str, Callable[[str], bool]] = {
    "email": is_email,
    "url": is_url,
    "uuid": is_uuid,
    "currency": CURRENCIES.__contains__,
    "country": COUNTRIES.__contains__,
}
"""In our own tables a code has one spelling, in upper case; at the boundary a source may write either."""


def rules(field: Field) -> list[tuple[str, Step]]:
    """A step for each rule the kind declares; it passes the value on or raises ValueError."""
    bound = parser(Field(type=field.type))
    found: list[tuple[str, Step]] = []

    def add(name: str, holds: Callable[[Any], Any], message: str) -> None:
        found.append((name, Rule(holds, message)))

    if field.format is not None:
        add("format", FORMATS[field.format], f"a value of the format {field.format} was expected")
    if field.min is not None:
        low = bound(field.min)
        add("min", lambda value: value >= low, f"at least {low} was expected")
    if field.max is not None:
        high = bound(field.max)
        add("max", lambda value: value <= high, f"at most {high} was expected")
    if field.max_length is not None:
        length = field.max_length
        add("max_length", lambda value: len(value) <= length, f"at most {length} characters were expected")
    if field.values is not None:
        known = field.values
        add("values", lambda value: matches(value, known), f"one of {', '.join(map(str, known))} was expected")
    return found
