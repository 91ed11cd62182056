"""The closed vocabulary of `apply`: each transform by name, what it takes, and how its value is written back.

A transform is compiled once per field into a function of the value and its record. It gives the new value, None where
nothing is left, or raises ValueError with a short reason; it never sees null (`default` aside). Text transforms take
text, and integers as their digits. Blank text is null to every transform that makes something else than text of it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date as calendar_date
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from integrations_pipeline.mapping.markup import without_tags
from integrations_pipeline.spec.codes import CURRENCIES, country_code
from integrations_pipeline.spec.conditions import matches
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.formats import is_email
from integrations_pipeline.spec.mapping import NOT_INVERTIBLE, time_argument
from integrations_pipeline.spec.paths import MISSING, getter, parse_path
from integrations_pipeline.spec.values import kind_of, parse_decimal, parse_integer, parser

Step = Callable[[Any, Any], Any]
"""One step of a field: (value, record) → value. Raises ValueError, or ArithmeticError past a type's bounds."""

PHONE_DIGITS = range(5, 16)
"""E.164 allows 15; fewer than 5 are an extension or a placeholder."""

GAPS = " \u00a0\u202f\u2009'’"
"""What may stand between thousands beside comma or point: spaces and apostrophes."""


def grouped(separators: str, point: str) -> re.Pattern[str]:
    """Digits in groups of three, all parted by the same sign, and a fraction."""
    return re.compile(rf"([+-]?[0-9]{{1,3}}(?:([{separators}])[0-9]{{3}})(?:\2[0-9]{{3}})*)(?:{point}([0-9]+))?")


WITH_POINT = grouped("," + GAPS, r"\.")
WITH_COMMA = grouped("." + GAPS, ",")
ASCII_SIGNS = {code: None for code in range(128) if not chr(code).isdigit()}
NO_DIGIT = re.compile(r"[^0-9]+")
PLAIN_COMMA = re.compile(r"[+-]?[0-9]+(?:,[0-9]+)?")
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_blank(value: Any) -> bool:
    """Null, nothing there, or text of nothing but white space."""
    return value is None or value is MISSING or (isinstance(value, str) and not value.strip())


