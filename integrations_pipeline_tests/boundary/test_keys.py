"""External ids: which primary keys are taken, and how they are written."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline.spec.limits import EXTERNAL_ID_BYTES
from integrations_pipeline_tests.boundary.made import split


@pytest.mark.parametrize(
    ("key", "text"),
    [("a", "a"), ("007", "007"), (7, "7"), (2**80, str(2**80)), (" ", " "), ("ü", "ü"), ("x" * 2000, "x" * 2000)],
)
def test_one_field_is_its_own_text(key: Any, text: str) -> None:
    assert [row.external_id for row in split([{"id": key}]).good] == [text]


def test_a_column_of_keys_is_read_as_each_alone() -> None:
    for keys in ([3, -4, 2**70], [1, 10**1999], ["a", "ü"], ["a", 1], ["a", "x" * 700]):
        assert [row.external_id for row in split([{"id": key} for key in keys]).good] == [str(key) for key in keys]


@pytest.mark.parametrize(
    "key",
    [None, "", True, 1.5, [], {}, ["a"], "a\0b", "\ud800", "x" * (EXTERNAL_ID_BYTES + 1), "ü" * 1001, 10**2500],
)
def test_a_key_that_names_nothing_costs_its_row_only(key: Any) -> None:
    rows = [{"id": key}, {"id": "fine"}, {}]
    answer = split(rows)
    assert [row.external_id for row in answer.good] == ["fine"]
    assert [row.external_id for row in answer.rejected] == [None, None]
    assert {row.reasons[0]["rule"] for row in answer.rejected} == {"primary_key"}


def test_several_fields_are_a_compact_array() -> None:
    rows = [{"base": "EUR", "day": "2024-01-02", "n": 1}, {"base": "", "day": 'a"b', "n": 2}, {"base": "EUR", "n": 3}]
    answer = split(rows, primary_key=["base", "day", "n"])
    assert [row.external_id for row in answer.good] == ['["EUR","2024-01-02",1]', '["","a\\"b",2]']
    assert [row.external_id for row in answer.rejected] == [None]


def test_a_nested_key() -> None:
    assert split([{"meta": {"id": 5}}], primary_key="meta.id").good[0].external_id == "5"


@pytest.mark.parametrize("row", [None, 1, "text", [1, 2], True])
def test_what_is_no_object_is_set_aside(row: Any) -> None:
    answer = split([row, {"id": 1}])
    assert len(answer.good) == 1
    assert [one["rule"] for one in answer.rejected[0].reasons] == ["object"]


def test_skipped_rows_bear_their_key_and_reason() -> None:
    rows = [{"id": 1, "pull_request": {}}, {"pull_request": {}}, {"id": 2}]
    answer = split(rows, skip={"pull_request": {"present": True}}, fields={"title": {"required": True}})
    assert [key for key, _ in answer.skipped] == ["1", None]
    assert all("pull_request" in why for _, why in answer.skipped)
    assert [row.external_id for row in answer.rejected] == ["2"]
