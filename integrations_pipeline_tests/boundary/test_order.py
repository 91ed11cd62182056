"""Versions, repeats and the watermark."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from integrations_pipeline.boundary import Boundary
from integrations_pipeline_tests.boundary.made import READ_AT, split, stream

AT = {"cursor": {"field": "at", "send": "since"}}
READ = "2024-06-01T12:00:00.000000Z"


def version(value: Any, **keys: Any) -> str | None:
    answer = split([{"id": 1, "at": value}], **(AT | keys))
    return answer.good[0].version if answer.good else None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05.000000Z"),
        ("2024-01-02T03:04:05.5+02:00", "2024-01-02T01:04:05.500000Z"),
        ("2024-01-02", "2024-01-02"),
        (17, "00000000000000000017"),
        ("17", "00000000000000000017"),
        (Decimal("1.50"), "00000000000000000001.5"),
        ("v1-abc", "v1-abc"),
        (None, READ),
        ("", READ),
        (-1, None),
        (True, None),
        ([], None),
        ("0000-00-00 00:00:00", None),
        ("2024-13-01", None),
        (10**30, None),
    ],
)
def test_a_field_that_is_not_declared_goes_by_its_shape(value: Any, text: str | None) -> None:
    assert version(value) == text


@pytest.mark.parametrize("keys", [{}, AT], ids=["no version", "null"])
def test_a_row_without_a_version_is_as_new_as_its_own_page_in_whole_seconds(keys: dict[str, Any]) -> None:
    moments = [READ_AT - timedelta(seconds=2.5), READ_AT - timedelta(seconds=2.1), READ_AT]
    rows = [{"id": number} for number in range(3)]
    answer = Boundary("acme", "records", stream(**keys)).split(rows, READ_AT, moments)
    earlier = "2024-06-01T11:59:57.000000Z"
    assert [row.version for row in answer.good] == [earlier, earlier, READ]


@pytest.mark.parametrize(
    ("value", "field", "text"),
    [
        (1700000000, {"type": "timestamp", "formats": ["unix"]}, "2023-11-14T22:13:20.000000Z"),
        ("02/01/2024", {"type": "date", "formats": ["%d/%m/%Y"]}, "2024-01-02"),
        ("12", {"type": "integer"}, "00000000000000000012"),
        (None, {"type": "integer"}, None),
        (None, {"type": "date"}, "2024-06-01"),
        (None, {"type": "timestamp"}, READ),
        ("bad", {"type": "timestamp"}, None),
    ],
)
def test_a_declared_field_goes_by_its_type(value: Any, field: dict[str, Any], text: str | None) -> None:
    assert version(value, fields={"at": field}) == text


@pytest.mark.parametrize(
    ("value", "format", "text"),
    [
        (1700000000, "unix", "2023-11-14T22:13:20.000000Z"),
        (1700000000000, "unix_ms", "2023-11-14T22:13:20.000000Z"),
        ("1700000000000", "unix_ms", "2023-11-14T22:13:20.000000Z"),
        ("2023-11-14T22:13:20Z", "unix_ms", "2023-11-14T22:13:20.000000Z"),
        ("14.11.2023 22:13", "%d.%m.%Y %H:%M", "2023-11-14T22:13:00.000000Z"),
        ("14.11.2023", "%d.%m.%Y", "2023-11-14"),
        (None, "date", "2024-06-01"),
    ],
)
def test_the_cursors_format_tells_what_an_undeclared_value_means(value: Any, format: str, text: str) -> None:
    assert version(value, cursor={"field": "at", "send": "since", "format": format}) == text


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-02T03:04:05Z", "2024-01-02T03:04:06Z"],
        ["2024-01-02T03:04:05.123Z", "2024-01-02T03:04:05.000Z"],
        ["2024-01-02T03:04:05.123456Z", "1999-12-31T23:59:59.999999Z"],
        ["2024-01-02T03:04:05.12345Z", "2024-01-02T03:04:05.12346Z"],
        ["2024-01-02t03:04:05z", "2024-01-02 03:04:05Z"],
        ["20240102T030405.123Z", "20240102T030405.124Z"],
        ["2024-W01-2T03:04:05Z", "2024-01-02T03:04:05Z"],
        ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05+02"],
        ["2024-01-02T03:04Z+1", "2024-01-02T03:04:05Z"],
        ["2024-01-02T03:04:05Z", None],
        ["2024-01-02T03:04:05,123Z", "2024-01-02T03:04:05,124Z"],
        ["2024-01-02T030405.12345Z", "2024-01-02T030405.12346Z"],
        ["2024-01-02T030405.1Z", "2024-01-02T030405.2Z"],
    ],
)
@pytest.mark.parametrize("fields", [{}, {"at": {"type": "timestamp"}}])
def test_a_column_of_times_is_read_as_each_alone(values: list[Any], fields: dict[str, Any]) -> None:
    answer = split([{"id": i, "at": value} for i, value in enumerate(values)], fields=fields, **AT)
    alone = [version(value, fields=fields) for value in values]
    assert [row.version for row in answer.good] == [text for text in alone if text]


def test_a_pattern_that_only_looks_like_iso() -> None:
    """The Z is a letter of the pattern here, and the time is Berlin's."""
    berlin = {"type": "timestamp", "formats": ["%Y-%m-%dT%H:%M:%SZ"], "zone": "Europe/Berlin"}
    assert version("2024-01-02T03:04:05Z", fields={"at": berlin}) == "2024-01-02T02:04:05.000000Z"