def as_text(value: Any) -> str:
    """Text as it is, an integer as its digits. Raises ValueError for anything else: nothing is guessed."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{kind_of(value)}, not text")


@dataclass(frozen=True, slots=True)
class OnText:
    """A step that changes text."""

    change: Callable[[str], Any]

    def __call__(self, value: Any, _: Any) -> Any:
        return self.change(value if type(value) is str else as_text(value))


@dataclass(frozen=True, slots=True)
class Rule:
    """A step that passes a value on, or raises ValueError."""

    holds: Callable[[Any], Any]
    message: str

    def __call__(self, value: Any, _: Any) -> Any:
        if self.holds(value):
            return value
        raise ValueError(f"{self.message}, not {kind_of(value)}")


def collapse(text: str) -> str:
    """Runs of white space become one space, the ends are trimmed."""
    return " ".join(text.split())


def digits(text: str) -> str | None:
    """Only 0-9 stay; none left is null."""
    return NO_DIGIT.sub("", text) or None


def email(text: str) -> str | None:
    """Trimmed, without ``mailto:``, in lower case; refused unless it has the form of one address."""
    address = text.strip().lower().removeprefix("mailto:")
    if not address:
        return None
    if not is_email(address):
        raise ValueError("not an e-mail address")
    return address


def phone(text: str) -> str | None:
    """Digits with a leading ``+`` where the country is named (``+`` or ``00``); letters and odd lengths are refused.

    A national number stays national: which country it belongs to isn't guessed. ``(0)`` after a country is left out.
    """
    number = text.strip().lower().removeprefix("tel:").strip()
    if not number:
        return None
    if number != number.upper() if number.isascii() else any(map(str.isalpha, number)):
        raise ValueError("letters in a phone number")
    abroad = number.startswith(("+", "00"))
    found = (number.replace("(0)", "") if abroad else number).translate(ASCII_SIGNS)
    found = found if found.isascii() else NO_DIGIT.sub("", found)
    if abroad and not number.startswith("+"):
        found = found[2:]
    if len(found) not in PHONE_DIGITS:
        raise ValueError(f"{len(found)} digits are no phone number ({PHONE_DIGITS[0]} to {PHONE_DIGITS[-1]} are)")
    return f"+{found}" if abroad else found


def country(text: str) -> str | None:
    """ISO 3166-1 alpha-2 of a code or an English name, in any case."""
    if not text.strip():
        return None
    code = country_code(text)
    if code is None:
        raise ValueError("neither a country's two-letter code nor its English name")
    return code


def currency(text: str) -> str | None:
    """An ISO 4217 code in upper case."""
    code = text.strip().upper()
    if code and code not in CURRENCIES:
        raise ValueError("not an ISO 4217 currency code")
    return code or None


def boolean(value: Any, _: Any) -> bool | None:
    """``true yes 1`` and ``false no 0`` as text in any case or as numbers."""
    if value is True or value is False:
        return value
    word = as_text(value).strip().lower()
    if word and word not in BOOLEANS:
        raise ValueError("neither true, yes, 1 nor false, no, 0")
    return BOOLEANS[word] if word else None


def integer(value: Any, _: Any) -> int | None:
    """A whole number, also written as text or as 12.0; a fraction is refused."""
    if isinstance(value, str):
        value = value.strip().removeprefix("+")
    return None if value == "" else parse_integer(value)


def decimal(value: Any, _: Any) -> Decimal | None:
    """An exact number; text with a decimal point, thousands grouped by comma, space or apostrophe."""
    if isinstance(value, str):
        value = ungrouped(value.strip(), WITH_POINT)
    return None if value == "" else parse_decimal(value)


def ungrouped(text: str, form: re.Pattern[str]) -> str:
    """The number without its groups where it has that form, else as it is."""
    found = form.fullmatch(text)
    if not found:
        return text
    whole = found[1].replace(found[2], "")
    return f"{whole}.{found[3]}" if found[3] else whole


def decimal_comma(value: Any, _: Any) -> Decimal | None:
    """``1.234,56``: text with a decimal comma, thousands grouped by point, space or apostrophe; numbers as they are."""
    if not isinstance(value, str):
        return parse_decimal(value)
    text = value.strip()
    if PLAIN_COMMA.fullmatch(text):
        return parse_decimal(text.replace(",", "."))
    if text and not WITH_COMMA.fullmatch(text):
        raise ValueError("not a number with a decimal comma")
    return parse_decimal(ungrouped(text, WITH_COMMA)) if text else None


def minor_units(argument: str | int) -> Step:
    """An integer of the currency's smallest unit → the exact amount: 1050 EUR → 10.50, 1050 JPY → 1050.

    The argument is the path of the currency in the record, or the number of digits.
    """
    if isinstance(argument, int):
        return lambda value, _: scaled(value, argument)
    read = getter(parse_path(argument))
    return lambda value, record: scaled(value, lambda: exponent_of(read(record)))


def scaled(value: Any, exponent: int | Callable[[], int]) -> Decimal | None:
    """Blank text is null before the currency is asked for."""
    units = integer(value, None)
    if units is None:
        return None
    return Decimal(f"{units}e-{exponent if isinstance(exponent, int) else exponent()}")


def exponent_of(code: Any) -> int:
    known = CURRENCIES.get(code.strip().upper()) if isinstance(code, str) else None
    if known is None:
        raise ValueError("the record's currency is no ISO 4217 code with minor units")
    return known


def timestamp(argument: Any) -> Step:
    """A moment in UTC of a time's text or number; the argument names formats, and the zone of times without one."""
    formats, zone = time_argument(argument) if argument is not None else (None, None)
    parse = parser(Field(type="timestamp", formats=formats, zone=zone))

    def step(value: Any, _: Any) -> datetime | None:
        if isinstance(value, datetime):
            return value
        if isinstance(value, calendar_date):
            raise ValueError("a date without a time of day")
        return None if is_blank(value) else parse(value.strip() if isinstance(value, str) else value)

    return step


