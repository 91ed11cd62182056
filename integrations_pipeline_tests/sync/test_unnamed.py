"""Rows whose key can't be read, in a full refresh: which record each is nobody can tell. No living record gets a
tombstone for it, and what is provably gone gets one all the same."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.retrying import discard
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.client.source import Seen
from integrations_pipeline_tests.sync.conftest import Bench, keys, made, paged

SNAPSHOT: dict[str, Any] = {"deletes": {"snapshot": "7d"}}
OPEN = "SELECT count(*) FROM integrations.quarantine WHERE status = 'open'"
Rows = list[dict[str, Any]]


def refresh(bench: Bench, rows: Rows, kept: int = 0, **more: Any) -> None:
    """A full refresh that says how many lacking records it kept."""
    result = bench.things(paged(rows), full=True, **{**SNAPSHOT, **more})
    assert result.status == "succeeded", result.error
    (noted,) = bench.rows("SELECT note FROM integrations.run_log ORDER BY started_at DESC LIMIT 1")
    assert (result.note or "").startswith(f"{kept} records are lacking and were kept") if kept else not result.note
    assert noted == (result.note,)


def without_key(rows: Rows, *numbers: int) -> Rows:
    return [{**row, "id": None} if number in numbers else row for number, row in enumerate(rows)]


@pytest.fixture
def rows(bench: Bench) -> Rows:
    made_ = [{**row, "name": f"n{number}"} for number, row in enumerate(made(60))]
    refresh(bench, made_)
    return made_


def test_a_record_whose_key_comes_null_stays_alive_as_long_as_it_comes_so(bench: Bench, rows: Rows) -> None:
    for _ in range(3):
        refresh(bench, without_key(rows, 7), kept=1)
        assert bench.live() == keys(rows)
    assert bench.rows(OPEN) == [(1,)]
    refresh(bench, rows)
    assert bench.live() == keys(rows)
    assert bench.rows(OPEN) == [(0,)]  # it isn't met any more


def test_what_goes_later_is_gone_though_such_a_row_is_still_there(bench: Bench, rows: Rows) -> None:
    bad = without_key(rows, 7)
    refresh(bench, bad, kept=1)
    del bad[20:25]
    refresh(bench, bad, kept=1)
    assert bench.live() == keys(rows) - {f"k{number:05}" for number in range(20, 25)}


def test_what_went_at_the_same_time_waits_until_the_row_has_its_key_again(bench: Bench, rows: Rows) -> None:
    bad = without_key(rows, 7)
    del bad[20:25]
    for _ in range(2):
        refresh(bench, bad, kept=6)
        assert bench.live() == keys(rows)
    well = rows[:20] + rows[25:]
    refresh(bench, well)
    assert bench.live() == keys(well)


def test_what_is_known_to_be_deleted_meanwhile_is_kept_no_longer(bench: Bench, rows: Rows) -> None:
    bad = without_key(rows, 7)
    del bad[20:25]
    refresh(bench, bad, kept=6)
    gone = [{"key": f"k{number:05}"} for number in range(20, 25)]
    feed = {"call": {"request": "GET /gone"}, "records": "items", "key": "key"}
    told: dict[str, Any] = {"deletes": {"snapshot": "7d", "feed": feed}}
    answer = paged(bad)
    result = bench.things(lambda seen: {"items": gone} if seen.path == "/gone" else answer(seen), full=True, **told)
    assert (result.note or "").startswith("1 records are lacking")
    assert bench.live() == keys(rows) - {row["key"] for row in gone}


def test_the_same_row_once_more_is_another_record(bench: Bench, rows: Rows) -> None:
    rows = [{"id": row["id"]} for row in rows]
    refresh(bench, without_key(rows, 7), kept=1)
    refresh(bench, without_key(rows, 7, 8), kept=2)
    assert bench.live() == keys(rows)


def test_rubbish_that_was_always_there_stops_no_delete(bench: Bench) -> None:
    rubbish: Rows = [{"id": None, "name": "total"}]
    rows = made(60)
    for gone in range(3):
        refresh(bench, rows[gone:] + rubbish)
        assert bench.live() == keys(rows[gone:])


@pytest.mark.parametrize("how", ["discarded", "skipped"])
def test_a_person_says_that_it_is_no_record(bench: Bench, rows: Rows, how: str) -> None:
    bad = [*rows[1:], {"id": None, "name": "total"}]
    refresh(bench, bad, kept=1)
    if how == "discarded":
        with (
            Store(bench.database_url) as store,
            take_lease(store.connect, "acme", "things", uuid4()) as lease,
        ):
            assert discard(lease, None, "it is a sum") == 1
        refresh(bench, bad)
    else:
        edited = bench.things(paged(bad), **SNAPSHOT, skip={"name": "total"})
        assert edited.note is not None and "kept" not in edited.note
    assert bench.live() == keys(rows[1:])


def test_an_answer_far_too_short_is_still_refused(bench: Bench, rows: Rows) -> None:
    result = bench.things(paged(without_key(rows, 7)[:20]), full=True, **SNAPSHOT)
    assert result.error is not None and result.error.error_class == "contract"
    assert bench.live() == keys(rows)
    refresh(bench, without_key(rows, 7), kept=1)


def test_across_a_crash_the_row_is_the_same(bench: Bench, rows: Rows, small_chunks: None) -> None:
    bad = without_key(rows, 7)
    cut = bench.things(paged(bad, fails_at=30, status=503), full=True, **SNAPSHOT)
    assert cut.status == "deferred"
    refresh(bench, bad, kept=1)
    refresh(bench, bad, kept=1)
    assert bench.live() == keys(rows)


def test_without_snapshots_a_row_that_came_well_is_closed_too(bench: Bench) -> None:
    rows = made(30)
    bench.things(paged(without_key(rows, 3)))
    assert bench.rows(OPEN) == [(1,)]
    bench.things(paged(rows, fails_at=20))
    assert bench.rows(OPEN) == [(1,)]  # not to its end
    for _ in range(2):  # the first goes on in the middle
        bench.things(paged(rows))
    assert bench.rows(OPEN) == [(0,)]


def test_inside_a_parent_the_rows_before_stay(bench: Bench) -> None:
    bench.streams = {
        "orders": {"request": "GET /orders", "records": "items", "primary_key": "id"},
        "lines": {"parent": "orders", "records": "lines", "primary_key": "id"},
    }
    orders: Rows = [
        {"id": "o1", "lines": [{"id": "a"}, {"id": "b"}]},
        {"id": "o2", "lines": [{"id": "c"}, {"id": "d"}]},
    ]

    def read(first: Any, second: Any) -> str | None:
        orders[0]["lines"], orders[1]["lines"] = first, second
        return bench.sync(lambda seen: {"items": orders})["lines"].note

    read([{"id": "a"}, {"id": "b"}], [{"id": "c"}, {"id": "d"}])
    note = read([{"id": "a"}, {"id": None}], [{"id": "c"}])
    assert note is not None and note.startswith("1 records of orders hold rows whose key can't be read")
    assert bench.live("lines") == {"a", "b", "c"}
    assert read([{"id": "a"}], [{"id": "c"}]) is None
    assert bench.live("lines") == {"a", "c"}
    assert bench.rows(OPEN) == [(0,)]


def test_below_parents_it_is_the_same(bench: Bench) -> None:
    bench.streams = {
        "people": {"request": "GET /people", "records": "items", "primary_key": "id"},
        "things": {"request": "GET /people/<people.id>/things", "records": "items", "primary_key": "id", **SNAPSHOT},
    }
    rows = made(30)

    def answer(seen: Seen) -> Any:
        return {"items": [{"id": "p"}]} if seen.path == "/people" else paged(rows)(seen)

    bench.sync(answer)
    rows = without_key(rows, 3)
    for _ in range(2):
        assert (bench.sync(answer, full=True)["things"].note or "").startswith("1 records are lacking")
        assert bench.live() == keys(made(30))
