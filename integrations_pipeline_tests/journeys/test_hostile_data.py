"""Values as bad as sources make them: a bad row costs one row, a good one keeps its last digit, nothing is guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from integrations_pipeline.spec.faults import BAD_ROWS
from integrations_pipeline_tests.journeys.conftest import House

KIND = """
kind: invoice
fields:
  name: {type: string}
  amount: {type: decimal}
  cents: {type: decimal}
  count: {type: integer}
  paid: {type: boolean}
  due: {type: date}
  seen: {type: timestamp}
"""
BOOKS = """
connection: books
api:
  url: {url}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 50}}
streams:
  invoices:
    request: GET /invoices
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    deletes: {snapshot: 7d}
    fields:
      id: {type: string, required: true}
      name: {type: string}
      amount: {type: decimal}
      cents: {type: integer}
      count: {type: integer}
      paid: {type: boolean}
      due: {type: date, formats: [iso, "%d.%m.%Y"]}
      seen: {type: timestamp}
      updated_at: {type: timestamp, required: true}
    map:
      to: invoice
      fields:
        name: name
        amount: amount
        cents: {from: cents, apply: [{minor_units: 2}]}
        count: count
        paid: paid
        due: due
        seen: seen
"""
RECORDS, BAD = 100, 10

REJECTED = {
    "nul": "NUL", "surrogate": "surrogate", "nan": "NaN", "infinity": "Infinity", "wrong_type": "not",
    "text_boolean": "not true or false", "mixed": "not text", "zero_date": "", "far_year": "", "naive_time": "",
    "null_id": "", "missing_id": "", "long_id": "", "no_object": "no object", "deep": "nested deeper",
}  # fmt: skip
KEPT = ("big_integer", "huge_integer", "duplicate_key", "entities", "empty", "null", "missing")
WITHOUT_KEY = ("null_id", "missing_id", "long_id", "no_object")
FIELDS = {"naive_time": "seen", "far_year": "seen", "zero_date": "due"}
"""Where the first field of a fitting type isn't the one meant."""


def books(house: House, *faults: str, records: int = RECORDS) -> None:
    house.write("models/invoice.yaml", KIND)
    house.connect_to("books", BOOKS, records=records, faults=faults)


def fault_of(kind: str, when: str) -> str:
    return f"bad row {kind} in {FIELDS[kind]} {when}" if kind in FIELDS else f"bad row {kind} {when}"


def rejected(house: House) -> list[tuple[Any, ...]]:
    return house.rows("SELECT external_id, reasons FROM integrations.quarantine WHERE status = 'open'")


def spoilt_keys(house: House) -> set[str]:
    return {row["key"] for row in house.sources["books"].truth("invoices") if row["faults"]}


def test_every_kind_of_bad_row_is_judged_here() -> None:
    assert {*REJECTED, *KEPT, "large"} == set(BAD_ROWS)


@pytest.mark.parametrize("kind", REJECTED)
def test_a_bad_row_costs_one_row(house: House, kind: str) -> None:
    books(house, fault_of(kind, "every 10th"))
    result = house.sync_here("books")["invoices"]
    assert (result.status, result.counters.created, result.counters.quarantined) == ("succeeded", RECORDS - BAD, BAD)
    house.assert_raw_and_quarantine_are_the_truth("books", "invoices")
    found, spoilt = rejected(house), spoilt_keys(house)
    assert len(found) == BAD
    assert all(REJECTED[kind] in reasons[0]["message"] for _, reasons in found), found[0]
    assert not spoilt & set(house.raw("books", "invoices"))
    if kind not in WITHOUT_KEY:
        assert {key for key, _ in found} == spoilt
    again = house.sync_here("books", full=True)["invoices"]
    assert (again.status, again.counters.quarantined, again.counters.tombstoned) == ("succeeded", BAD, 0)
    assert len(rejected(house)) == BAD, "a bad row that comes again is one row"


@pytest.mark.parametrize("kind", ["nul", "nan", "wrong_type", "no_object"])
def test_a_good_version_comes_and_the_row_is_whole(house: House, kind: str) -> None:
    books(house, fault_of(kind, "every 10th"))
    house.sync_here("books")
    house.sources["books"].switch([])
    house.sync_here("books", full=True)
    house.assert_whole("books", "invoices")
    assert rejected(house) == []


@pytest.mark.parametrize("kind", KEPT)
def test_what_only_looks_bad_is_kept_as_it_is(house: House, kind: str) -> None:
    books(house, f"bad row {kind} every 10th")
    result = house.sync_here("books")["invoices"]
    assert (result.status, result.counters.created) == ("succeeded", RECORDS)
    spoilt = [house.raw("books", "invoices")[key] for key in spoilt_keys(house)]
    shown = {
        "duplicate_key": ("name", "the second of two"),
        "entities": ("name", "Fish &amp; Chips &lt;b&gt;"),
        "empty": ("name", ""),
        "null": ("name", None),
        "missing": ("name", "-"),
        "big_integer": ("amount", 2**53 + 1),
        "huge_integer": ("amount", 2**127 + 1),
    }
    field, value = shown[kind]
    assert {repr(row.get(field, "-")) for row in spoilt} == {repr(value)}
    house.assert_raw_and_quarantine_are_the_truth("books", "invoices")


