"""JSON in and out without losing a digit: the only place that reads or writes it.

``decode`` promises: integers of any size stay integers, numbers with more digits than a float holds become Decimal,
what no database can store (NaN, lone surrogates) survives as such, so that one bad row costs one row. ``encode``
promises the same backwards, or DataError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any

import orjson

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.errors import ContractError, DataError

BOM = b"\xef\xbb\xbf"
DIGITS = bytes(ord("0") if chr(code) in "0123456789." else code for code in range(256))
LONG_RUN = b"0" * 17  # a float is exact to 15 digits: shorter runs of digits and dots need no second look
LONG_NUMBER = re.compile(rb"(?:^|[:,\[\s])-?(\d[\d.]{16,})")
NO_BRACKETS = bytes(code for code in range(256) if chr(code) not in "[]{}")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
EXACT_DIGITS = 15
MAX_EXPONENT = 1_000  # far beyond any float; 1e999999999 written out would be a gigabyte
MAX_DIGITS = 4_000  # Python refuses to print longer integers (4,300), and so would every log line


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A number that isn't one: NaN, Infinity, or one no column can hold. ``text`` is how the source wrote it."""

    text: str

    def __str__(self) -> str:
        return self.text


def decode(body: bytes) -> Any:
    """The document in a body of UTF-8 JSON.

    Raises ContractError where it is something else, is cut off, or is nested too deeply (``limits``).
    """
    body = body.removeprefix(BOM)
    if body.translate(DIGITS).find(LONG_RUN) >= 0 and not floats_are_exact(body):
        return checked_depth(body, decode_slowly)
    return checked_depth(body, decode_fast)


