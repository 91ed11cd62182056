"""Each declared type and rule, one value at a time and in company."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from integrations_pipeline.boundary import Boundary
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline_tests.boundary.made import judged, split, stream

ACCEPTED: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "string"}, ["", "a", "ü" * 5000, None]),
    ({"type": "string", "max_length": 3}, ["", "abc", "äöü", None]),
    ({"type": "string", "values": ["open", "closed"]}, ["open", None]),
    ({"type": "string", "format": "email"}, ["a@b.de", "a.b+c@sub.example.org", "o'neil@bücher.example", None]),
    ({"type": "string", "format": "url"}, ["https://a.example", "HTTP://a.example:80/p?q=1#f", None]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000", None]),
    ({"type": "string", "format": "currency"}, ["EUR", "usd", None]),
    ({"type": "string", "format": "country"}, ["DE", "gb", None]),
    ({"type": "integer"}, [0, -1, 2**70, "17", Decimal("3"), None]),
    ({"type": "integer", "min": 0, "max": 10}, [0, 10, "5", None]),
    ({"type": "integer", "values": [0, 1]}, [0, 1, None]),
    ({"type": "decimal"}, [1, 1.5, "2.50", Decimal("0.1"), None, ""]),
    ({"type": "decimal", "min": 0, "max": "0.3"}, [0, 0.3, "0.30", Decimal("0.3"), None]),
    ({"type": "boolean"}, [True, False, None]),
    ({"type": "boolean", "values": [True]}, [True, None]),
    ({"type": "timestamp"}, ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123+02:00", None, ""]),
    ({"type": "timestamp", "zone": "Europe/Berlin"}, ["2024-01-02T03:04:05"]),
    ({"type": "timestamp", "formats": ["unix", "iso"]}, [1700000000, "2024-01-02T03:04:05Z"]),
    ({"type": "timestamp", "min": "2024-01-01T00:00:00Z"}, ["2024-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]),
    ({"type": "date", "max": "2024-12-31"}, ["2024-12-31", None]),
    ({"type": "json"}, [[1, [2]], {"a": None}, 1.5, "", None]),
    ({"type": "json", "required": True}, [[], {}, 0, False]),
    ({"type": "string", "required": True}, ["", "a"]),
]

REFUSED: list[tuple[dict[str, Any], list[Any], str]] = [
    ({"type": "string"}, [1, True, 1.5, ["a"], {"a": 1}], "type"),
    ({"type": "string", "max_length": 3}, ["abcd"], "max_length"),
    ({"type": "string", "values": ["open", "closed"]}, ["Open", ""], "values"),
    (
        {"type": "string", "format": "email"},
        ["", "a", "a@b", "a b@c.de", "a@b.de,c@d.de", "<a@b.de>", "a@-b.de", "a@b..de", "a" * 250 + "@b.de"],
        "format",
    ),
    ({"type": "string", "format": "url"}, ["", "a.example", "ftp://a.example", "https://", "https://a b"], "format"),
    ({"type": "string", "format": "uuid"}, ["", "123e4567", "123e4567e89b12d3a456426614174000"], "format"),
    ({"type": "string", "format": "currency"}, ["", "€", "EURO", "ABC"], "format"),
    ({"type": "string", "format": "country"}, ["", "Germany", "D", "QQ"], "format"),
    ({"type": "integer"}, [12.7, True, "12.7", "a", [1], "1e3"], "type"),
    ({"type": "integer", "min": 0}, [-1, "-1"], "min"),
    ({"type": "integer", "max": 2**60}, [2**60 + 1], "max"),
    ({"type": "integer", "values": [0, 1]}, [2], "values"),
    ({"type": "decimal"}, [True, "1,5", "abc", {}, "NaN"], "type"),
    ({"type": "decimal", "min": "0.1"}, [Decimal("0.0999999999999999999999"), 0], "min"),
    ({"type": "decimal", "max": "0.3"}, ["0.3000000000000000000001"], "max"),
    ({"type": "boolean"}, ["true", "false", 0, 1], "type"),
    ({"type": "boolean", "values": [True]}, [False], "values"),
    ({"type": "timestamp"}, ["0000-00-00", "2024-01-02T03:04:05", "99999-01-01T00:00:00Z", 17, "soon"], "type"),
    ({"type": "timestamp", "min": "2024-01-01T00:00:00Z"}, ["2023-12-31T23:59:59.999999Z"], "min"),
    ({"type": "date"}, ["0000-00-00", "2024-02-30", "01/02/2024", 5], "type"),
    ({"type": "date", "max": "2024-12-31"}, ["2025-01-01"], "max"),
    ({"type": "string", "required": True}, [None], "required"),
    ({"type": "json", "required": True}, [None], "required"),
    ({"type": "timestamp", "required": True}, [None, ""], "required"),
    ({"type": "string", "required": True, "format": "email"}, [None], "required"),
]


@pytest.mark.parametrize(("field", "values"), ACCEPTED, ids=[str(field) for field, _ in ACCEPTED])
def test_accepted(field: dict[str, Any], values: list[Any]) -> None:
    assert [judged(value, **field) for value in values] == [[]] * len(values)


@pytest.mark.parametrize(("field", "values", "rule"), REFUSED, ids=[str(field) for field, _, _ in REFUSED])
def test_refused_with_its_rule(field: dict[str, Any], values: list[Any], rule: str) -> None:
    for value in values:
        found = judged(value, **field)
        assert [name for name, _ in found] == [rule], value
        assert found[0][1], "a reason says something"


def test_a_bad_value_hides_no_other() -> None:
    """The whole batch at once: types, several rules and both at once, every bad row found and no good one."""
    rows: list[dict[str, Any]] = [{"id": str(i), "amount": f"{i}.00", "email": f"u{i}@a.example"} for i in range(100)]
    rows[3]["amount"] = "abc"
    rows[4]["amount"] = "-1"
    rows[5]["email"] = "nobody"
    rows[6] |= {"email": "nobody", "amount": -5}
    rows[7] |= {"email": 7, "amount": "x"}
    del rows[8]["email"]
    fields = {"amount": {"type": "decimal", "min": 0}, "email": {"format": "email", "required": True}}
    answer = split(rows, fields=fields)
    found = {row.external_id: {(one["field"], one["rule"]) for one in row.reasons} for row in answer.rejected}
    assert found == {
        "3": {("amount", "type")},
        "4": {("amount", "min")},
        "5": {("email", "format")},
        "6": {("email", "format"), ("amount", "min")},
        "7": {("email", "type"), ("amount", "type")},
        "8": {("email", "required")},
    }
    assert [row.external_id for row in answer.good] == [str(i) for i in range(100) if i not in (3, 4, 5, 6, 7, 8)]


def test_the_reason_names_field_rule_and_a_sample() -> None:
    (row,) = split([{"id": 1, "deep": {"er": "x" * 500}}], fields={"deep.er": {"max_length": 10}}).rejected
    assert row.external_id == "1"
    assert row.reasons == [
        {"rule": "max_length", "field": "deep.er", "message": "longer than 10 characters", "sample": "x" * 200}
    ]


def test_paths_go_into_objects_and_lists() -> None:
    fields = {"a.b": {"type": "integer", "required": True}, "items.0.sku": {"type": "string", "required": True}}
    good = {"id": 1, "a": {"b": 1}, "items": [{"sku": "s"}]}
    rows = [good, {"id": 2, "a": [], "items": [{"sku": "s"}]}, {"id": 3, "a": {"b": 2}, "items": []}]
    answer = split(rows, fields=fields)
    assert [row.external_id for row in answer.good] == ["1"]
    assert [row.reasons[0]["field"] for row in answer.rejected] == ["a.b", "items.0.sku"]


def test_a_limit_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"fields\.x\.min"):
        Boundary("acme", "records", stream(fields={"x": {"type": "integer", "min": "a lot"}}))


def test_many_threads_may_be_the_first_to_check() -> None:
    """pandera imports its parts when they are first needed; two threads that do so at once could lock each other."""
    code = """
import threading
from integrations_pipeline_tests.boundary.made import split
failed, ready = [], threading.Barrier(6)
threading.excepthook = failed.append
def check():
    ready.wait()
    split([{"id": 1, "n": 5}], fields={"n": {"type": "integer", "min": 1}})
threads = [threading.Thread(target=check) for _ in range(6)]
[one.start() for one in threads]
[one.join() for one in threads]
assert not failed, failed
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pandera_is_imported_only_for_rules() -> None:
    """A second and 100 MiB that a stream without rules doesn't pay."""
    code = """
import sys
from integrations_pipeline_tests.boundary.made import split
split([{"id": 1, "n": 5}], fields={"n": {"type": "integer"}})
assert "pandera" not in sys.modules and "pandas" not in sys.modules
split([{"id": 1, "n": 5}], fields={"n": {"type": "integer", "min": 1}})
assert "pandera" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
