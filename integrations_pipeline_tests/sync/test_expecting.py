"""What is expected of a stream, by `expect` and by its own history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.health import DayCount, StreamHealth
from integrations_pipeline.sync.expecting import Verdict, judged

NOW = datetime(2024, 5, 29, 12, tzinfo=UTC)
ORDERS = {
    "request": "GET /orders",
    "records": ".",
    "primary_key": "id",
    "cursor": {"field": "updated", "send": "since"},
    "fields": {"id": {"type": "string"}, "updated": {"type": "timestamp"}},
}
WHOLE = {"request": "GET /currencies", "records": ".", "primary_key": "id"}


def shop(**expect: Any) -> Connection:
    api = {"url": "https://api.example.com", "pagination": {"type": "single_page"}}
    streams = {"orders": ORDERS, "currencies": WHOLE}
    return Connection.model_validate({"connection": "shop", "api": api, "streams": streams, "expect": expect})


def day(number: int, changed: int = 0, hour: int = 0, held: int = 0, fetched: int = 100, rejected: int = 0) -> DayCount:
    return DayCount("shop", "orders", number, fetched, rejected, changed, held, held, hour)


def health(days: list[DayCount], *, known: int = 40, stream: str = "orders", **more: Any) -> StreamHealth:
    unknown = "resume_at deferred_since deferred_error failed_run failed_at error last_run last_seconds usual_seconds"
    facts: dict[str, Any] = dict.fromkeys([*unknown.split(), "last_full_refresh"])
    facts |= {"began": NOW - timedelta(days=known, hours=1), "last_success": NOW, "asked_at": NOW, "active": True}
    facts |= {"usual_runs": 0, "quarantine_open": 0, "days": {one.day: one for one in days}}
    return StreamHealth("shop", stream, **{**facts, **more})


def verdict(connection: Connection, found: StreamHealth, name: str) -> Verdict:
    (one,) = (one for one in judged(connection, found) if one.name == name)
    return one


def test_what_is_not_declared_is_not_judged_but_by_history() -> None:
    names = {one.name for one in judged(shop(), health([]))}
    assert names == {"record_count_deviation", "zero_records", "invalid_record_percent", "run_time_drift"}


@pytest.mark.parametrize(("changed", "passed"), [(0, False), (4, False), (5, True)])
def test_records_per_day(changed: int, passed: bool) -> None:
    found = verdict(shop(records_per_day="at least 5"), health([day(0, changed)]), "records_per_day")
    assert (found.passed, found.numbers, found.severity) == (passed, {"records per day": changed}, "error")


def test_a_stream_known_for_less_than_a_day_is_not_judged() -> None:
    assert verdict(shop(records_per_day="at least 5"), health([], known=0), "records_per_day").passed


def test_a_list_read_whole_is_judged_by_its_rows_though_none_changed() -> None:
    found = health([day(0, changed=0, held=30)], stream="currencies")
    assert verdict(shop(records_per_day="at least 1"), found, "records_per_day").passed


@pytest.mark.parametrize(("today", "passed"), [(49, False), (50, True), (240, True), (241, False)])
def test_a_day_beside_the_same_weekdays(today: int, passed: bool) -> None:
    """The other days, a weekend of zeros among them, don't matter."""
    history = [day(7, 100), day(14, 120), day(21, 110), day(28, 105), day(1, 0), day(2, 0), day(3, 900)]
    assert verdict(shop(), health([day(0, today), *history]), "record_count_deviation").passed is passed


@pytest.mark.parametrize(("known", "passed"), [(8, False), (7, True)])
def test_too_little_history_says_nothing(known: int, passed: bool) -> None:
    """Of eight days and the first sync's, seven are whole."""
    found = health([day(number, 100) for number in range(1, known)], known=known)
    assert verdict(shop(), found, "record_count_deviation").passed is passed


def test_the_first_sync_is_no_history() -> None:
    days = [day(0, 10), *(day(number, 10) for number in range(1, 9)), day(9, 100_000)]
    assert verdict(shop(), health(days, known=9), "record_count_deviation").numbers["usual at most"] == 10


def test_an_hour_without_a_record_where_there_always_was_one() -> None:
    history = [day(number, 100, hour=5) for number in (7, 14, 21, 28)]
    found = verdict(shop(), health([day(0, 90, hour=0), *history]), "zero_records")
    assert (found.passed, found.severity, found.numbers) == (False, "error", {"records per hour": 0})
    assert verdict(shop(), health([day(0, 90, hour=1), *history]), "zero_records").passed
    quiet = [*history[:3], day(28, 100, hour=0)]
    assert verdict(shop(), health([day(0, 90), *quiet]), "zero_records").passed, "an hour that was empty before"


def test_a_day_on_which_nothing_was_asked_is_no_history() -> None:
    """Our own outage four weeks ago must not switch off what the other three weeks say."""
    history = [day(number, 100, hour=5) for number in (7, 14, 21)]
    found = health([day(0), *history])
    assert not verdict(shop(), found, "zero_records").passed
    assert not verdict(shop(), found, "record_count_deviation").passed
    for name in ("zero_records", "record_count_deviation"):
        assert verdict(shop(), health([day(0), *history[:2]]), name).passed, "two days say nothing"


@pytest.mark.parametrize(("rejected", "passed"), [(0, True), (9, True), (10, False)])
def test_rejected_under_what_is_declared(rejected: int, passed: bool) -> None:
    found = health([day(0, fetched=1000, rejected=rejected)])
    assert verdict(shop(rejected="under 1%"), found, "invalid_record_percent").passed is passed


def test_rejected_risen_above_its_own_history() -> None:
    history = [day(number, fetched=1000, rejected=10) for number in range(1, 20)]
    assert verdict(shop(), health([day(0, fetched=1000, rejected=20), *history]), "invalid_record_percent").passed
    assert not verdict(shop(), health([day(0, fetched=1000, rejected=21), *history]), "invalid_record_percent").passed
    assert verdict(shop(), health([day(0, fetched=1000, rejected=9)]), "invalid_record_percent").passed


def test_the_last_full_refresh_is_too_old() -> None:
    connection = shop(full_refresh_within="8d")
    old = health([], last_full_refresh=NOW - timedelta(days=9))
    assert not verdict(connection, old, "full_refresh_within").passed
    assert not verdict(connection, health([]), "full_refresh_within").passed, "none in forty days"
    assert verdict(connection, health([], known=3), "full_refresh_within").passed
    assert verdict(connection, health([], last_full_refresh=NOW), "full_refresh_within").passed


@pytest.mark.parametrize(
    ("last", "usual", "runs", "passed"),
    [(400, 100, 30, False), (290, 100, 30, True), (50, 1, 30, True), (400, 1, 9, True)],
)
def test_a_run_that_takes_much_longer_than_usual(last: float, usual: float, runs: int, passed: bool) -> None:
    found = health([], last_seconds=last, usual_seconds=usual, usual_runs=runs)
    assert verdict(shop(), found, "run_time_drift").passed is passed
