"""Paths, conditions and placeholders are total: no document makes them raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations_pipeline.spec.conditions import parse_answer_condition, parse_condition
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.paths import MISSING, getter, parse_path
from integrations_pipeline.spec.placeholders import names_in, render, render_path

KEYS = st.sampled_from(["a", "b", "0", "-1", "1", "²"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=15,
)
PATHS = st.lists(KEYS, min_size=1, max_size=4).map(lambda parts: parse_path(list(parts)))
TESTS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.lists(st.integers() | st.text(max_size=3), max_size=3)
    | st.booleans().map(lambda value: {"present": value})
    | st.text(max_size=3).map(lambda value: {"contains": value})
    | st.integers().map(lambda value: {"not": value})
)


@given(DOCUMENTS, PATHS)
def test_a_path_finds_a_value_or_nothing(document: Any, path: Any) -> None:
    found = path.get(document)
    assert found is getter(path)(document) or found == getter(path)(document)


@given(DOCUMENTS, st.dictionaries(KEYS, TESTS, min_size=1, max_size=3))
def test_a_condition_holds_or_not(document: Any, tests: dict[str, Any]) -> None:
    assert parse_condition(tests).holds(document) in (True, False)


def test_conditions() -> None:
    row = {"state": "open", "n": 1, "error": {"message": "secondary rate limit"}, "tags": ["a"], "gone": None}
    for text in (
        {"state": ["open", "closed"]},
        {"error.message": {"contains": "rate limit"}},
        {"tags": {"contains": "a"}},
        {"gone": {"present": False}},
        {"missing": {"present": False}},
        {"state": {"not": "closed"}, "n": 1},
    ):
        assert parse_condition(text).holds(row), text
    for wrong in ({"n": True}, {"missing": {"present": True}}, {"state": "closed"}, "state", "missing"):
        assert not parse_condition(wrong).holds(row), wrong
    assert parse_condition("archived").holds({"archived": True})


def test_conditions_on_answers_test_headers_too() -> None:
    document, headers = {"code": 7}, {"X-Left": "0", "X-Reason": "rate limit", "X-Busy": "true"}
    for good in (
        {"header X-Left": 0},
        {"header X-Left": [0, 1], "code": 7},
        {"header X-Reason": {"contains": "limit"}},
        {"header X-Busy": True, "header X-None": {"present": False}},
        {"header X-None": {"not": 5}, "code": [7, 8]},
        {"code": 7},
    ):
        assert parse_answer_condition(good).holds(document, headers), good
    for wrong in ({"header X-Left": 1}, {"header X-Left": 0, "code": 8}, {"header X-None": {"present": True}}):
        assert not parse_answer_condition(wrong).holds(document, headers), wrong
    for unreadable in ("header X-Left", {}, {"header X-Left": {"starts": "0"}}):
        with pytest.raises(ValueError):
            parse_answer_condition(unreadable)


def test_paths() -> None:
    document = {"a": {"b": [{"c": None}, 2]}, "x.y": 3}
    assert parse_path("a.b.0.c").get(document) is None
    assert parse_path("a.b.-1").get(document) == 2
    assert parse_path(["x.y"]).get(document) == 3
    assert parse_path("a.b.7").get(document) is MISSING
    assert parse_path(".").get(document) is document
    for wrong in ("", "a..b", " a", None, [], {}):
        with pytest.raises(ValueError, match=r"path|empty part"):
            parse_path(wrong)


def test_placeholders_are_replaced_and_nothing_more() -> None:
    values = {"n": 7, "flag": True, "id": "a/b"}
    assert render({"a": "<n>", "b": "n=<n>, <flag>", "c": ["<<n>"]}, values.__getitem__) == {
        "a": 7,
        "b": "n=7, true",
        "c": ["<n>"],
    }
    assert render_path("/x/<id>/y", values.__getitem__) == "/x/a%2Fb/y"
    assert list(names_in({"<n>": ["<a.b>", "<<c>"]})) == ["n", "a.b"]
    for climbing in ("..", ".", ""):
        with pytest.raises(DataError):
            render_path("/x/<id>", lambda _, value=climbing: value)