def test_without_version_and_cursor_the_time_of_reading_counts() -> None:
    assert split([{"id": 1}]).good[0].version == READ


def test_a_declared_version_must_be_there() -> None:
    answer = split([{"id": 1, "rev": 3}, {"id": 2}, {"id": 3, "rev": None}], version="rev")
    assert [row.version for row in answer.good] == ["00000000000000000003"]
    assert [row.reasons[0]["rule"] for row in answer.rejected] == ["version", "version"]


def test_no_time_of_reading_among_numbers() -> None:
    """As text a time sorts after every number: the row would never be updated again."""
    answer = split([{"id": 1, "at": 5}, {"id": 2}], **AT)
    assert [row.external_id for row in answer.rejected] == ["2"]


REPEATED = [
    {"id": 1, "at": 2, "n": "a"},
    {"id": 1, "at": 3, "n": "b"},
    {"id": 1, "at": 3, "n": "c"},
    {"id": 1, "at": 1},
]


@pytest.mark.parametrize(("desc", "kept"), [(False, "c"), (True, "b")])
def test_of_repeats_the_newest_stays(desc: bool, kept: str) -> None:
    answer = split(REPEATED, desc=desc, **AT)
    (row,) = answer.good
    assert json.loads(row.payload)["n"] == kept
    assert sorted(version[-1] for _, version in answer.superseded) == ["1", "2", "3"]


def test_a_bad_row_gives_way_to_a_newer_one_only() -> None:
    fields = {"n": {"type": "integer"}}
    rows = [{"id": 1, "at": 1, "n": "bad"}, {"id": 1, "at": 2, "n": 1}]
    healed = split(rows, fields=fields, **AT)
    assert (len(healed.good), healed.rejected) == (1, [])
    assert healed.superseded == [("1", "00000000000000000001")]
    broken = split([{"id": 1, "at": 3, "n": "bad"}, {"id": 1, "at": 4, "n": "worse"}, *rows], fields=fields, **AT)
    assert len(broken.good) == 1
    assert [row.reasons[0]["sample"] for row in broken.rejected] == ["worse"]


def test_a_tombstone_needs_only_key_and_version() -> None:
    fields = {"email": {"type": "string", "required": True}, "at": {"type": "timestamp", "required": True}}
    rows = [
        {"id": 1, "at": "2024-01-02T00:00:00Z", "deleted": True},
        {"id": 2, "deleted": True},
        {"id": 3, "at": "rubbish", "deleted": True},
        {"id": 4, "at": "2024-01-02T00:00:00Z", "deleted": False},
    ]
    answer = split(rows, fields=fields, deletes={"when": "deleted"}, **AT)
    assert [(row.external_id, row.deleted, row.version) for row in answer.good] == [
        ("1", True, "2024-01-02T00:00:00.000000Z"),
        ("2", True, READ),
    ]
    assert [row.external_id for row in answer.rejected] == ["3", "4"]


def mark(*values: Any, **keys: Any) -> Any:
    return split([{"id": i, "at": value} for i, value in enumerate(values)], **(AT | keys)).watermark


UNIX = {"cursor": {"field": "at", "send": "since", "format": "unix"}}


@pytest.mark.parametrize(
    ("values", "highest"),
    [
        ([], None),
        ([None, "", None], None),
        (["2024-01-02T00:00:00Z", "2024-01-02T00:00:00+02:00"], datetime(2024, 1, 2, tzinfo=UTC)),
        (["2024-06-01T12:00:59Z", "2024-06-01T12:01:01Z"], datetime(2024, 6, 1, 12, 0, 59, tzinfo=UTC)),
        (["9999-12-31T23:59:59Z"], None),
        (["2024-05-31", "2024-06-01", "2024-06-02"], date(2024, 6, 1)),
        ([3, 20, None], 20),
        (["3", 20], 20),
        ([3, Decimal("3.5")], Decimal("3.5")),
        (["b", "a"], "b"),
        (["2024-05-01T00:00:00", "2024-06-02T01:00:00", "2099-01-01T00:00:00"], "2024-06-02T01:00:00"),
        (["2024-01-02T00:00:00Z", "2024-01-03"], date(2024, 1, 3)),
        (["2024-01-02T00:00:00Z", [], "2024-13-01T00:00:00Z", -5], datetime(2024, 1, 2, tzinfo=UTC)),
    ],
)
def test_the_watermark_is_the_highest_value_that_is_not_in_the_future(values: list[Any], highest: Any) -> None:
    found = mark(*values)
    assert found == highest
    assert type(found) is type(highest)


def test_unix_times_are_times() -> None:
    assert mark(1700000000, 1700000001, **UNIX) == datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)
    assert mark(1700000000, 4000000000, **UNIX) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_all_keyed_rows_move_the_watermark() -> None:
    """Also rejected and skipped ones: else a list that ends in bad rows would be read again for ever."""
    rows = [
        {"id": 1, "at": 1, "n": 1},
        {"id": 2, "at": 2, "n": "bad"},
        {"id": 3, "at": 3, "draft": True},
        {"at": 4, "n": 1},
        "no object",
    ]
    assert split(rows, fields={"n": {"type": "integer"}}, skip="draft", **AT).watermark == 3
