"""Edits of what a stream is read by: noticed, said, and read anew; nothing is lost or kept under a wrong key."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, keys, made, paged

DAY = "2024-01-01T00:00:"


def numbered(count: int) -> list[dict[str, Any]]:
    return [
        {**row, "number": 1000 + n, "at": f"{DAY}{n:02}Z", "seen": f"{DAY}{59 - n:02}Z"}
        for n, row in enumerate(made(count))
    ]


def test_rows_under_an_edited_key_replace_the_old_ones(bench: Bench) -> None:
    rows = numbered(30)
    bench.things(paged(rows))
    edited = bench.things(primary_key="number")
    assert edited.status == "succeeded"
    assert edited.note is not None and "primary key was edited" in edited.note
    assert edited.counters.tombstoned == 30
    assert bench.live() == {str(row["number"]) for row in rows}
    assert bench.rows("SELECT note IS NOT NULL FROM integrations.run_log ORDER BY started_at") == [(False,), (True,)]
    again = bench.things(primary_key="number")
    assert (again.note, again.counters.tombstoned, again.counters.created) == (None, 0, 0)


def test_old_keys_stay_until_the_new_read_has_ended(bench: Bench, small_chunks: None) -> None:
    cursor = {"cursor": {"field": "at", "send": "since"}}
    rows = numbered(30)
    bench.things(paged(rows), **cursor)
    assert bench.things(paged(rows, fails_at=15), primary_key="number", **cursor).status == "failed"
    assert keys(rows) <= bench.live()
    asked = len(bench.source.seen)
    ended = bench.things(paged(rows), primary_key="number", **cursor)
    assert (ended.status, ended.counters.tombstoned) == ("succeeded", 30)
    assert bench.source.seen[asked].one("after") == "15", "the list goes on where it was interrupted"
    assert bench.live() == {str(row["number"]) for row in rows}


def test_a_read_that_brings_far_fewer_records_under_new_keys_deletes_nothing(bench: Bench) -> None:
    rows = numbered(40)
    bench.things(paged(rows))
    refused = bench.things(paged(rows[:10]), primary_key="number")
    assert refused.error is not None and refused.error.error_class == "contract"
    assert keys(rows) <= bench.live()
    assert bench.things(paged(rows), primary_key="number").counters.tombstoned == 40


def test_another_cursor_field_has_another_watermark(bench: Bench) -> None:
    """Its values lie below the old watermark: kept, it would hide every record."""

    def answer(seen: Seen) -> Any:
        field = "at" if seen.one("sort") == "at" else "seen"
        return paged([row for row in rows if row[field] >= seen.one("since")])(seen)

    rows = numbered(20)
    at = {"query": {"sort": "at"}, "cursor": {"field": "at", "send": "since"}}
    seen_at = {"query": {"sort": "seen"}, "cursor": {"field": "seen", "send": "since"}}
    bench.things(answer, **at)
    rows += [{**row, "seen": "2023-01-01T00:00:00Z"} for row in numbered(25)[20:]]
    edited = bench.things(**seen_at)
    assert edited.note is not None and "cursor" in edited.note
    assert bench.live() == keys(rows)
    assert bench.things(**seen_at).note is None


def test_another_version_doesnt_make_all_that_comes_old(bench: Bench) -> None:
    rows = [{**row, "at": "2024-01-01T00:00:00Z", "revision": 1} for row in made(5)]
    bench.things(paged(rows), version="at")
    rows = [{**row, "revision": 2, "text": "new"} for row in rows]
    assert bench.things(paged(rows), version="revision").counters.updated == 5
    older = [{**row, "revision": 1, "text": "old"} for row in rows]
    assert bench.things(paged(older), version="revision").counters.superseded == 5
    assert bench.rows("SELECT DISTINCT payload ->> 'text' FROM raw.acme__things") == [("new",)]


def test_an_unchanged_row_gets_its_version_under_the_new_order(bench: Bench) -> None:
    rows = [{**row, "at": "2024-01-01T00:00:00Z", "revision": 5} for row in made(3)]
    bench.things(paged(rows), version="at")
    assert bench.things(paged(rows), version="revision").counters.unchanged == 3
    older = [{**row, "revision": 4} for row in rows]
    assert bench.things(paged(older), version="revision").counters.superseded == 3


def test_edits_below_parents_forget_each_parents_place(bench: Bench) -> None:
    shops = {"request": "GET /shops", "records": "items", "primary_key": "id"}
    below = {**THINGS, "request": "GET /shops/<shops.id>/things"}
    rows = numbered(20)

    def answer(seen: Seen) -> Any:
        if seen.path == "/shops":
            return {"items": [{"id": "a"}, {"id": "b"}]}
        mine = rows[::2] if "/a/" in seen.path else rows[1::2]
        return paged([row for row in mine if row["at"] >= seen.one("since")])(seen)

    bench.streams = {"shops": shops, "things": {**below, "cursor": {"field": "at", "send": "since"}}}
    bench.sync(answer)
    bench.streams["things"]["primary_key"] = "number"
    edited = bench.sync()["things"]
    assert edited.counters.tombstoned == 20
    assert bench.live() == {str(row["number"]) for row in rows}


def test_newest_first_the_tie_holds_across_a_crash_between_its_two_rows(bench: Bench, small_chunks: None) -> None:
    """The source shows a record twice, the newer row first; the list is interrupted between them."""
    cursor = {"cursor": {"field": "at", "send": "since", "order": "desc", "lookback": "10m"}}
    stamp = "2024-01-01T00:00:00Z"
    rows = [{"id": "x", "is": "new"}, *made(6), {"id": "x", "is": "old"}]
    rows = [{**row, "at": stamp} for row in rows]
    for _ in range(2):
        assert bench.things(paged(rows, 4, fails_at=4), **cursor).status == "failed"
        assert bench.things(paged(rows, 4), **cursor).status == "succeeded"
        assert bench.rows("SELECT payload ->> 'is' FROM raw.acme__things WHERE external_id = 'x'") == [("new",)]
    assert bench.rows("SELECT count(*) FROM integrations.decision WHERE decision = 'updated'") == [(0,)]


def test_lists_below_parents_that_are_all_unknown_are_a_wrong_path(bench: Bench) -> None:
    shops = {"request": "GET /shops", "records": "items", "primary_key": "id"}
    bench.streams = {"shops": shops, "things": {**THINGS, "request": "GET /shop/<shops.id>/things"}}
    right = False

    def answer(seen: Seen) -> Any:
        if seen.path == "/shops":
            return {"items": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}
        return {"items": made(2)} if right else Reply(status=404)

    for _ in range(2):
        wrong = bench.sync(answer)["things"]
        assert wrong.error is not None and wrong.error.error_class == "config"
        assert "404 for the lists below all 3 records of shops" in wrong.error.what
        assert "end_of_list" in wrong.error.next
    right = True
    assert bench.sync()["things"].status == "succeeded"
    right = False
    assert bench.sync()["things"].status == "succeeded", "once it was right, parents may all have vanished"


def test_a_run_left_running_is_closed_by_the_next_start(bench: Bench) -> None:
    """Also where that one ends before it has read anything: the source is never asked for a bad declaration."""
    bench.things(paged(made(3)))
    bench.rows("UPDATE integrations.run_log SET status = 'running', finished_at = NULL RETURNING 1")
    bench.source.answer = lambda seen: Reply(status=401)
    bench.things()
    assert bench.rows("SELECT count(*) FROM integrations.run_log WHERE status = 'running'") == [(0,)]
    assert bench.rows("SELECT error ->> 'message' FROM integrations.run_log ORDER BY started_at LIMIT 1") == [
        ("the process ended without a word",)
    ]


@pytest.mark.parametrize(
    "before, after",
    [
        ({"query": {"stage": "won"}}, {"query": {"stage": "all"}}),
        ({"request": "GET /won"}, {"request": "GET /all"}),
        ({"skip": {"stage": "lost"}}, {}),
        ({"start": "2024-01-01T00:00:20Z"}, {"start": "2024-01-01T00:00:00Z"}),
    ],
    ids=["query", "request", "skip", "start"],
)
def test_a_wider_list_is_read_again_also_below_the_watermark(bench: Bench, before: Any, after: Any) -> None:
    rows = [{**row, "stage": "lost" if n < 25 else "won"} for n, row in enumerate(numbered(40))]

    def answer(seen: Seen) -> Any:
        won = seen.path == "/won" or seen.one("stage") == "won"
        found = [row for row in rows if row["at"] >= seen.one("since", "") and (row["stage"] == "won" or not won)]
        return paged(found)(seen)

    def run(declared: dict[str, Any]) -> StreamResult:
        start = {"start": declared["start"]} if "start" in declared else {}
        rest = {name: value for name, value in declared.items() if name != "start"}
        return bench.things(answer, cursor={"field": "at", "send": "since", **start}, **rest)

    run(before)
    assert run(before).note is None
    assert bench.live() < keys(rows)
    edited = run(after)
    assert (edited.status, edited.note is not None and "asked for was edited" in edited.note) == ("succeeded", True)
    assert bench.live() == keys(rows)
    assert run(after).note is None


def test_an_edit_is_not_forgotten_where_the_read_is_interrupted(bench: Bench, small_chunks: None) -> None:
    cursor = {"cursor": {"field": "at", "send": "since"}}
    rows = numbered(40)
    bench.things(paged(rows[20:]), **cursor)
    assert bench.things(paged(rows, fails_at=10), **cursor, query={"all": "yes"}).status == "failed"
    assert bench.things(paged(rows), **cursor, query={"all": "yes"}).status == "succeeded"
    assert bench.live() == keys(rows)


def test_what_an_earlier_release_did_not_remember_is_no_edit(bench: Bench) -> None:
    cursor = {"cursor": {"field": "at", "send": "since"}}
    bench.things(paged(numbered(20)), **cursor)
    bench.rows("UPDATE integrations.stream_state SET declared = declared - 'list' RETURNING 1")
    assert bench.things(paged([]), **cursor).note is None
    assert bench.things(paged([]), **cursor, query={"all": "yes"}).note is not None


def test_a_record_that_is_skipped_later_stays_as_it_was(bench: Bench) -> None:
    rows: list[dict[str, Any]] = [{**row, "stage": "open"} for row in made(40)]
    declared: dict[str, Any] = {"skip": {"stage": "draft"}, "deletes": {"snapshot": "7d"}}
    bench.things(paged(rows), **declared)
    rows[3] = {**rows[3], "stage": "draft"}
    again = bench.things(paged(rows), full=True, **declared)
    assert (again.counters.skipped, again.counters.tombstoned) == (1, 0)
    held = bench.rows("SELECT payload ->> 'stage' FROM raw.acme__things WHERE external_id = 'k00003'")
    assert (bench.live(), held) == (keys(rows), [("open",)])
    told = "SELECT decision FROM integrations.decision WHERE external_id = 'k00003' ORDER BY at DESC LIMIT 1"
    assert bench.rows(told) == [("skipped",)]
    removed = {"deletes": {"snapshot": "7d", "when": {"stage": "draft"}}}
    assert bench.things(paged(rows), full=True, **removed).counters.deleted == 1
    assert bench.live() == keys(rows) - {"k00003"}