def decode_fast(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return decode_slowly(body)


def decode_slowly(body: bytes) -> Any:
    """Exact and tolerant, at about three times the cost. Raises ContractError."""
    try:
        return SLOW.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data" and error.end == len(body)
        raise ContractError(not_json(body) or (ENDS_EARLY if cut else "text that is not UTF-8")) from None
    except json.JSONDecodeError as error:
        raise ContractError(not_json(body) or syntax_error(error)) from None
    except RecursionError:
        raise ContractError(TOO_DEEP) from None


def syntax_error(error: json.JSONDecodeError) -> str:
    if is_cut(error):
        return ENDS_EARLY
    return f"broken JSON: {error.msg.lower().removesuffix(' at')} at line {error.lineno}, column {error.colno}"


def is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the text is the beginning of a JSON text: what is left where it broke off may be half a word."""
    rest = error.doc[error.pos :].rstrip()
    return (
        error.msg.startswith("Unterminated string")
        or any(word.startswith(rest) for word in WORDS)
        or bool(HALF_NUMBER.fullmatch(rest))
        or (error.msg.startswith("Invalid \\") and len(rest) < ESCAPE_CHARACTERS)
    )


def not_json(body: bytes) -> str | None:
    """What a body is instead of JSON, where that can be told at a glance."""
    start = body[:200].lstrip().lower()
    if not start:
        return "an empty answer, not JSON"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, not JSON"
    if start.startswith(b"<"):
        return "XML or HTML, not JSON"
    return None


ENDS_EARLY = "broken JSON: it ends early"
"""What is said of a body that is the beginning of a JSON text: cut off on its way, more often than written so."""

WORDS = ("true", "false", "null", "NaN", "-Infinity", "Infinity")
HALF_NUMBER = re.compile(r"\.|[eE][+-]?")
ESCAPE_CHARACTERS = 6

TOO_DEEP = f"JSON that is nested deeper than {limits.ANSWER_NESTING_DEPTH} levels"


def checked_depth(body: bytes, parse: Callable[[bytes], Any]) -> Any:
    """Parses a body that isn't nested too deeply; a malformed one is left to the parser's own message."""
    document = parse(body)
    if body.count(b"[") + body.count(b"{") > limits.ANSWER_NESTING_DEPTH and is_deep(body):
        raise ContractError(TOO_DEEP)
    return document


def is_deep(body: bytes) -> bool:
    """Takes away the innermost brackets, a level at a time: an eighth of the cost of walking the parsed document."""
    for text in (body, None):
        brackets = (STRING.sub(b"", body) if text is None else text).translate(None, NO_BRACKETS)
        for _ in range(limits.ANSWER_NESTING_DEPTH):
            shorter = brackets.replace(b"{}", b"").replace(b"[]", b"")
            if not shorter:
                return False
            if len(shorter) == len(brackets):
                break  # unbalanced: there are brackets inside strings, so look again without those
            brackets = shorter
    return True


def floats_are_exact(body: bytes) -> bool:
    """Whether the long runs of digits are only integers that fit 64 bits, or stand inside strings."""
    for found in LONG_NUMBER.finditer(body):
        digits = found[1]
        if b"." in digits or len(digits) > 19 or int(digits) >= 2**63:
            return False
    return True


def parse_integer(text: str) -> Any:
    return int(text) if len(text) <= MAX_DIGITS else NonFinite(text)


def parse_number(text: str) -> Any:
    """A float where it is exact, else a Decimal."""
    if len(text) <= EXACT_DIGITS and "e" not in text and "E" not in text:
        return float(text)
    number = Decimal(text)
    if len(text) > MAX_DIGITS or abs(number.adjusted()) > MAX_EXPONENT:
        return NonFinite(text)
    as_float = float(number)
    return as_float if len(number.as_tuple().digits) <= EXACT_DIGITS and abs(as_float) < 1e300 else number


def as_stored(value: Any) -> Any:
    """A JSON value as it comes back from a jsonb column, which writes each number without an exponent."""
    kind = type(value)
    if kind is dict:
        return {key: as_stored(inner) for key, inner in value.items()}
    if kind is list:
        return [as_stored(inner) for inner in value]
    if kind is not float and kind is not Decimal:
        return value
    number = Decimal(repr(value)) if kind is float else value
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
        return value  # and never stored
    text = format(number if number else abs(number), "f")
    return parse_number(text) if "." in text else parse_integer(text)


SLOW = json.JSONDecoder(parse_int=parse_integer, parse_float=parse_number, parse_constant=NonFinite)

CONTAINERS = frozenset((dict, list, tuple))
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


def encode(value: Any) -> bytes:
    """Compact JSON with exact numbers. Raises DataError for NaN, Infinity, lone surrogates and what isn't JSON.

    A NUL in a text is JSON and passes as ``\\u0000``; PostgreSQL's jsonb refuses it, so the boundary looks for it.
    """
    return write(value, OPTIONS)


def encode_sorted(value: Any) -> bytes:
    """Like ``encode``, with sorted keys, so that equal values have equal bytes: for hashes."""
    return write(value, OPTIONS | orjson.OPT_SORT_KEYS)


def write(value: Any, options: int) -> bytes:
    try:
        body = orjson.dumps(value, default=exact_number, option=options)
    except orjson.JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise DataError(f"a value can't be written as JSON: {reason_of(error)}") from None
        return write(with_exact_integers(value), options)
    if b"null" in body and has_nan(value):
        raise DataError("a value can't be written as JSON: NaN or Infinity is no number")
    return body


def reason_of(error: Exception) -> str:
    """orjson wraps what ``default`` raised; the cause says more."""
    cause = error.__cause__
    return cause.what if isinstance(cause, DataError) else str(error)


def exact_number(value: Any) -> Any:
    """What orjson asks for objects it doesn't know."""
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= MAX_EXPONENT:
        return orjson.Fragment(str(value))
    if isinstance(value, NonFinite | Decimal):
        raise DataError(f"{str(value)[:40]} is no number")
    raise DataError(f"{type(value).__name__} is no JSON type")


def with_exact_integers(value: Any) -> Any:
    """The value with integers beyond 64 bits as raw digits, which orjson refuses otherwise."""
    if isinstance(value, dict):
        return {key: with_exact_integers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_exact_integers(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        if value.bit_length() > MAX_DIGITS * 3:
            raise DataError(f"a value can't be written as JSON: {short_text(value)}")
        return orjson.Fragment(str(value))
    return value


def has_nan(value: Any) -> bool:
    """orjson writes NaN as null without a word; asked only where the text holds a null, so for most records."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
    for one in inner:
        kind = type(one)
        if kind is float:
            if not isfinite(one):
                return True
        elif kind in CONTAINERS and has_nan(one):
            return True
    return False


def encode_ascii(value: Any) -> str:
    """ASCII JSON text of anything at all, for quarantine: what has no JSON form stands as its text. Never raises."""
    try:
        text = encode(value).decode("utf-8")
        return text if text.isascii() else "".join(ascii_parts(value))
    except DataError:
        return "".join(ascii_parts(value))
    except RecursionError:
        return encode_basestring_ascii(TOO_DEEP)


def ascii_parts(value: Any) -> list[str]:
    if isinstance(value, dict):
        pairs = [f"{encode_basestring_ascii(str(key))}:{encode_ascii(inner)}" for key, inner in value.items()]
        return ["{", ",".join(pairs), "}"]
    if isinstance(value, list | tuple):
        return ["[", ",".join(map(encode_ascii, value)), "]"]
    if value is None or isinstance(value, bool):
        return [{None: "null", True: "true", False: "false"}[value]]
    if isinstance(value, int) and abs(value) < 10**MAX_DIGITS:
        return [str(int(value))]
    if (isinstance(value, float) and not has_nan(value)) or (isinstance(value, Decimal) and value.is_finite()):
        return [str(value)]
    return [encode_basestring_ascii(value if isinstance(value, str) else short_text(value))]


def short_text(value: Any) -> str:
    return "an integer of thousands of digits" if isinstance(value, int) else str(value)
