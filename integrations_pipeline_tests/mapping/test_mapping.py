"""A whole `map`: sources, steps, the kind's types and rules, references, keys, its story and its digest."""

from __future__ import annotations

import time
import timeit
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations_pipeline.mapping import Mapping
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import NonFinite
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.mapping import PLAIN_TRANSFORMS
from integrations_pipeline.spec.streams import Stream

KIND = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "d": {"type": "decimal"},
    "b": {"type": "boolean"},
    "t": {"type": "timestamp"},
    "day": {"type": "date"},
    "j": {"type": "json"},
    "ref": {"type": "string", "format": "uuid"},
}


def mapping(fields: Any, *, declared: Any = None, kind: Any = None, match: Any = None) -> Mapping:
    """A mapping of these fields, given as YAML or as data."""
    fields = yaml.safe_load(fields) if isinstance(fields, str) else fields
    block = {"to": "thing", "fields": fields, **({"match": match} if match else {})}
    stream = {"request": "GET /x", "records": ".", "primary_key": "id", "fields": declared or {}, "map": block}
    return Mapping(Stream.model_validate(stream), Kind.model_validate({"kind": "thing", "fields": kind or KIND}))


def value_of(field: Any, record: Any, *, name: str = "s", **options: Any) -> Any:
    """The value of one field, or the problem's rule in a tuple."""
    mapped = mapping({name: field}, **options).apply(record)
    return (mapped.problems[0]["rule"],) if mapped.problems else mapped.values[name]