def test_a_field_of_ten_megabytes(house: House) -> None:
    books(house, "bad row large every 100th")
    assert house.sync_here("books")["invoices"].status == "succeeded"
    sizes = [len(row["name"] or "") for row in house.raw("books", "invoices").values()]
    assert max(sizes) == 10_000_000
    assert len(sizes) == RECORDS


def test_all_kinds_at_once(house: House) -> None:
    books(house, "bad row 30%", records=300)
    result = house.sync_here("books")["invoices"]
    assert result.status == "succeeded"
    assert result.counters.quarantined > 20
    house.assert_raw_and_quarantine_are_the_truth("books", "invoices")


@pytest.mark.parametrize("when", ["60%", "after 50"])
def test_a_mostly_bad_page_stops_the_stream_and_nothing_moves(house: House, when: str) -> None:
    books(house, f"bad row nul {when}")
    result = house.sync_here("books")["invoices"]
    assert result.error is not None
    assert (result.status, result.error.error_class) == ("failed", "contract")
    assert "rows are bad" in result.error.what
    assert len(house.raw("books", "invoices")) in (0, 50)
    assert rejected(house) == []
    house.sources["books"].switch([])
    assert house.sync_here("books")["invoices"].status == "succeeded"
    house.assert_whole("books", "invoices")


EXACT = [
    {"amount": Decimal("0.1000000000000000055511151231257827"), "count": 2**53 + 1},
    {"amount": "19.90", "count": 9007199254740993},
    {"amount": Decimal("123456789012345678.90"), "count": -(2**62)},
    {"amount": "-0.005", "count": 0},
    {"amount": None, "count": None},
]


def test_money_and_large_numbers_never_pass_through_a_float(house: House) -> None:
    books(house, records=10)
    source = house.sources["books"]
    keys = source.insert("invoices", [{"cents": 1990 + n, "name": f"n{n}", **row} for n, row in enumerate(EXACT)])
    assert house.sync_here("books")["invoices"].status == "succeeded"
    query = (
        "SELECT l.external_id, i.amount::text, i.count, i.cents::text FROM canonical.invoice i "
        "JOIN integrations.link l ON l.canonical_id = i.id"
    )
    found = {row[0]: row[1:] for row in house.rows(query)}
    for number, (key, given) in enumerate(zip(keys, EXACT, strict=True)):
        amount, count, cents = found[key]
        assert count == given["count"]
        assert (amount is None) == (given["amount"] is None)
        assert amount is None or Decimal(amount) == Decimal(given["amount"])
        assert Decimal(cents) == Decimal(1990 + number) / 100
        raw = house.value("SELECT payload ->> 'amount' FROM raw.books__invoices WHERE external_id = %s", key)
        assert raw == (None if given["amount"] is None else str(given["amount"]))


def test_ids_past_every_float_are_ids_of_their_own(house: House) -> None:
    text = BOOKS.replace("id: {type: string, required: true}", "id: {type: integer, required: true}")
    house.write("models/invoice.yaml", KIND)
    source = house.connect_to("books", text, records=10)
    keys = source.insert("invoices", [{"id": 2**53 + n} for n in range(3)] + [{"id": 2**64 + n} for n in range(3)])
    assert len(set(keys)) == 6
    assert house.sync_here("books")["invoices"].status == "succeeded"
    assert set(keys) <= set(house.raw("books", "invoices"))
    house.assert_raw_and_quarantine_are_the_truth("books", "invoices")


def test_dates_in_each_declared_form_and_in_no_other(house: House) -> None:
    books(house, records=20)
    source = house.sources["books"]
    good = source.insert("invoices", [{"due": "2024-02-03"}, {"due": "03.02.2024"}])
    bad = source.insert("invoices", [{"due": "02/03/2024"}, {"due": "2024-02-30"}, {"due": "31.02.2024"}])
    assert house.sync_here("books")["invoices"].counters.quarantined == 3
    query = "SELECT count(*) FROM canonical.invoice WHERE due = '2024-02-03'"
    assert house.value(query) >= len(good)
    assert {key for key, _ in rejected(house)} == set(bad)


def test_empty_null_and_missing_stay_three_things(house: House) -> None:
    books(house, records=10)
    source = house.sources["books"]
    empty, null = source.insert("invoices", [{"name": ""}, {"name": None}])
    house.sync_here("books")
    raw = house.raw("books", "invoices")
    assert (raw[empty]["name"], raw[null]["name"]) == ("", None)
    source.switch(["drop field name every 2nd"])
    house.sync_here("books", full=True)
    assert sum("name" not in row for row in house.raw("books", "invoices").values()) == 6


def test_mixed_types_in_a_field_that_is_not_declared(house: House) -> None:
    books(house, records=10)
    source = house.sources["books"]
    given: list[Any] = ["text", 1, 1.5, True, None, [1, "two"], {"a": [None]}]
    keys = source.insert("invoices", [{"extra": value} for value in given])
    assert house.sync_here("books")["invoices"].status == "succeeded"
    raw = house.raw("books", "invoices")
    assert [raw[key]["extra"] for key in keys] == given
