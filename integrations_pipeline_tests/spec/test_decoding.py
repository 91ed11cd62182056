"""JSON in and out: no digit is lost, and nothing but ContractError or DataError comes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.decoding import NonFinite, decode, encode, encode_ascii, encode_sorted
from integrations_pipeline.spec.errors import ContractError, DataError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=8) | st.integers(-(2**70), 2**70)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.just(NonFinite("NaN")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(found: Any, wanted: Any) -> bool:
    """Equal in value and in kind: 1 is neither true nor 1.0's text."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, Decimal):
        return Decimal(repr(found) if isinstance(found, float) else found) == wanted
    return type(found) is type(wanted) and found == wanted


@given(DOCUMENTS)
def test_what_is_written_is_read_again_to_the_last_digit(document: Any) -> None:
    assert same(decode(encode(document)), document)


@given(DOCUMENTS)
def test_the_ascii_form_is_the_same_document(document: Any) -> None:
    text = encode_ascii(document)
    assert text.isascii()
    assert same(decode(text.encode()), document)


@given(ANYTHING)
def test_quarantine_can_hold_anything(value: Any) -> None:
    text = encode_ascii(value)
    assert text.isascii()
    json.loads(text, parse_constant=pytest.fail)


@given(ANYTHING)
def test_writing_fails_only_as_a_data_error(value: Any) -> None:
    try:
        body = encode(value)
    except DataError:
        return
    assert same(decode(body), value) or b"." in body or b"E" in body


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_document_or_a_contract_error(body: bytes) -> None:
    try:
        decode(body)
    except ContractError as error:
        assert error.what


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775809", -(2**63) - 1),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("0.12345678901234567", Decimal("0.12345678901234567")),
        ("92233720368547758.07", Decimal("92233720368547758.07")),
        ("12.5", 12.5),
        ("1e400", Decimal("1e400")),
        ("1e999999999", NonFinite("1e999999999")),
        ("NaN", NonFinite("NaN")),
        ("-Infinity", NonFinite("-Infinity")),
        (r'"\ud800"', "\ud800"),
        (r'"a\u0000b"', "a\0b"),
        ('"id 12345678901234567890.5"', "id 12345678901234567890.5"),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('[[1, 12345678901234567], "]]]{{{"]', [[1, 12345678901234567], "]]]{{{"]),
    ],
)
def test_numbers_and_texts_survive(text: str, value: Any) -> None:
    assert same(decode(text.encode()), value)


def test_one_bad_value_leaves_the_other_rows_exact() -> None:
    rows = decode(b'[{"id": 1, "price": NaN}, {"id": 2, "price": 0.12345678901234567}, {"id": 3, "name": "\\udc00"}]')
    assert rows[1] == {"id": 2, "price": Decimal("0.12345678901234567")}
    with pytest.raises(DataError, match="NaN is no number"):
        encode(rows[0])
    with pytest.raises(DataError, match="surrogates"):
        encode(rows[2])
    assert encode_ascii(rows[2]) == r'{"id":3,"name":"\udc00"}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><html><body>We'll be back soon</body></html>", "an HTML page, not JSON"),
        (b"<?xml version='1.0'?><e/>", "XML or HTML, not JSON"),
        (b" \n", "an empty answer, not JSON"),
        (b'{"data": [1, 2', "broken JSON: it ends early"),
        (b'{"name": "M\xfcller"}', "not UTF-8"),
        (b"[" * 100_000, "nested deeper than 500"),
        (b'{"a":' * 501 + b"1" + b"}" * 501, "nested deeper than 500"),
        (b"[1,]", "broken JSON: "),
    ],
)
def test_what_is_not_json_is_called_what_it_is(body: bytes, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        decode(body)


def test_a_document_cut_anywhere_is_told_from_a_broken_one() -> None:
    whole = '{"a": [1, -2.5e+7, true, false, null, NaN, -Infinity], "ü\\ud83d": "x\\n\\u00e9ö"}'.encode()
    decode(whole)
    for at in range(1, len(whole)):
        with pytest.raises(ContractError, match="it ends early"):
            decode(whole[:at])
    for broken in (b'{"a": [1,:,2]}', b'{"a": truth}', b'{"a": "\\ux000000"}', b'{"a": 1 2}', b'{"a": "\xfc"}'):
        with pytest.raises(ContractError, match=r"broken JSON: [^i]|not UTF-8|invalid"):
            decode(broken)


def test_the_deepest_document_allowed_is_read() -> None:
    depth = limits.ANSWER_NESTING_DEPTH
    assert decode(b'[["[{", ' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"]]")[0][0] == "[{"


def test_nan_is_not_written_as_null() -> None:
    for value in (float("nan"), {"a": None, "b": [float("inf")]}, Decimal("NaN")):
        with pytest.raises(DataError):
            encode(value)
    assert encode({"a": None, "b": [1.5]}) == b'{"a":null,"b":[1.5]}'


def test_equal_values_have_equal_bytes() -> None:
    assert encode_sorted({"b": 1, "a": {"d": 2, "c": 10**30}}) == encode_sorted({"a": {"c": 10**30, "d": 2}, "b": 1})


def test_times_are_written_in_utc() -> None:
    assert encode(datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == b'"2024-01-02T03:04:05.000006Z"'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_value(value: float) -> None:
    found = decode(orjson.dumps(value))
    assert Decimal(repr(found) if isinstance(found, float) else found) == Decimal(repr(value))
