"""What PostgreSQL refuses costs one row, and quarantine holds it all the same."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations_pipeline.boundary import Split
from integrations_pipeline.spec.decoding import NonFinite, decode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.limits import SAMPLE_CHARACTERS
from integrations_pipeline_tests.boundary.made import split


def nested(levels: int, inner: Any = 1) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


UNSTORABLE: list[tuple[Any, str]] = [
    ("a\0b", "x"),
    ({"deep": ["a", "\0"]}, "x.deep.1"),
    ({"a\0": 1}, "x.a\\u0000"),
    ("\ud800", "x"),
    ({"\udfff": 1}, "x.\\udfff"),
    (NonFinite("NaN"), "x"),
    ([1, {"y": NonFinite("-Infinity")}], "x.1.y"),
    (float("nan"), "x"),
    (Decimal("1e200000"), ""),
    (Decimal("NaN"), ""),
    (10**5000, ""),
    (nested(250), "x.0.0"),
    (nested(5000), "x.0.0"),
    (nested(3000, 2**70), "x.0.0"),
    ({1, 2}, ""),
]

STORABLE: list[Any] = [
    "\\u0000",
    "\\\\u0000 ü 😀",
    {"": None, "a": {"b": [1.5, True]}},
    2**70,
    -(10**300),
    Decimal("0.1000000000000000000001"),
    Decimal("1e300"),
    [[]] * 300,
    nested(198),
    "x" * 1_000_000,
    1e308,
    5e-324,
]


@pytest.mark.parametrize(("value", "path"), UNSTORABLE, ids=range(len(UNSTORABLE)))
def test_one_bad_row_costs_one_row(value: Any, path: str) -> None:
    answer = split([{"id": 1}, {"id": 2, "x": value}, {"id": 3}], fields={"id": {"type": "integer", "min": 1}})
    assert [row.external_id for row in answer.good] == ["1", "3"]
    (row,) = answer.rejected
    assert row.external_id == "2"
    assert [(one["rule"], one["field"]) for one in row.reasons] == [("storable", path)]


@pytest.mark.parametrize("value", STORABLE, ids=range(len(STORABLE)))
def test_what_only_looks_bad_is_kept_exactly(value: Any) -> None:
    (row,) = split([{"id": 1, "x": value}]).good
    kept = json.loads(row.payload, parse_float=type(value) if isinstance(value, Decimal) else float)["x"]
    assert kept == value


def test_a_page_as_it_comes() -> None:
    body = (
        b'[{"id":1,"x":NaN},{"id":2,"x":"\\ud800"},{"id":3,"x":"\\u0000"},{"id":4,"x":0.10000000000000000001},{"id":5}]'
    )
    answer = split(decode(body))
    assert [row.external_id for row in answer.rejected] == ["1", "2", "3"]
    assert answer.good[0].payload == b'{"id":4,"x":0.10000000000000000001}'


def test_equal_records_have_equal_hashes() -> None:
    (one,) = split([{"id": 1, "a": {"x": 1, "y": 2}, "b": "ü"}]).good
    (same,) = split([{"b": "ü", "a": {"y": 2, "x": 1}, "id": 1}]).good
    (other,) = split([{"id": 1, "a": {"x": 1, "y": 3}, "b": "ü"}]).good
    assert one.hash == same.hash != other.hash
    assert len(one.hash) == 16


def store(database: psycopg.Connection[Any], answer: Split) -> None:
    """As the store does: good rows as jsonb, rejected ones as json with their reasons as jsonb."""
    with database.transaction(force_rollback=True):
        for row in answer.good:
            database.execute(
                "INSERT INTO integrations.raw_record (external_id, payload, hash, version, fetched_at)"
                " VALUES (%s, %s::jsonb, %s, %s, now())",
                [row.external_id, row.payload.decode(), row.hash, row.version],
            )
        for one in answer.rejected:
            database.execute(
                "INSERT INTO integrations.quarantine (connection, stream, stage, external_id, hash, payload, reasons)"
                " VALUES ('c', 's', 'boundary', %s, %s, %s::json, %s::jsonb) ON CONFLICT DO NOTHING",
                [one.external_id, one.hash, one.payload, json.dumps(one.reasons)],
            )


def test_postgresql_takes_what_was_accepted_and_what_was_rejected(database_url: str) -> None:
    keys = [None, "", "a\0", "\ud800", "x" * 3000, "😀", "x" * 2000, 10**1500]
    rows = [{"id": f"v{i}", "x": value} for i, value in enumerate([*STORABLE, *(value for value, _ in UNSTORABLE)])]
    rows += [{"id": key, "x\0": 1} for key in keys] + [{"id": key} for key in keys]
    rows += ["\0", nested(900), NonFinite("NaN")]  # type: ignore[list-item]
    answer = split(rows, fields={"id": {"type": "string"}}, contract={"stop_above": "100%"})
    assert len(answer.good) == len(STORABLE) + 2
    with psycopg.connect(database_url) as database:
        store(database, answer)


texts = st.text(st.characters(exclude_categories=[]), max_size=12) | st.sampled_from(
    ["a", "b", "\0", "\ud800", "\\u0000"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**63, -(2**63) - 1, 2**64, 10**400, NonFinite("Infinity"), Decimal("1e-999"), Decimal(7)])
    | st.floats()
    | texts
    | st.sampled_from(["2024-01-02T03:04:05Z", "2024-01-02", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
names = st.sampled_from(["id", "at", "n", "email", "flag", "deep", "new"]) | texts
records = st.dictionaries(names, values, max_size=7) | st.fixed_dictionaries(
    {
        "id": st.integers(0, 3) | st.sampled_from(["0", "1"]),
        "at": st.integers(0, 3) | values,
        "n": values,
        "email": values,
    }
)
pages = st.lists(records | values, max_size=8)
streams = st.fixed_dictionaries(
    {},
    optional={
        "fields": st.fixed_dictionaries(
            {},
            optional={
                "id": st.sampled_from([{"type": "integer"}, {"type": "string", "required": True}]),
                "at": st.sampled_from([{"type": "timestamp"}, {"type": "date"}, {"type": "integer", "required": True}]),
                "n": st.sampled_from([{"type": "decimal", "min": 0}, {"type": "json", "required": True}]),
                "email": st.just({"type": "string", "format": "email", "max_length": 8}),
                "flag": st.just({"type": "boolean", "values": [True]}),
                "deep.a": st.just({"type": "integer", "max": 5}),
            },
        ),
        "cursor": st.fixed_dictionaries(
            {"field": st.just("at"), "send": st.just("since")},
            optional={"format": st.sampled_from(["iso", "unix", "unix_ms", "date", "%Y-%m-%d", "%d.%m.%Y %H:%M"])},
        ),
        "primary_key": st.sampled_from(["id", ["id", "n"], "deep.a"]),
        "version": st.just("n"),
        "skip": st.just("flag"),
        "deletes": st.just({"when": {"email": {"present": False}}}),
        "contract": st.fixed_dictionaries(
            {},
            optional={
                "new_field": st.sampled_from(["evolve", "quarantine", "discard_value", "freeze"]),
                "bad_value": st.sampled_from(["quarantine", "discard_value", "freeze"]),
            },
        ),
    },
)


@settings(max_examples=400, deadline=None)
@given(pages, streams, st.booleans())
def test_any_rows_of_any_stream_balance_and_can_be_stored(page: list[Any], keys: dict[str, Any], desc: bool) -> None:
    before = repr(page)
    try:
        answer = split(page, desc=desc, **keys)
    except ContractError:
        return
    assert repr(page) == before
    assert len({row.external_id for row in answer.good}) == len(answer.good)
    for row in answer.good:
        assert b"\\u0000" not in row.payload.replace(b"\\\\", b"")
        assert isinstance(json.loads(row.payload.decode()), dict)
        assert 0 < len(row.external_id.encode()) <= 2000
        assert "\0" not in row.external_id + row.version
        assert len(row.hash) == 16
    for one in answer.rejected:
        assert one.payload.isascii()
        json.loads(one.payload)
        assert one.reasons
        for reason in one.reasons:
            assert reason["rule"]
            assert reason["message"]
            assert len(reason["sample"]) <= SAMPLE_CHARACTERS
            assert "\0" not in "".join(reason.values())
            "".join(reason.values()).encode()
        assert one.external_id is None or (one.external_id.encode() and "\0" not in one.external_id)


def test_postgresql_takes_any_rows(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:

        @settings(max_examples=60, deadline=None)
        @given(
            pages, st.sampled_from([{}, {"fields": {"email": {"format": "email"}, "n": {"type": "decimal", "min": 0}}}])
        )
        def takes(page: list[Any], keys: dict[str, Any]) -> None:
            store(database, split(page, cursor={"field": "at", "send": "since"}, **keys))

        takes()
