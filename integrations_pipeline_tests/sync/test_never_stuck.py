"""Whatever ended a sync early, the next one gets on: nothing is read or refused for ever, and nothing is lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from integrations_pipeline.store.landing import Landing
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, keys, made, paged

SHOPS = {"request": "GET /shops", "records": "items", "primary_key": "id"}
ORDERS = {"request": "GET /shops/<shops.id>/orders", "records": "items", "primary_key": "id"}


def of_shops(orders: Any, *shops: str) -> Any:
    """Answers with the shops; below each of them as ``orders`` does."""
    return lambda seen: {"items": [{"id": shop} for shop in shops]} if seen.path == "/shops" else orders(seen)


def test_an_implausible_refresh_is_not_believed_the_next_time_either(bench: Bench) -> None:
    snapshot: dict[str, Any] = {"deletes": {"snapshot": "7d"}}
    assert bench.things(paged(made(100), 50), **snapshot).status == "succeeded"
    refused = bench.things(paged(made(10)), **snapshot)
    assert refused.error is not None and refused.error.error_class == "contract"
    assert bench.live() == keys(made(100))
    well = bench.things(paged(made(95), 50), **snapshot)
    assert (well.status, well.counters.tombstoned) == ("succeeded", 5)


def test_an_implausible_round_of_children_is_read_again(bench: Bench) -> None:
    bench.streams = {"shops": SHOPS, "orders": {**ORDERS, "deletes": {"snapshot": "7d"}}}
    assert bench.sync(of_shops(paged(made(50), 50), "s"))["orders"].status == "succeeded"
    assert bench.sync(of_shops(paged(made(10)), "s"))["orders"].status == "failed"
    well = bench.sync(of_shops(paged(made(48), 50), "s"))["orders"]
    assert (well.status, well.counters.tombstoned) == ("succeeded", 2)


def test_what_was_under_way_when_the_source_failed_is_counted(bench: Bench, small_chunks: None) -> None:
    failed = bench.things(paged(made(40), fails_at=20))
    assert failed.status == "failed"
    assert failed.counters.fetched == 20 == len(bench.live())
    assert bench.rows("SELECT fetched, status FROM integrations.run_log") == [(20, "failed")]


def test_an_expired_token_and_an_expired_watermark(bench: Bench, small_chunks: None) -> None:
    cursor: dict[str, Any] = {"cursor": {"field": "at", "send": "since"}}
    rows = [{**row, "at": f"2024-01-01T00:00:{number:02}Z"} for number, row in enumerate(made(30))]
    bench.things(paged(rows), **cursor)
    bench.things(paged(rows, fails_at=15), **cursor)  # leaves a bookmark
    rows += [{**row, "at": "2024-02-01T00:00:00Z"} for row in made(35)[30:]]

    def forgetful(seen: Seen) -> Any:
        return Reply(status=410) if seen.one("since") else paged(rows)(seen)

    result = bench.things(forgetful, **cursor)
    assert (result.status, result.counters.created) == ("succeeded", 5)
    assert bench.rows("SELECT mode FROM integrations.run_log ORDER BY started_at DESC LIMIT 1") == [("full",)]


def test_an_expired_token_below_a_parent(bench: Bench, small_chunks: None) -> None:
    bench.streams = {"shops": SHOPS, "orders": ORDERS}
    assert bench.sync(of_shops(paged(made(30), fails_at=20), "s"))["orders"].status == "failed"
    asked = len(bench.source.seen)

    def expired_at_first(seen: Seen) -> Any:
        return Reply(status=410) if len(bench.source.seen) == asked + 2 else paged(made(30))(seen)

    assert bench.sync(of_shops(expired_at_first, "s"))["orders"].status == "succeeded"
    assert bench.live("orders") == keys(made(30))


def test_a_small_quota_gets_through_a_long_list_below_a_parent(bench: Bench) -> None:
    bench.streams = {"shops": SHOPS, "orders": ORDERS}
    left = 0

    def frugal(seen: Seen) -> Any:
        nonlocal left
        left -= 1
        return paged(made(50))(seen) if left >= 0 else Reply(status=429, headers={"Retry-After": "3600"})

    for run in range(1, 4):
        left = 4
        result = bench.sync(of_shops(frugal, "s"))["orders"]
        assert len(bench.live("orders")) == min(20 * run, 50)
    assert result.status == "succeeded"


@pytest.mark.parametrize("form", ["offset", "page_number"])
def test_one_request_per_run_gets_through_a_counted_list(bench: Bench, form: str) -> None:
    pages = {"type": form, "send": "at", "first": 0, "more": "more", "size": {"send": "limit", "value": 5}}
    rows, left = made(23), 0

    def frugal(seen: Seen) -> Any:
        nonlocal left
        left -= 1
        begin = int(seen.one("at")) * (5 if form == "page_number" else 1)
        page = {"items": rows[begin : begin + 5], "more": begin + 5 < len(rows)}
        return page if left >= 0 else Reply(status=429, headers={"Retry-After": "3600"})

    for _ in range(15):
        left = 1
        result = bench.things(frugal, pagination=pages, deletes={"snapshot": "7d"})
        if result.status == "succeeded":
            break
    assert (result.status, bench.live()) == ("succeeded", keys(rows))


def test_the_sources_window_does_not_end_a_list_below_a_parent(bench: Bench) -> None:
    window = {"type": "cursor", "read": "next", "send": "after", "size": {"send": "n", "value": 5}, "max_records": 10}
    cursor = {"field": "n", "send": "since", "order": "asc"}
    bench.streams = {"shops": SHOPS, "orders": {**ORDERS, "cursor": cursor, "pagination": window}}
    rows = [{**row, "n": number} for number, row in enumerate(made(33))]

    def narrow(seen: Seen) -> Any:
        shown = [row for row in rows if row["n"] >= int(seen.one("since", "0"))]
        return paged(shown, fails_at=10)(seen)

    result = bench.sync(of_shops(narrow, "s"))["orders"]
    assert result.status == "succeeded"
    assert bench.live("orders") == keys(rows)


def test_an_edited_list_is_read_from_its_start(bench: Bench, small_chunks: None) -> None:
    assert bench.things(paged(made(30), fails_at=15)).status == "failed"

    def by_offset(seen: Seen) -> Any:
        at = int(seen.one("offset", "0"))
        return {"items": made(30)[at : at + 5], "more": at + 5 < 30}

    edited = bench.things(by_offset, pagination={"type": "offset", "send": "offset", "more": "more"})
    assert edited.status == "succeeded"
    assert bench.live() == keys(made(30))


def test_keys_seen_before_a_snapshot_was_declared_are_not_taken_for_gone(bench: Bench, small_chunks: None) -> None:
    bench.things(paged(made(30), fails_at=5))
    result = bench.things(paged(made(30)), deletes={"snapshot": "1d"})
    assert (result.status, result.counters.tombstoned) == ("succeeded", 0)
    assert bench.live() == keys(made(30))


def test_pages_of_another_round_are_no_proof_that_keys_are_gone(bench: Bench, small_chunks: None) -> None:
    orders = {**ORDERS, "parents": "changed", "deletes": {"snapshot": "7d"}}
    bench.streams = {"shops": SHOPS, "orders": orders}
    bench.sync(of_shops(lambda seen: {"items": []}, "a"))
    bench.sync(of_shops(paged(made(12), fails_at=10), "a", "b"))  # b is new, and its list stops at the third page
    result = bench.sync(
        of_shops(lambda s: {"items": []} if "/a/" in s.path else paged(made(12))(s), "a", "b"), full=True
    )
    assert (result["orders"].status, result["orders"].counters.tombstoned) == ("succeeded", 0)
    assert bench.live("orders") == keys(made(12))


def test_days_and_times_in_one_cursor_field(bench: Bench, small_chunks: None) -> None:
    cursor: dict[str, Any] = {"cursor": {"field": "at", "send": "since"}}
    rows = [*made(10, at="2024-01-01T00:00:00Z"), *({**row, "at": "2024-01-02"} for row in made(20)[10:])]
    for _ in range(2):
        assert bench.things(paged(rows), **cursor).status == "succeeded"
    assert bench.live() == keys(made(20))


def test_the_lookback_is_read_whole_through_the_sources_window(bench: Bench) -> None:
    """A row that came late, with a stamp before the watermark, lies in the second window."""
    cursor = {"field": "at", "send": "since", "order": "asc", "lookback": "1h"}
    pages = {"type": "cursor", "read": "next", "send": "after", "size": {"send": "n", "value": 5}, "max_records": 10}
    rows = [{**row, "at": f"2024-01-01T00:{number:02}:00Z"} for number, row in enumerate(made(25))]

    def narrow(seen: Seen) -> Any:
        shown = [row for row in sorted(rows, key=lambda row: row["at"]) if row["at"] >= seen.one("since")]
        return paged(shown, fails_at=10)(seen)

    bench.things(narrow, cursor=cursor, pagination=pages)
    rows.append({"id": "late", "at": "2024-01-01T00:15:30Z"})
    bench.things(cursor=cursor, pagination=pages)
    assert "late" in bench.live()


def test_a_quiet_source_is_not_read_whole_at_each_poll(bench: Bench) -> None:
    cursor: dict[str, Any] = {"cursor": {"field": "at", "send": "since", "retention": "30d"}}
    for _ in range(3):
        assert bench.things(paged(made(30, at="2024-01-01T00:00:00Z")), **cursor).status == "succeeded"
    modes = [row[0] for row in bench.rows("SELECT mode FROM integrations.run_log ORDER BY started_at")]
    assert modes == ["full", "incremental", "incremental"]


def test_newest_first_the_earlier_of_equal_versions_stays_across_chunks(bench: Bench, small_chunks: None) -> None:
    cursor: dict[str, Any] = {"cursor": {"field": "at", "send": "since", "order": "desc", "lookback": "10m"}}
    rows = [{"id": "x", "is": "new"}, *made(6), {"id": "x", "is": "old"}]
    for _ in range(3):
        result = bench.things(paged([{**row, "at": "2024-01-01T00:00:00Z"} for row in rows], 4), **cursor)
        assert (result.counters.updated, result.counters.superseded) == (0, 1)
        assert bench.rows("SELECT payload ->> 'is' FROM raw.acme__things WHERE external_id = 'x'") == [("new",)]


def test_a_defect_in_one_stream_leaves_the_others_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Landing.judge

    def broken(self: Landing) -> dict[str, int]:
        if self.held.stream == "first":
            raise psycopg.ProgrammingError("no room foresaw this")
        return judge(self)

    monkeypatch.setattr(Landing, "judge", broken)
    bench.streams = {"first": THINGS, "second": THINGS}
    results = bench.sync(paged(made(3)))
    assert results["first"].status == "failed"
    assert results["first"].error is not None and "ProgrammingError" in results["first"].error.what
    assert results["second"].status == "succeeded"
    assert sorted(bench.rows("SELECT stream, status FROM integrations.run_log")) == [
        ("first", "failed"),
        ("second", "succeeded"),
    ]
