"""What the contract says of new fields, bad values and pages that are mostly bad."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest

from integrations_pipeline.boundary import Boundary
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline_tests.boundary.made import READ_AT, split, stream

FIELDS = {"id": {"type": "integer"}, "n": {"type": "integer", "min": 0}, "deep.er": {"type": "string"}}


def contract(**keys: Any) -> dict[str, Any]:
    return {"fields": FIELDS, "contract": keys}


def payloads(answer: Any) -> list[Any]:
    return [json.loads(row.payload) for row in answer.good]


NEW = [{"id": 1, "n": 1}, {"id": 2, "extra": "e", "deep": {"er": "x", "new": 2}}]


def test_new_fields_are_kept_and_told_once() -> None:
    answer = split([*NEW, {"id": 3, "extra": "f"}], **contract())
    assert payloads(answer)[1] == NEW[1]
    assert {(one.kind, one.field, one.sample) for one in answer.findings} == {
        ("new_field", "extra", "e"),
        ("new_field", "deep.new", "2"),
    }


def test_new_fields_stop_the_stream() -> None:
    with pytest.raises(ContractError, match=r"new field .*new_field: freeze"):
        split(NEW, **contract(new_field="freeze"))


def test_new_fields_cost_their_row() -> None:
    answer = split(NEW, **contract(new_field="quarantine"))
    assert [row.external_id for row in answer.good] == ["1"]
    assert [(one["rule"], one["field"]) for one in answer.rejected[0].reasons] == [
        ("new_field", "extra"),
        ("new_field", "deep.new"),
    ]


def test_new_fields_are_left_out() -> None:
    before = copy.deepcopy(NEW)
    answer = split(NEW, **contract(new_field="discard_value"))
    assert payloads(answer) == [{"id": 1, "n": 1}, {"id": 2, "deep": {"er": "x"}}]
    assert before == NEW, "the source's rows are never changed"


def test_what_the_stream_names_itself_is_not_new() -> None:
    answer = split(
        [{"id": 1, "n": 1, "at": 5, "gone": False, "parent": "p", "first": "a", "currency": "EUR", "amount": 3}],
        records={"path": ".", "include": {"parent": "body id"}},
        cursor={"field": "at", "send": "since"},
        deletes={"when": "gone"},
        map={
            "to": "payment",
            "fields": {"name": "first", "amount": {"from": "amount", "apply": [{"minor_units": "currency"}]}},
        },
        **contract(new_field="freeze"),
    )
    assert len(answer.good) == 1


def test_without_declared_fields_nothing_is_new() -> None:
    assert len(split(NEW, contract={"new_field": "freeze"}).good) == 2


def test_an_object_whose_keys_are_data_makes_a_bounded_number_of_findings() -> None:
    rows = [{"id": i} | {f"k{i}_{j}": j for j in range(50)} for i in range(200)]
    assert len(split(rows, **contract()).findings) == 100


BAD = [{"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": 3, "n": -1}, {"id": "x", "n": 1}, {"id": 5, "deep": {"er": 5}}]


def test_bad_values_stop_the_stream() -> None:
    with pytest.raises(ContractError, match="bad_value: freeze"):
        split(BAD, **contract(bad_value="freeze"))


def test_bad_values_become_null() -> None:
    before = copy.deepcopy(BAD)
    answer = split(BAD, **contract(bad_value="discard_value"))
    assert payloads(answer) == [
        {"id": 1, "n": 1},
        {"id": 2, "n": None},
        {"id": 3, "n": None},
        {"id": 5, "deep": {"er": None}},
    ]
    assert [row.external_id for row in answer.rejected] == ["x"], "a key can't be left out"
    assert {(one.kind, one.field, one.rows) for one in answer.findings} == {
        ("discarded_value", "n", 2),
        ("discarded_value", "deep.er", 1),
    }
    assert before == BAD, "the source's rows are never changed"


def test_a_required_value_can_not_be_discarded() -> None:
    fields = {"n": {"type": "integer", "required": True}}
    answer = split([{"id": 1, "n": "x"}], fields=fields, contract={"bad_value": "discard_value"})
    assert [row.reasons[0]["rule"] for row in answer.rejected] == ["type"]


def test_a_bad_value_inside_a_bad_value() -> None:
    fields = {"a": {"type": "string"}, "a.b": {"type": "integer"}}
    answer = split([{"id": 1, "a": {"b": "x"}}], fields=fields, contract={"bad_value": "discard_value"})
    assert payloads(answer) == [{"id": 1, "a": None}]


def rows(good: int, bad: int) -> list[dict[str, Any]]:
    return [{"id": i, "n": 1 if i < good else "x"} for i in range(good + bad)]


def test_a_mostly_bad_page_stops_the_stream_and_says_why() -> None:
    with pytest.raises(ContractError) as caught:
        split(rows(9, 11), **contract())
    message = str(caught.value)
    assert "11 of 20" in message
    assert "n (type, 11 rows): text ('x'), not an integer" in message
    assert "[acme/records]" in message


@pytest.mark.parametrize(("good", "bad", "above"), [(10, 10, "50%"), (0, 19, "50%"), (0, 30, "100%"), (90, 10, "10%")])
def test_few_bad_rows_cost_themselves(good: int, bad: int, above: str) -> None:
    answer = split(rows(good, bad), **contract(stop_above=above))
    assert (len(answer.good), len(answer.rejected)) == (good, bad)


def test_mostly_bad_rows_stop_whenever_their_pages_were_read() -> None:
    moments = [READ_AT + timedelta(seconds=number) for number in range(40)]
    with pytest.raises(ContractError):
        Boundary("acme", "records", stream(**contract())).split(rows(0, 40), moments[-1], moments)


def test_skipped_rows_prove_nothing() -> None:
    drafts = [{"id": 100 + i, "draft": True} for i in range(100)]
    with pytest.raises(ContractError, match="15 of 20"):
        split(rows(5, 15) + drafts, skip="draft", **contract())
