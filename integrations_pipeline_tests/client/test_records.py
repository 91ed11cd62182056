"""Every form of `records`: no item of the source is lost on the way to a row, however odd it is."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline.client.records import extract, items_of
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.streams import Records
from integrations_pipeline_tests.client.conftest import Bench
from integrations_pipeline_tests.client.source import Reply


def records(**parts: Any) -> Records:
    return Records.model_validate(parts)


RATES = {"base": "EUR", "rates": {"2024-01-02": {"USD": 1.0956, "GBP": 0.8665}, "2024-01-03": {"USD": 1.1}}}


def test_an_object_of_objects_becomes_rows_with_its_keys() -> None:
    form = records(path="rates", keyed_by=["date", "currency"], value="rate", include={"base": "body base"})
    assert extract(form, RATES) == [
        {"date": "2024-01-02", "currency": "USD", "rate": 1.0956, "base": "EUR"},
        {"date": "2024-01-02", "currency": "GBP", "rate": 0.8665, "base": "EUR"},
        {"date": "2024-01-03", "currency": "USD", "rate": 1.1, "base": "EUR"},
    ]


def test_keyed_objects_keep_their_fields() -> None:
    assert extract(records(path=".", keyed_by=["code"]), {"a": {"n": 1}, "b": {"n": 2, "code": "x"}}) == [
        {"n": 1, "code": "a"},
        {"n": 2, "code": "b"},
    ]


def test_an_odd_entry_of_a_keyed_object_is_passed_on_for_quarantine() -> None:
    rows = extract(records(path=".", keyed_by=["day", "code"]), {"d1": {"a": {"n": 1}, "b": 7}, "d2": None})
    assert rows == [{"n": 1, "day": "d1", "code": "a"}, [{"day": "d1", "code": "b"}, 7], [{"day": "d2"}, None]]


def test_unwrap_and_include_from_around_the_record() -> None:
    form = records(path="data", unwrap="data.object", include={"change": "type", "at": "created", "gone": "nope"})
    page = {"data": [{"type": "t1", "created": 5, "data": {"object": {"id": 1, "at": "inner"}}}]}
    assert extract(form, page) == [{"id": 1, "at": 5, "change": "t1"}]


def test_an_item_without_its_inner_record_is_passed_on_for_quarantine() -> None:
    form = records(path=".", unwrap="object")
    assert extract(form, [{"id": 1}, {"object": {"id": 2}}, {"object": None}, "x"]) == [
        [{"id": 1}],
        {"id": 2},
        None,
        ["x"],
    ]


def test_items_that_are_no_objects_are_passed_on() -> None:
    assert extract(records(path="."), [1, None, "x", {"id": 1}]) == [1, None, "x", {"id": 1}]


def test_rows_inside_a_stored_parent() -> None:
    parent = {"id": 7, "lines": [{"n": 1}, {"n": 2}]}
    form = records(path="lines", include={"order": "parent id", "again": "body id"})
    assert extract(form, parent, parent=parent) == [{"n": 1, "order": 7, "again": 7}, {"n": 2, "order": 7, "again": 7}]
    assert parent == {"id": 7, "lines": [{"n": 1}, {"n": 2}]}


@pytest.mark.parametrize("document", [{}, {"items": None}, None])
def test_what_is_absent_is_empty_only_where_it_may_be(document: Any) -> None:
    assert extract(records(path="items", optional=True), document) == []
    with pytest.raises(ContractError, match="where the records should be"):
        extract(records(path="items"), document)


@pytest.mark.parametrize("found", [{"id": 1}, "text", 7, True])
def test_a_list_is_a_list_even_where_optional(found: Any) -> None:
    with pytest.raises(ContractError, match="not a list"):
        extract(records(path="items", optional=True), {"items": found})


@pytest.mark.parametrize("found", [[{"id": 1}], "text"])
def test_one_record_is_one_object(found: Any) -> None:
    with pytest.raises(ContractError, match="not one object"):
        items_of(records(path="item"), {"item": found}, single=True)


def test_a_stream_of_exactly_one_record(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({"account": {"id": 1}}, headers={"X-Region": "eu"}))
    record = {"path": "account", "include": {"region": "header X-Region"}}
    client = bench.client(source.url, {"things": {"request": "GET /account", "record": record, "primary_key": "id"}})
    assert [page.rows for page in client.pages("things")] == [[{"id": 1, "region": "eu"}]]
