"""A map run backwards: what is written reads as what it was written from, and what can't be is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations_pipeline.mapping import Backwards, Mapping, Payload
from integrations_pipeline.mapping.forms import FORMS
from integrations_pipeline.spec.codes import COUNTRIES, CURRENCIES
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ConfigError, DataError
from integrations_pipeline.spec.mapping import ARGUMENT_TRANSFORMS, NOT_INVERTIBLE, PLAIN_TRANSFORMS
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline_tests.mapping.test_mapping import KIND

NOON = "2024-02-29T12:00:00.000000Z"


def stream(fields: dict[str, Any], declared: Any = None, write: Any = None) -> Stream:
    block = {"fields": list(fields), "create": "POST /x", **(write or {})}
    data = {"request": "GET /x", "records": ".", "primary_key": "id", "fields": declared or {}, "write": block}
    return Stream.model_validate({**data, "map": {"to": "thing", "fields": fields}})


def kind(fields: Any = None) -> Kind:
    return Kind.model_validate({"kind": "thing", "fields": {**KIND, **(fields or {})}})


def back(fields: dict[str, Any], values: dict[str, Any], *, record: Any = None, **options: Any) -> Payload:
    return Backwards(stream(fields, **options), kind()).payload(values, record)


def sent(name: str, spec: Any, value: Any, declared: Any = None) -> Any:
    """What stands at the path `a` for one value."""
    spec = {"from": "a", **spec} if isinstance(spec, dict) else spec
    return back({name: spec}, {name: value}, declared={"a": declared} if declared else None).body["a"]


@pytest.mark.parametrize(
    ("name", "spec", "declared", "value", "expected"),
    [
        ("s", "a", None, "Ada", "Ada"),
        ("s", "a", None, None, None),
        ("s", {"apply": ["trim", "lower"]}, None, "ada", "ada"),
        ("s", "a", {"type": "integer"}, "0012", 12),
        ("i", "a", None, 12, 12),
        ("i", "a", {"type": "string"}, 12, "12"),
        ("i", {"apply": ["digits"]}, {"type": "string"}, 12, "12"),
        ("d", "a", None, "10.5", 10.5),
        ("d", "a", None, "1000", 1000),
        ("d", "a", None, "0.1234567890123456789", Decimal("0.1234567890123456789")),
        ("d", "a", {"type": "decimal"}, "10.5", 10.5),
        ("d", "a", {"type": "string"}, "10.5", "10.5"),
        ("d", {"apply": ["decimal_comma"]}, None, "-1234.5", "-1234,5"),
        ("d", {"apply": ["decimal_comma"]}, {"type": "decimal"}, "1234.5", 1234.5),
        ("d", {"apply": [{"minor_units": 2}]}, None, "10.5", 1050),
        ("d", {"apply": [{"minor_units": 3}]}, {"type": "string"}, "-10.5", "-10500"),
        ("b", "a", None, True, True),
        ("b", {"apply": ["boolean"]}, {"type": "string"}, False, "false"),
        ("b", {"apply": ["boolean"]}, {"type": "integer"}, True, 1),
        ("t", "a", None, NOON, "2024-02-29T12:00:00Z"),
        ("t", "a", {"type": "string"}, NOON, "2024-02-29T12:00:00Z"),
        ("t", "a", None, "2024-02-29T12:00:00.250000Z", "2024-02-29T12:00:00.250Z"),
        ("t", "a", {"type": "timestamp", "formats": ["unix"]}, "2024-02-29T12:00:00.900000Z", 1709208000),
        ("t", "a", {"type": "timestamp", "formats": ["unix_ms", "iso"]}, NOON, 1709208000000),
        ("t", {"apply": [{"timestamp": ["unix_ms"]}]}, {"type": "string"}, NOON, "1709208000000"),
        ("t", {"apply": [{"timestamp": "Europe/Berlin"}]}, None, NOON, "2024-02-29T13:00:00+01:00"),
        ("t", {"apply": [{"timestamp": ["%d.%m.%Y %H:%M", "Europe/Berlin"]}]}, None, NOON, "29.02.2024 13:00"),
        ("t", "a", {"type": "timestamp", "formats": ["%Y%m%d%H%M%S"], "zone": "UTC"}, NOON, "20240229120000"),
        ("t", {"apply": ["trim"]}, {"type": "timestamp", "formats": ["unix"]}, NOON, "2024-02-29T12:00:00Z"),
        ("day", "a", None, "2024-02-29", "2024-02-29"),
        ("day", "a", {"type": "date", "formats": ["%d.%m.%Y"]}, "2024-02-29", "29.02.2024"),
        ("day", {"apply": [{"date": "%d.%m.%Y"}]}, None, "0024-02-29", "29.02.0024"),
        ("day", {"apply": [{"date": "Europe/Berlin"}]}, None, "2024-02-29", "2024-02-29"),
        (
            "day",
            {"apply": [{"date": "Europe/Berlin"}]},
            {"type": "timestamp"},
            "2024-02-29",
            "2024-02-28T23:00:00Z",
        ),
        ("day", {"apply": [{"date": ["unix"]}]}, None, "1970-01-02", 86400),
        ("j", "a", None, {"b": [1]}, {"b": [1]}),
        ("s", {"values": {"lead": "prospect", "customer": "active"}, "else": "unknown"}, None, "active", "customer"),
        ("s", {"values": {1: "gold", "1": "silver"}}, None, "gold", 1),
        ("b", {"values": {"on": True, "off": False}}, None, False, "off"),
        ("d", {"values": {"low": 1.50, "high": 20}}, None, "1.5", "low"),
        ("s", {"values": {"none": None, "a": "x"}}, None, None, "none"),
        ("ref", {"lookup": "others"}, None, "17", "17"),
        ("ref", {"lookup": "others"}, {"type": "integer"}, "17", 17),
        ("ref", {"lookup": "others"}, {"type": "json"}, '["a",1]', ["a", 1]),
    ],
)
def test_what_is_sent(name: str, spec: Any, declared: Any, value: Any, expected: Any) -> None:
    found = sent(name, spec, value, declared)
    assert (found, type(found)) == (expected, type(expected))


def test_it_stands_under_the_sources_own_paths() -> None:
    fields = {"s": "properties.name", "i": "properties.age", "j": ["dotted.key"]}
    assert back(fields, {"s": "Ada", "j": 1}).body == {"properties": {"name": "Ada"}, "dotted.key": 1}
    assert back(fields, {}).body == {}


def test_only_write_fields_leave() -> None:
    made = stream({"s": "a", "i": "b"}, write={"fields": ["s"]})
    ways = Backwards(made, kind())
    assert ways.fields == ("s",)
    assert ways.payload({"s": "x", "i": 1}).body == {"a": "x"}


def test_references_name_their_streams() -> None:
    made = stream({"ref": {"from": "a", "lookup": "others"}, "s": {"from": "b", "lookup": "more"}, "i": "c"})
    assert Backwards(made, kind()).references == {"ref": "others", "s": "more"}


def test_what_only_else_produced_is_left_out() -> None:
    spec = {"from": "a", "values": {"lead": "prospect"}, "else": "unknown"}
    for value, why in (("unknown", "`else`"), ("churned", "no value of theirs is declared for 'churned'")):
        found = back({"s": spec, "i": "b"}, {"s": value, "i": 1})
        assert found.body == {"b": 1}
        assert why in found.left_out["s"]
    assert back({"s": {**spec, "else": None}}, {"s": None}).left_out.keys() == {"s"}


def test_what_is_left_out_of_a_put_stays_as_the_source_has_it() -> None:
    fields = {"s": {"from": "a", "values": {"lead": "prospect"}, "else": "unknown"}, "i": "b"}
    values, record = {"s": "unknown", "i": 2}, {"a": "lost", "b": 1}
    put = {"update": "PUT /x/<external_id>"}
    assert back(fields, values, record=record, write=put).body == {"a": "lost", "b": 2}
    assert back(fields, values, record=record).body == {"b": 2}
    assert back(fields, values, write=put).body == {"b": 2}


def test_a_reference_to_what_has_no_id_there_yet_isnt_sent() -> None:
    with pytest.raises(DataError, match="the record it points to has no id there yet"):
        sent("ref", {"lookup": "others"}, {"canonical_id": "6b0c"})


def test_the_currency_is_the_one_sent_with_it_or_the_records() -> None:
    fields = {"d": {"from": "amount", "apply": [{"minor_units": "currency"}]}, "s": "currency"}
    assert back(fields, {"d": "10.5", "s": "KWD"}, record={"currency": "EUR"}).body["amount"] == 10500
    assert back(fields, {"d": "10.5"}, record={"currency": "eur"}).body == {"amount": 1050}
    only = {"d": fields["d"]}
    assert back(only, {"d": "10.5"}, write={"set": {"currency": "EUR"}}).body == {"amount": 1050}
    with pytest.raises(DataError, match="d can't be written: the record's currency"):
        back(fields, {"d": "10.5"})


@pytest.mark.parametrize(
    ("name", "spec", "declared", "value", "message"),
    [
        ("d", {"apply": [{"minor_units": 2}]}, None, "10.505", "10.505 is finer than the smallest unit"),
        ("d", "a", {"type": "integer"}, "1.5", "not an integer"),
        ("s", "a", {"type": "integer"}, "x", "not an integer"),
        ("j", "a", {"type": "string"}, {"b": 1}, "an object, and the source takes text"),
        ("day", {"apply": [{"date": "%d.%m.%y"}]}, None, "1890-01-02", "1890-01-02 doesn't fit the form %d.%m.%y"),
    ],
)
def test_a_value_that_the_source_has_no_form_for(name: str, spec: Any, declared: Any, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"{name} can't be written: .*{message}"):
        sent(name, spec, value, declared)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"s": {"join": ["a", "b"]}}, {}, "s uses join"),
        ({"s": {"from": "a", "values": {"x": 1, "y": "1"}}}, {}, "s has several values that become"),
        ({"d": {"from": "a", "values": {"x": "1.0", "y": 1}}}, {}, "d has several values that become '1'"),
        ({"d": {"from": "a", "values": {"x": "1.0"}, "else": 1}}, {}, "d has an `else` that is also the value '1'"),
        ({"s": "a", "i": "a"}, {}, "i comes from a, which s writes already"),
        ({"t": {"from": "a", "apply": [{"timestamp": ["%H:%M", "UTC"]}]}}, {}, "doesn't name its day"),
        ({"d": {"from": "a", "apply": [{"minor_units": "cur"}]}}, {}, "a new record's cur isn't known"),
    ],
)
def test_what_has_no_way_back_is_refused(fields: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backwards(stream(fields, **options), kind())


# The property: what is written reads as what it was written from.

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
SECONDS = MOMENTS.map(lambda moment: moment.replace(microsecond=0))
MILLIS = MOMENTS.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
DAYS = st.dates(date(1700, 1, 1), date(2200, 1, 1))
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
CENTS = st.integers(-(10**30), 10**30).map(lambda units: Decimal(f"{units}e-2"))
INTEGERS = st.integers(-(2**63), 2**63 - 1)

PLAIN: dict[str, list[tuple[str, Any]]] = {
    "trim": [("s", TEXTS.map(str.strip))],
    "lower": [("s", TEXTS.map(str.lower).filter(lambda text: text.lower() == text))],
    "upper": [("s", TEXTS.map(str.upper).filter(lambda text: text.upper() == text))],
    "collapse": [("s", TEXTS.map(lambda text: " ".join(text.split())))],
    "digits": [("s", st.from_regex(r"[0-9]+", fullmatch=True)), ("i", st.integers(0, 2**63 - 1))],
    "email": [("s", st.from_regex(r"[a-z0-9]{1,9}@[a-z]{1,9}\.(com|org)", fullmatch=True))],
    "phone": [("s", st.from_regex(r"\+[1-9][0-9]{6,13}", fullmatch=True))],
    "country": [("s", st.sampled_from(sorted(COUNTRIES)))],
    "currency": [("s", st.sampled_from(sorted(CURRENCIES)))],
    "boolean": [("b", st.booleans())],
    "integer": [("i", INTEGERS), ("s", INTEGERS.map(str))],
    "decimal": [("d", NUMBERS), ("i", INTEGERS)],
    "decimal_comma": [("d", NUMBERS), ("i", INTEGERS)],
    "date": [("day", DAYS)],
    "timestamp": [("t", MOMENTS)],
    "unescape_html": [("s", TEXTS.filter(lambda text: "&" not in text))],
}
WITH_ARGUMENT: dict[str, list[tuple[Any, str, Any]]] = {
    "minor_units": [(2, "d", CENTS), ("currency", "d", CENTS), (0, "d", st.integers(-(10**40), 10**40).map(Decimal))],
    "default": [("x", "s", TEXTS.filter(str.strip)), (7, "i", INTEGERS)],
    "null_if": [(["n/a"], "s", TEXTS.filter(lambda text: text != "n/a"))],
    "date": [
        ("%d.%m.%Y", "day", DAYS),
        (["unix", "America/Sao_Paulo"], "day", DAYS),
        ("Asia/Tokyo", "day", DAYS),
        (["%Y%m%d", "iso"], "day", DAYS),
    ],
    "timestamp": [
        ("unix", "t", SECONDS),
        ("unix_ms", "t", MILLIS),
        ("Europe/Berlin", "t", MOMENTS),
        (["%Y-%m-%d %H:%M:%S.%f", "Asia/Tokyo"], "t", MOMENTS),
        (["%d/%m/%Y %H:%M:%S %z", "Europe/Berlin"], "t", SECONDS),
    ],
}
CHAINS = [
    *[([name], target, values) for name, ways in PLAIN.items() for target, values in ways],
    *[
        ([{name: argument}], target, values)
        for name, ways in WITH_ARGUMENT.items()
        for argument, target, values in ways
    ],
    (["trim", "decimal_comma", {"minor_units": 0}], "d", st.integers(-(10**20), 10**20).map(Decimal)),
    (["trim", {"date": "%d.%m.%Y"}], "day", DAYS),
]


@pytest.mark.parametrize(
    ("chain", "target", "values"), CHAINS, ids=[f"{chain}-{target}" for chain, target, _ in CHAINS]
)
@pytest.mark.parametrize("declared", [None, "string"])
def test_what_is_written_reads_as_what_it_was(chain: Any, target: str, values: Any, declared: str | None) -> None:
    fields = {target: {"from": "a.b", "apply": chain}}
    made = stream(fields, {"a.b": {"type": declared}} if declared else None, {"set": {"currency": "EUR"}})
    ways, forwards = Backwards(made, kind()), Mapping(made, kind())
    form = FORMS.get(KIND[target]["type"], lambda value: value)

    @given(values)
    @settings(max_examples=25, deadline=None)
    def holds(value: Any) -> None:
        body = ways.payload({target: form(value)}).body
        record = {**decode(encode(body)), "currency": "EUR"}
        mapped = forwards.apply(record)
        assert not mapped.problems
        assert mapped.values[target] == value

    holds()


def test_the_property_is_held_for_each_transform() -> None:
    assert {*PLAIN, *WITH_ARGUMENT, *NOT_INVERTIBLE} >= {*PLAIN_TRANSFORMS, *ARGUMENT_TRANSFORMS}


DECLARED: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "timestamp", "formats": ["unix", "iso"]}, "t", SECONDS),
    ({"type": "timestamp", "formats": ["%Y-%m-%dT%H:%M:%S.%f"], "zone": "America/New_York"}, "t", MOMENTS),
    ({"type": "timestamp"}, "t", MOMENTS),
    ({"type": "date", "formats": ["%d.%m.%Y"]}, "day", DAYS),
    ({"type": "date", "formats": ["unix_ms"]}, "day", DAYS),
    ({"type": "integer"}, "s", INTEGERS.map(str)),
    ({"type": "integer"}, "i", INTEGERS),
    ({"type": "integer"}, "d", INTEGERS.map(Decimal)),
    ({"type": "string"}, "d", NUMBERS),
    ({"type": "decimal"}, "d", NUMBERS),
    ({"type": "json"}, "j", st.recursive(st.none() | st.booleans() | TEXTS, lambda inner: st.lists(inner, max_size=3))),
]


@pytest.mark.parametrize(("declared", "target", "values"), DECLARED)
def test_it_is_written_in_the_form_that_is_declared(declared: Any, target: str, values: Any) -> None:
    made = stream({target: "a"}, {"a": declared})
    ways, forwards = Backwards(made, kind()), Mapping(made, kind())
    form = FORMS.get(KIND[target]["type"], lambda value: value)

    @given(values)
    @settings(max_examples=25, deadline=None)
    def holds(value: Any) -> None:
        record = decode(encode(ways.payload({target: form(value) if value is not None else None}).body))
        mapped = forwards.apply(record)
        assert not mapped.problems
        found = mapped.values[target]
        assert found == value or (declared.get("zone") and abs(found - value) <= timedelta(hours=1))  # a clock set back

    holds()


SCALARS = st.one_of(st.booleans(), st.integers(-99, 99), TEXTS)


@given(st.lists(st.tuples(SCALARS, TEXTS), max_size=6, unique_by=(lambda one: repr(one[0]), lambda one: one[1])))
@settings(max_examples=50, deadline=None)
def test_values_are_one_to_one_both_ways(pairs: list[tuple[Any, str]]) -> None:
    values = {their: our for their, our in pairs if not isinstance(their, bool)}
    made = stream({"s": {"from": "a", "values": values}})
    ways, forwards = Backwards(made, kind()), Mapping(made, kind())
    for their, our in values.items():
        body = ways.payload({"s": our}).body
        assert body == {"a": their}
        assert forwards.apply(body).values["s"] == our
