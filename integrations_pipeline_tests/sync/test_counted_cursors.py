"""Cursors that no clock can judge (a counter, text): a row changed while its list is read is never passed over, and
what is read twice for that is read twice only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from integrations_pipeline.store.lease import Lease
from integrations_pipeline_tests.client.source import Seen
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

Rows = list[dict[str, Any]]
UNSORTED: dict[str, Any] = {"cursor": {"field": "seq", "send": "since"}}


def counter(number: int) -> Any:
    return number


def naive_time(number: int) -> Any:
    return f"2024-01-01T{number // 60:02}:{number % 60:02}:00"


class Changing:
    """A list in the order of its keys, in pages of five, each change with the next mark. ``at`` acts at a page of the
    next reading; ``sent`` counts the rows sent since it was last reset."""

    def __init__(self, count: int, mark: Callable[[int], Any]):
        self.mark, self.last, self.sent = mark, count, 0
        self.rows = [{**row, "seq": mark(count - number)} for number, row in enumerate(made(count))]
        self.at: dict[str, Callable[[], object]] = {}

    def change(self, *numbers: int) -> None:
        for number in numbers:
            self.last += 1
            self.rows[number] = {**self.rows[number], "seq": self.mark(self.last), "name": f"changed {self.last}"}

    def __call__(self, seen: Seen) -> Any:
        since = seen.query.get("since", [None])[0]
        kind = type(self.rows[0]["seq"])
        found = paged([row for row in self.rows if since is None or row["seq"] >= kind(since)])(seen)
        self.sent += len(found["items"])
        if (act := self.at.pop(seen.one("after", "0"), None)) is not None:
            act()  # behind this page
        return found


def whole(bench: Bench, source: Changing) -> None:
    held = dict(bench.rows("SELECT external_id, payload FROM raw.acme__things WHERE deleted_at IS NULL"))
    assert held == {row["id"]: row for row in source.rows}


@pytest.mark.parametrize("mark", [counter, naive_time])
@pytest.mark.parametrize("first_read", [True, False])
def test_a_row_changed_behind_the_place_comes_with_the_next_poll(
    bench: Bench, mark: Callable[[int], Any], first_read: bool
) -> None:
    source = Changing(40, mark)
    if not first_read:
        for _ in range(2):
            assert bench.things(source, **UNSORTED).status == "succeeded"
        source.change(*range(0, 30, 2))
    source.at = {"5": lambda: source.change(1, 39)}  # page one is behind, row 39 is still to come
    assert bench.things(source, **UNSORTED).status == "succeeded"
    assert bench.things(source, **UNSORTED).status == "succeeded"
    whole(bench, source)


@pytest.mark.parametrize("mark", [counter, naive_time])
def test_what_is_past_the_first_page_is_read_once_more_and_then_no_more(
    bench: Bench, mark: Callable[[int], Any]
) -> None:
    source = Changing(200, mark)
    source.rows.reverse()  # the worst case: page one shows the lowest marks
    for at_most in (200, 200, 5, 5):
        source.sent = 0
        bench.things(source, **UNSORTED)
        assert source.sent <= at_most
    source.change(*range(0, 60))
    for at_most in (65, 65, 5):
        source.sent = 0
        bench.things(source, **UNSORTED)
        assert source.sent <= at_most
    whole(bench, source)


def test_a_list_that_its_file_calls_sorted_is_read_once(bench: Bench) -> None:
    source = Changing(60, counter)
    source.rows.reverse()
    ascending = {"cursor": {"field": "seq", "send": "since", "order": "asc"}}
    bench.things(source, **ascending)
    source.sent = 0
    bench.things(source, **ascending)
    assert source.sent == 1


def test_a_first_page_without_rows_keeps_the_place_and_is_got_past(bench: Bench) -> None:
    source = Changing(30, counter)

    def answer(seen: Seen) -> Any:
        return {"items": [], "next": "0"} if not seen.one("after") else source(seen)

    for _ in range(2):
        source.change(3)
        assert bench.things(answer, **UNSORTED).status == "succeeded"
    source.sent = 0
    source.change(7)
    assert bench.things(answer, **UNSORTED).status == "succeeded"
    assert source.sent <= 3
    whole(bench, source)


@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_a_crash_between_keeps_what_the_first_page_showed(
    bench: Bench, small_chunks: None, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    source = Changing(40, counter)
    source.at = {"5": lambda: source.change(1, 39)}
    commit, left = Lease.commit_chunk, chunk

    def crashing(lease: Lease, rows: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return commit(lease, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Lease, "commit_chunk", crashing)
        with pytest.raises(KeyboardInterrupt):
            bench.things(source, **UNSORTED)
    for _ in range(2):
        assert bench.things(source, **UNSORTED).status == "succeeded"
    whole(bench, source)


def test_below_parents_each_list_has_its_own(bench: Bench) -> None:
    source = Changing(40, counter)
    bench.streams = {
        "people": {"request": "GET /people", "records": "items", "primary_key": "id"},
        "things": {"request": "GET /people/<people.id>/things", "records": "items", "primary_key": "id", **UNSORTED},
    }

    def answer(seen: Seen) -> Any:
        if seen.path == "/people":
            return {"items": [{"id": "p1"}, {"id": "p2"}]}
        return source(seen) if "p1" in seen.path else {"items": []}

    source.at = {"5": lambda: source.change(1, 39)}
    for _ in range(3):
        assert {one.status for one in bench.sync(answer).values()} == {"succeeded"}
    whole(bench, source)
    source.sent = 0
    bench.sync(answer)
    assert source.sent <= 5


def test_a_feed_of_deletions_with_a_counter_passes_none_over(bench: Bench) -> None:
    gone = [{"key": f"k{number:05}", "n": number + 1} for number in range(20)]
    feed = {
        "call": {"request": "GET /gone"},
        "records": "items",
        "key": "key",
        "cursor": {"field": "n", "send": "since"},
    }
    late = [{"key": "k00025", "n": 21}, {"key": "k00026", "n": 22}]

    def answer(seen: Seen) -> Any:
        if seen.path != "/gone":
            return {"items": made(30)} if len(bench.source.seen) < 3 else {"items": []}
        shown = paged([row for row in gone if row["n"] >= int(seen.one("since", "0"))])(seen)
        if late and seen.one("after") == "5":
            gone.insert(0, late[0])  # behind the place, and one still to come
            gone.append(late.pop())
            late.clear()
        return shown

    for _ in range(3):
        result = bench.things(answer, cursor={"field": "at", "send": "since"}, deletes={"feed": feed})
        assert result.status == "succeeded", result.error
    assert not bench.live() & {"k00025", "k00026"}