def date(argument: Any) -> Step:
    """The calendar day of a date's or time's text or number; the argument names formats and the day's zone (UTC)."""
    formats, zone = time_argument(argument) if argument is not None else (None, None)
    place = ZoneInfo(zone or "UTC")
    parse = parser(Field(type="timestamp", formats=formats, zone=place.key))

    def step(value: Any, _: Any) -> calendar_date | None:
        if isinstance(value, calendar_date) and not isinstance(value, datetime):
            return value
        moment = value if isinstance(value, datetime) else parse(value.strip() if isinstance(value, str) else value)
        return moment.astimezone(place).date() if moment is not None else None

    return step


def truncate(length: int) -> Step:
    """At most so many characters."""
    return OnText(lambda text: text[:length])


def split(argument: list[Any]) -> Step:
    """The part at an index (from 0, or from the end with -1) between separators; null where there is none."""
    separator, index = argument

    def part(text: str) -> str | None:
        parts = text.split(separator)
        return parts[index] if -len(parts) <= index < len(parts) else None

    return OnText(part)


def between(argument: list[str]) -> Step:
    """What stands between the first text and the next second one; null where either is missing."""
    begin, end = argument

    def inner(text: str) -> str | None:
        _, found, rest = text.partition(begin)
        inside, closed, _ = rest.partition(end)
        return inside if found and closed else None

    return OnText(inner)


def default(argument: Any) -> Step:
    """The argument where the value is null or blank."""
    return lambda value, _: argument if is_blank(value) else value


def null_if(argument: Any) -> Step:
    """Null where the value is the argument, or one of a list; 1 is not true."""
    return lambda value, _: None if matches(value, argument) else value


AS_IS = "as it is"
"""Normalisers: the canonical value is a form the source accepts too."""


@dataclass(frozen=True, slots=True)
class Transform:
    """One word of the vocabulary. ``back`` says how its value is written to the source, or why it can't be."""

    name: str
    takes: Literal["text", "any"]
    compile: Callable[[Any], Step]
    back: str = AS_IS

    @property
    def invertible(self) -> bool:
        return self.name not in NOT_INVERTIBLE


def of_text(name: str, change: Callable[[str], Any], back: str = AS_IS) -> Transform:
    step = OnText(change)
    return Transform(name, "text", lambda _: step, back)


TRANSFORMS: dict[str, Transform] = {
    one.name: one
    for one in (
        of_text("trim", str.strip),
        of_text("lower", str.lower),
        of_text("upper", str.upper),
        of_text("collapse", collapse),
        of_text("digits", digits),
        of_text("email", email),
        of_text("phone", phone),
        of_text("country", country),
        of_text("currency", currency),
        Transform("boolean", "any", lambda _: boolean),
        Transform("integer", "any", lambda _: integer),
        Transform("decimal", "any", lambda _: decimal),
        Transform("decimal_comma", "any", lambda _: decimal_comma, "text with a decimal comma"),
        Transform("minor_units", "any", minor_units, "the integer of the smallest unit"),
        Transform("date", "any", date, "in the first format"),
        Transform("timestamp", "any", timestamp, "in the first format and the zone"),
        of_text("unescape_html", html.unescape),
        of_text("strip_html", without_tags, NOT_INVERTIBLE["strip_html"]),
        Transform("truncate", "text", truncate, NOT_INVERTIBLE["truncate"]),
        Transform("split", "text", split, NOT_INVERTIBLE["split"]),
        Transform("between", "text", between, NOT_INVERTIBLE["between"]),
        Transform("default", "any", default),
        Transform("null_if", "any", null_if),
    )
}