@pytest.mark.parametrize(
    ("field", "record", "expected"),
    [
        ("a.b", {"a": {"b": "x"}}, "x"),
        ("a.b", {"a": None}, None),
        ("a.0", {"a": ["x"]}, "x"),
        (["a.b"], {"a.b": "x"}, "x"),
        ({"first": ["a", "b", "c"]}, {"a": None, "b": " ", "c": "x"}, "x"),
        ({"first": ["a", "b"]}, {}, None),
        ({"join": ["a", "b", "c"]}, {"a": "Ada", "b": "", "c": 7}, "Ada 7"),
        ({"join": ["a", "b"], "with": ", "}, {"a": "x", "b": "y"}, "x, y"),
        ({"join": ["a", "b"]}, {"a": None}, None),
        ({"join": ["a", "b"]}, {"a": "x", "b": True}, ("join",)),
        ({"value": "fixed"}, {}, "fixed"),
        ({"from": "a", "values": {"x": "ours", 1: "one"}}, {"a": 1}, "one"),
        ({"from": "a", "values": {"x": "ours", 1: "one"}}, {"a": True}, ("values",)),
        ({"from": "a", "values": {"x": "ours"}, "else": "other"}, {"a": ["x"]}, "other"),
        ({"from": "a", "values": {"x": "ours"}, "else": None}, {"a": "y"}, None),
        ({"from": "a", "values": {"x": "ours"}, "else": "other"}, {"a": None}, None),
        ({"from": "a", "apply": ["lower"], "values": {"x": "ours"}}, {"a": "X"}, "ours"),
        ({"from": "a", "apply": ["trim", {"null_if": ""}, {"default": "none"}]}, {"a": "  "}, "none"),
        ({"from": "a", "apply": ["trim"], "required": True}, {"a": " "}, ("required",)),
        ({"from": "a", "required": True}, {}, ("required",)),
        ({"from": "a", "apply": ["email"], "required": True}, {"a": "x"}, ("email",)),
        (
            {"from": "a", "where": {"type": "work"}, "take": "n"},
            {"a": [{"type": "home"}, {"type": "work", "n": "5"}]},
            "5",
        ),
        ({"from": "a", "where": {"type": "work"}, "take": "n"}, {"a": [{"type": "home"}, 7, None]}, None),
        ({"from": "a", "where": {"type": "work"}, "take": "n"}, {"a": "text"}, ("where",)),
    ],
)
def test_sources_and_steps(field: Any, record: Any, expected: Any) -> None:
    assert value_of(field, record) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("s", 9007199254740993, "9007199254740993"),
        ("s", "", ""),
        ("s", 1.5, ("type",)),
        ("s", True, ("type",)),
        ("s", {}, ("type",)),
        ("i", "12", 12),
        ("i", Decimal("12"), 12),
        ("i", 12.7, ("type",)),
        ("i", True, ("type",)),
        ("i", 2**63, ("type",)),
        ("i", "", None),
        ("d", 0.1, Decimal("0.1")),
        ("d", 2**70, Decimal(2**70)),
        ("d", "1.10", Decimal("1.10")),
        ("d", False, ("type",)),
        ("d", NonFinite("NaN"), ("type",)),
        ("b", False, False),
        ("b", 0, ("type",)),
        ("b", "true", ("type",)),
        ("t", "2024-02-29T12:00:00Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("t", "2024-02-29T12:00:00", ("type",)),
        ("t", 1709208000, ("type",)),
        ("day", "2024-02-29", date(2024, 2, 29)),
        ("day", "2024-02-29T12:00:00Z", ("type",)),
        ("j", {"a": [1, None]}, {"a": [1, None]}),
    ],
)
def test_the_kinds_type_is_met_exactly_or_refused(name: str, value: Any, expected: Any) -> None:
    found = value_of("a", {"a": value}, name=name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "field", "declared", "value", "expected"),
    [
        ("t", "a", {"type": "timestamp", "formats": ["unix"]}, 1709208000, datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (
            "t",
            "a",
            {"type": "timestamp", "zone": "Europe/Berlin"},
            "2024-02-29T13:00:00",
            datetime(2024, 2, 29, 12, tzinfo=UTC),
        ),
        ("day", "a", {"type": "date", "formats": ["iso", "%m/%d/%Y"]}, "01/16/2024", date(2024, 1, 16)),
        (
            "day",
            {"from": "a", "apply": ["date"]},
            {"type": "timestamp", "formats": ["unix_ms"]},
            1709208000000,
            date(2024, 2, 29),
        ),
        (
            "t",
            {"first": ["b", "a"]},
            {"type": "timestamp", "formats": ["unix"]},
            1709208000,
            datetime(2024, 2, 29, 12, tzinfo=UTC),
        ),
        (
            "day",
            {"from": "a", "apply": [{"split": ["T", 0]}]},
            {"type": "timestamp"},
            "2024-02-29T12:00:00Z",
            date(2024, 2, 29),
        ),
        ("s", "a", {"type": "timestamp"}, "2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
        ("t", "a", {"type": "timestamp", "formats": ["unix"]}, "soon", ("from",)),
    ],
)
def test_times_are_read_as_the_boundary_declares_them(
    name: str, field: Any, declared: Any, value: Any, expected: Any
) -> None:
    assert value_of(field, {"a": value}, name=name, declared={"a": declared}) == expected


@pytest.mark.parametrize(
    ("rule", "kind", "good", "bad"),
    [
        ("values", {"type": "string", "values": ["a", "b"]}, "a", "c"),
        ("min", {"type": "decimal", "min": 0}, 0.5, -0.5),
        ("max", {"type": "date", "max": "2024-12-31"}, "2024-12-31", "2025-01-01"),
        ("max_length", {"type": "string", "max_length": 2}, "ab", "abc"),
        ("format", {"type": "string", "format": "email"}, "a@b.cd", "a"),
        ("format", {"type": "string", "format": "currency"}, "EUR", "eur"),
        ("format", {"type": "string", "format": "country"}, "DE", "Germany"),
        ("format", {"type": "string", "format": "url"}, "https://a.example/x", "a.example"),
        ("format", {"type": "string", "format": "uuid"}, "12345678-1234-1234-1234-123456789abc", "1234"),
        ("required", {"type": "string", "required": True}, "a", None),
    ],
)
def test_the_kinds_rules_hold(rule: str, kind: Any, good: Any, bad: Any) -> None:
    one = mapping({"x": "a"}, kind={"x": kind})
    assert not one.apply({"a": good}).problems
    assert one.apply({"a": bad}).problems[0]["rule"] == rule


@pytest.mark.parametrize(
    ("value", "expected"),
    [("cus_1", "cus_1"), (12, "12"), (["EUR", 7], '["EUR",7]'), (None, None), (" ", None), ([], None)],
)
def test_a_reference_is_the_other_streams_external_id(value: Any, expected: str | None) -> None:
    one = mapping({"ref": {"from": "c", "lookup": "customers"}})
    mapped = one.apply({"c": value})
    assert one.references == {"ref": "customers"}
    assert mapped.values == {"ref": None}
    assert mapped.references == ({} if expected is None else {"ref": expected})
    assert not mapped.problems


def test_a_required_reference_needs_its_id_not_its_record() -> None:
    one = mapping({"ref": {"from": "c", "lookup": "customers", "required": True}})
    assert not one.apply({"c": "cus_1"}).problems
    assert one.apply({"c": None}).problems[0]["rule"] == "required"
    assert one.apply({"c": 1.5}).problems[0]["rule"] == "lookup"


def test_a_problem_says_what_where_and_why_and_the_others_go_on() -> None:
    mapped = mapping({"s": {"from": "mail", "apply": ["email"]}, "i": "n"}).apply({"mail": "nobody", "n": 3})
    assert mapped.values == {"s": None, "i": 3}
    assert mapped.problems == [{"rule": "email", "field": "s", "message": "not an e-mail address", "sample": "nobody"}]


def test_match_keys_leave_out_what_proves_nothing() -> None:
    one = mapping({"s": "a", "i": "b", "d": "c"}, match=["s", ["i", "d"]])
    assert one.match_keys({"s": "x", "i": 1, "d": 2}) == [{"s": "x"}, {"i": 1, "d": 2}]
    assert one.match_keys({"s": "", "i": 0, "d": 2}) == [{"i": 0, "d": 2}]
    assert one.match_keys({"s": None, "i": 1, "d": None}) == []


def test_a_field_the_kind_lacks_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no such field"):
        mapping({"nope": "a"})


def test_the_story_shows_each_step() -> None:
    (story,) = mapping({"s": {"from": "a", "apply": ["trim", "lower"], "values": {"x": "ours"}}}).explain({"a": " X"})
    assert story.sources == [("a", " X")]
    assert [tuple(step) for step in story.steps] == [
        ("trim", " X", "X"),
        ("lower", "X", "x"),
        ("values", "x", "ours"),
        ("type", "ours", "ours"),
    ]
    assert (story.value, story.problem) == ("ours", None)


def test_the_story_of_a_reference_ends_with_the_others_id() -> None:
    (story,) = mapping({"ref": {"from": "c", "lookup": "customers"}}).explain({"c": 7})
    assert (story.value, story.reference) == (None, "7")


def test_a_time_past_the_calendar_is_a_problem() -> None:
    one = mapping({"day": {"from": "a", "apply": [{"date": "Europe/Berlin"}]}})
    mapped = one.apply({"a": "9999-12-31T23:59:00Z"})
    assert [(p["rule"], p["sample"]) for p in mapped.problems] == [("date", "9999-12-31T23:59:00Z")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.just(NonFinite("NaN"))
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(
        ["2024-02-29", "2024-02-29T12:00:00Z", "1.234,5", "9" * 5000, "0000-00-00", "<p>&#x110000;", "\ud800"]
    )
    | st.sampled_from([10**400, -(10**4100), 1e308, Decimal("1e900")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries({"a": JSON}, optional={"b": JSON, "c": JSON}) | JSON
STEPS = st.lists(
    st.sampled_from(
        [
            *PLAIN_TRANSFORMS,
            {"minor_units": "b"},
            {"minor_units": 3},
            {"truncate": 2},
            {"split": ["/", -1]},
            {"between": ["a", "b"]},
            {"default": "x"},
            {"null_if": ["", 0]},
            {"date": ["unix", "Europe/Berlin"]},
            {"timestamp": "unix_ms"},
            {"timestamp": ["%Y", "Asia/Tokyo"]},
        ]
    ),
    max_size=3,
)
SOURCES = st.sampled_from(
    [
        {"from": "a"},
        {"from": "a.0.b"},
        {"from": "."},
        {"first": ["a", "b"]},
        {"join": ["a", "b", "c"]},
        {"from": "a", "where": {"b": {"present": True}}, "take": "c"},
        {"from": "a", "values": {"x": "y", 1: 2}},
        {"from": "a", "lookup": "others"},
        {"from": "b", "values": {True: 1}, "else": 0, "required": True},
    ]
)


@settings(max_examples=300, deadline=None)
@given(record=RECORDS, source=SOURCES, steps=STEPS, target=st.sampled_from(list(KIND)), declared=st.booleans())
def test_any_record_is_mapped_and_its_story_is_the_same(
    record: Any, source: Any, steps: Any, target: str, declared: bool
) -> None:
    fields = {"a": {"type": "timestamp", "formats": ["unix", "iso"]}} if declared else {}
    one = mapping({target: {**source, "apply": steps}}, declared=fields)
    mapped, (story,) = one.apply(record), one.explain(record)
    assert set(mapped.values) == {target}
    assert repr(story.value) == repr(mapped.values[target])
    assert story.reference == mapped.references.get(target)
    assert ([story.problem] if story.problem else []) == mapped.problems
    for problem in mapped.problems:
        assert set(problem) == {"rule", "field", "message", "sample"}
        assert "\0" not in "".join(problem.values()).encode().decode(), "PostgreSQL refuses it"


BASE = {"s": {"from": "a", "apply": ["trim"], "values": {"x": "y"}}, "i": "n"}


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {**BASE, "i": "m"}},
        {"fields": {**BASE, "s": {**BASE["s"], "apply": ["lower"]}}},  # type: ignore[dict-item]
        {"fields": {**BASE, "s": {**BASE["s"], "values": {"x": "z"}}}},  # type: ignore[dict-item]
        {"fields": {**BASE, "s": {**BASE["s"], "else": None}}},  # type: ignore[dict-item]
        {"fields": {**BASE, "s": {**BASE["s"], "required": True}}},  # type: ignore[dict-item]
        {"fields": {**BASE, "s": {"from": "a", "lookup": "x"}}},
        {"fields": {**BASE, "s": {"from": "l", "where": {"k": "v"}, "take": "x"}}},
        {"fields": {**BASE, "s": {"from": "l", "where": {"k": "w"}, "take": "x"}}},
        {"fields": {**BASE, "b": {"value": True}}},
        {"fields": {"s": BASE["s"]}},
        {"declared": {"n": {"type": "integer"}}},
        {"kind": {**KIND, "s": {"type": "string", "required": True}}},
        {"match": ["s"]},
        {"match": [["s", "i"]]},
    ],
)
def test_the_digest_changes_with_the_outcome(change: Any) -> None:
    seen = {mapping(**{"fields": BASE, **one}).digest for one in ({}, change)}
    assert len(seen) == 2


def test_the_digest_tells_one_from_true_and_text() -> None:
    digests = {mapping({"s": {"from": "a", "values": {key: "x"}}}).digest for key in (1, True, "1")}
    assert len(digests) == 3


def test_the_digest_ignores_order_and_descriptions() -> None:
    swapped = dict(reversed(BASE.items()))
    described = {**KIND, "s": {"type": "string", "description": "a text"}}
    assert mapping(BASE).digest == mapping(swapped, kind=described).digest


def test_a_record_of_six_fields_takes_microseconds() -> None:
    """Measured at 4 µs of processor time, which doesn't count what other programs take; the bound is loose."""
    one = mapping(
        {
            "s": {"from": "a", "apply": ["trim", "lower"], "required": True},
            "i": "b",
            "d": "c",
            "b": "e",
            "t": "f",
            "j": {"from": "g", "values": {"x": "y"}, "else": "z"},
        }
    )
    record = {"a": " X@Y.org", "b": 5, "c": 1.5, "e": True, "f": "2024-02-29T12:00:00Z", "g": "x"}
    assert not one.apply(record).problems
    times = timeit.repeat(lambda: one.apply(record), number=1000, repeat=9, timer=time.thread_time)
    assert min(times) * 1000 < 40
