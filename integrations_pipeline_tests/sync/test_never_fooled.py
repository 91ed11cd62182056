"""What a source says in passing (its clock, a 304, a refusal) makes no row stale, lost or wrongly deleted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from integrations_pipeline.spec.errors import Failed
from integrations_pipeline.sync import run
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import Bench, keys, made, paged

CURSOR = {"cursor": {"field": "at", "send": "since"}}


def dated(body: Any, days: float) -> Reply:
    """An answer of a source whose clock is wrong by so many days."""
    date = format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    return Reply(raw=[head.encode() + content])


def test_a_date_in_the_future_makes_no_later_row_old(bench: Bench) -> None:
    bench.things(lambda seen: dated({"items": made(3, name="old")}, 4000))
    assert bench.things(lambda seen: {"items": made(3, name="new")}).counters.updated == 3
    assert bench.rows("SELECT DISTINCT payload ->> 'name' FROM raw.acme__things") == [("new",)]


def test_a_date_in_the_future_is_no_watermark(bench: Bench) -> None:
    bench.things(lambda seen: dated({"items": []}, 4000), **CURSOR)
    rows = made(3, at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())

    def since(seen: Seen) -> Any:
        return {"items": [row for row in rows if row["at"] >= seen.one("since")]}

    assert bench.things(since, **CURSOR).status == "succeeded"
    assert bench.live() == keys(rows)


@pytest.mark.parametrize("days", [-1 / 24, -30])
def test_a_source_whose_clock_is_behind_loses_nothing(bench: Bench, days: float) -> None:
    """Its stamps and its `Date` lag: by our clock all that it changes seems long past."""
    rows: list[dict[str, Any]] = []
    changes: list[int] = []

    def stamp() -> str:
        return (datetime.now(UTC) + timedelta(days=days)).isoformat()

    def answer(seen: Seen) -> Any:
        shown = paged([row for row in rows if row["at"] >= seen.one("since", "")])(seen)
        if seen.one("after") == "5" and changes:  # behind the place, and one that is still to come
            for number in (changes.pop(), -1):
                rows[number] = {**rows[number], "at": stamp(), "name": f"changed at {len(bench.source.seen)}"}
        return dated(shown, days)

    bench.things(answer, **CURSOR)  # nothing is there yet
    rows += made(40, at=stamp())
    for changed in ([], [1], [2], []):
        changes[:] = changed
        rows[7] = {**rows[7], "at": stamp()}
        assert bench.things(answer, **CURSOR).status == "succeeded"
    held = dict(bench.rows("SELECT external_id, payload FROM raw.acme__things"))
    assert held == {row["id"]: row for row in rows}


def test_a_304_to_a_later_page_ends_no_list(bench: Bench) -> None:
    probed: dict[str, Any] = {**CURSOR, "probe": "etag"}
    rows = made(10, at="2024-01-01T00:00:00Z")
    for _ in range(2):
        bench.things(lambda seen: Reply({"items": rows}, headers={"ETag": '"1"'}), **probed)
    changed = paged([{**row, "at": "2024-01-02T00:00:00Z"} for row in rows])
    refused = bench.things(lambda seen: Reply(status=304) if seen.one("after") else changed(seen), **probed)
    assert any(seen.headers.get("If-None-Match") for seen in bench.source.seen)
    assert refused.error is not None and refused.error.error_class == "contract"
    assert bench.things(changed, **probed).status == "succeeded"
    assert bench.rows("SELECT DISTINCT payload ->> 'at' FROM raw.acme__things") == [("2024-01-02T00:00:00Z",)]


def test_the_first_refresh_counts_though_its_run_failed_after_the_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot: dict[str, Any] = {**CURSOR, "deletes": {"snapshot": "7d"}}
    rows = made(40, at="2024-01-01T00:00:00Z")

    def broken(*_: object) -> int:
        raise Failed("something else")

    with monkeypatch.context() as patched:
        patched.setattr(run, "heal_after_edit", broken)
        assert bench.things(paged(rows, 50), **snapshot).status == "failed"
    bench.rows(
        "UPDATE integrations.stream_state SET last_full_refresh = last_full_refresh - interval '8 days' RETURNING 1"
    )
    assert bench.things(paged(rows[2:], 50), **snapshot).counters.tombstoned == 2
    assert bench.live() == keys(rows[2:])


@pytest.mark.parametrize("form", ["page_number", "offset"])
def test_a_refresh_that_goes_on_deletes_no_row_that_moved_up_meanwhile(
    bench: Bench, small_chunks: None, form: str
) -> None:
    pages = {"type": form, "send": "at", "first": 0, "total": "total", "more": "more"}
    refreshed: dict[str, Any] = {"deletes": {"snapshot": "7d"}, "pagination": pages}
    rows, last = made(50), 50

    def answer(seen: Seen) -> Any:
        begin = int(seen.one("at")) * (5 if form == "page_number" else 1)
        if begin > last:
            return Reply(status=503)
        return {"items": rows[begin : begin + 5], "total": len(rows), "more": begin + 5 < len(rows)}

    bench.things(answer, **refreshed)
    last = 25
    assert bench.things(answer, **refreshed).status == "deferred"
    del rows[:8]
    last = 50
    assert bench.things(answer, **refreshed).status == "succeeded"
    assert bench.live() >= keys(rows)
    assert bench.things(answer, **refreshed).status == "succeeded"
    assert bench.live() == keys(rows)


def test_a_refresh_that_starts_again_finds_what_went_before_it(bench: Bench, small_chunks: None) -> None:
    refreshed: dict[str, Any] = {"deletes": {"snapshot": "7d"}}
    rows, trouble = made(50), 0

    def answer(seen: Seen) -> Any:
        if trouble and seen.one("after") and int(seen.one("after")) >= 20:
            return Reply(status=trouble)
        return paged(rows)(seen)

    bench.things(answer, **refreshed)
    trouble = 503  # interrupted after the first pages were seen
    assert bench.things(answer, **refreshed).status == "deferred"
    del rows[3:5]
    asked = len(bench.source.seen)

    def expired_once(seen: Seen) -> Any:
        return Reply(status=410) if len(bench.source.seen) == asked + 1 else paged(rows)(seen)

    assert bench.things(expired_once, **refreshed).status == "succeeded"
    assert bench.live() == keys(rows)


LOGIN = {"request": "POST /login", "keep": {"token": "token"}, "expires": {"read": "in", "unit": "s"}}
SESSION = {"type": "session", "login": [LOGIN], "send": {"header X-Token": "<kept.token>"}}


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_session_is_as_long_as_told_whatever_the_sources_clock_says(bench: Bench, days: float) -> None:
    bench.auth = SESSION

    def answer(seen: Seen) -> Any:
        return dated({"token": "a-session", "in": 600}, days) if seen.path == "/login" else paged(made(30))(seen)

    assert bench.things(answer).status == "succeeded"
    assert [seen.path for seen in bench.source.seen].count("/login") == 1


@pytest.mark.parametrize("over", [Reply(status=400), Reply(status=404), Reply(b"<html>log in</html>")], ids=str)
def test_a_session_that_can_not_be_refreshed_is_begun_anew(bench: Bench, over: Reply) -> None:
    refresh = {"request": "POST /refresh", "keep": {"token": "token"}}
    bench.auth = {**SESSION, "refresh": refresh}
    valid = 0

    def answer(seen: Seen) -> Any:
        nonlocal valid
        if seen.path == "/refresh":
            return over
        if seen.path == "/login":
            valid += 1
            return {"token": f"session-{valid}", "in": 600}
        return paged(made(30))(seen) if seen.headers["X-Token"] == f"session-{valid}" else Reply(status=401)

    bench.things(answer)
    valid += 1  # the session has ended at the source
    assert bench.things(answer).status == "succeeded"
    assert [seen.path for seen in bench.source.seen].count("/login") == 2
