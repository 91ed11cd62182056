"""From JSON values to typed ones, without guessing: a value either has its field's type exactly or is refused.

Coercion is what turns 'false' into true, 12.7 into 12 and 2^53+1 into 2^53; none of it happens here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from integrations_pipeline.spec.decoding import MAX_DIGITS, MAX_EXPONENT, NonFinite
from integrations_pipeline.spec.fields import Field

Parser = Callable[[Any], Any]
INTEGER = re.compile(r"-?[0-9]+")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:?\d\d.*", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VERSION_DIGITS = 20


def parser(field: Field) -> Parser:
    """A function from a JSON value to the field's type: str, int, Decimal, bool, aware UTC datetime, date, or as it is.

    None stays None, and empty text is None for every type but string. The function raises ValueError with a short
    reason, and nothing else.
    """
    if field.type == "string":
        return parse_string
    parse = {
        "integer": parse_integer,
        "decimal": parse_decimal,
        "boolean": parse_boolean,
        "json": parse_json,
    }.get(field.type) or time_parser(field)

    def parse_or_null(value: Any) -> Any:
        return None if value is None or value == "" else parse(value)

    return parse_or_null


def parse_string(value: Any) -> str | None:
    """Text as it is. Raises ValueError for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{kind_of(value)}, not text")


def parse_integer(value: Any) -> int:
    """Integers, numbers without a fraction, and ids written as digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_DIGITS and INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{kind_of(value)}, not an integer")


def parse_decimal(value: Any) -> Decimal:
    """A number or the text of one, exact: floats as they are written."""
    if isinstance(value, str):
        if len(value) <= MAX_DIGITS and NUMBER.fullmatch(value):
            return bounded(Decimal(value))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        return bounded(Decimal(value))
    elif isinstance(value, float):
        return bounded(Decimal(repr(value)))
    raise ValueError(f"{kind_of(value)}, not a number")


def bounded(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise ValueError(f"{number} is no number")
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError("a number too large or too small to be real")
    return number


def parse_boolean(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise ValueError(f"{kind_of(value)}, not true or false")


def parse_json(value: Any) -> Any:
    if isinstance(value, NonFinite):
        raise ValueError(f"{value} is no number")
    return value


def kind_of(value: Any) -> str:
    """What a value is, in words, with a short sample of it."""
    words = {
        bool: "a boolean",
        int: "an integer",
        dict: "an object",
        list: "a list",
        str: "text",
        NonFinite: "no number",
    }
    sample = "" if isinstance(value, dict | list) else f" ({str(value)[:40]!r})" if short(value) else ""
    return words.get(type(value), "a number") + sample


def short(value: Any) -> bool:
    """Printing an integer of thousands of digits is refused by Python."""
    return not isinstance(value, int) or value.bit_length() < 1000


def time_parser(field: Field) -> Parser:
    """For timestamp and date: one function per declared format, tried in order; the last reason is the one told."""
    zone = ZoneInfo(field.zone) if field.zone else None
    make = date_reader if field.type == "date" else timestamp_reader
    readers = [make(name, zone) for name in field.formats or ["iso"]]
    if len(readers) == 1:
        return readers[0]

    def parse_first(value: Any) -> Any:
        for reader in readers[:-1]:
            try:
                return reader(value)
            except ValueError:
                pass
        return readers[-1](value)

    return parse_first


def timestamp_reader(name: str, zone: ZoneInfo | None) -> Parser:
    if name in ("unix", "unix_ms"):
        return unix_reader(1_000_000 if name == "unix" else 1_000)
    from_text = datetime.fromisoformat if name == "iso" else pattern_reader(name)
    check = check_iso if name == "iso" else check_text

    def read(value: Any) -> datetime:
        check(value)
        try:
            moment = from_text(value)
        except ValueError:
            raise ValueError(
                f"{value[:40]!r} is no {'ISO time' if name == 'iso' else f'time of the form {name}'}"
            ) from None
        if moment.tzinfo is UTC:
            return moment
        if moment.tzinfo is None:
            if zone is None:
                raise ValueError(f"{value[:40]!r} names no zone, and the field declares none")
            moment = moment.replace(tzinfo=zone)
        return in_utc(moment)

    return read


def date_reader(name: str, zone: ZoneInfo | None) -> Parser:
    if name in ("unix", "unix_ms"):
        moment = unix_reader(1_000_000 if name == "unix" else 1_000)
        return lambda value: moment(value).date()
    pattern = pattern_reader(name)

    def read(value: Any) -> date:
        check_text(value)
        try:
            return date.fromisoformat(value) if name == "iso" else pattern(value).date()
        except ValueError:
            raise ValueError(
                f"{value[:40]!r} is no {'ISO date' if name == 'iso' else f'date of the form {name}'}"
            ) from None

    return read


def pattern_reader(pattern: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, pattern)


def check_text(value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{kind_of(value)}, not text")


def check_iso(value: Any) -> None:
    """Digits alone are a number of seconds to most people, and would be read as a date of the year 1612."""
    if not isinstance(value, str):
        raise ValueError(f"{kind_of(value)}, not an ISO time (for numbers declare formats: [unix] or [unix_ms])")
    if value.isdecimal() and len(value) != 8:
        raise ValueError(f"{value[:40]!r} is no ISO time (for numbers declare formats: [unix] or [unix_ms])")


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC. Raises ValueError where the calendar ends before it."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment} is outside the years 1 to 9999") from None


def unix_reader(microseconds: int) -> Parser:
    """Seconds (or milliseconds) since 1970, each worth that many microseconds; exact, finer digits are cut off."""

    def read(value: Any) -> datetime:
        count = value if isinstance(value, int) and not isinstance(value, bool) else parse_decimal(value)
        try:
            return EPOCH + timedelta(microseconds=int(count * microseconds))
        except OverflowError:
            raise ValueError("a time outside the years 1 to 9999") from None

    return read


def version_text(value: Any) -> str:
    """A version as text that sorts as the values do: times in UTC, numbers padded to 20 digits before the point.

    Raises ValueError for a negative or longer number, a time without a zone, and what has no order.
    """
    if isinstance(value, str):
        return text_version(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a version's time names no zone")
        moment = value if value.tzinfo is UTC else in_utc(value)
        return f"{moment.isoformat()[:-6]}{'' if moment.microsecond else '.000000'}Z"  # timespec costs as much again
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return number_version(parse_decimal(value))
    raise ValueError(f"{kind_of(value)} can't be a version")


def text_version(text: str) -> str:
    """Text that is an ISO time or a number sorts as such, other text as it stands."""
    if INTEGER.fullmatch(text):
        return number_version(parse_decimal(text))
    if not TIME.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return version_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def number_version(number: Decimal) -> str:
    whole, _, fraction = format(number, "f").partition(".")
    if number < 0 or len(whole) > VERSION_DIGITS:
        raise ValueError(f"{str(number)[:40]} can't be a version: it is negative or has over {VERSION_DIGITS} digits")
    fraction = fraction.rstrip("0")
    return whole.zfill(VERSION_DIGITS) + (f".{fraction}" if fraction else "")
