"""The feed of deletions: what it says is gone, whatever is made anew, interrupted or told again meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.store.lease import Lease
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, keys, made

TIMED = {"call": "GET /gone", "records": "items", "key": "ref", "cursor": {"field": "at", "send": "since"}}
CURSOR = {"field": "at", "send": "since", "lookback": "1h"}
DAY = "2024-01-01T"


class Shop:
    """What the source holds, and the deletions it tells of; each row has a time in `at`."""

    def __init__(self, count: int = 0, at: str = "10:00:00"):
        self.rows = {row["id"]: row for row in made(count, at=f"{DAY}{at}Z")}
        self.gone: list[dict[str, Any]] = []
        self.fails: Callable[[Seen], Reply | None] = lambda seen: None

    def put(self, key: str, at: str, **values: Any) -> None:
        self.rows[key] = {"id": key, "at": f"{DAY}{at}Z", **values}

    def delete(self, key: str, at: str, **more: Any) -> None:
        self.rows.pop(key, None)
        self.gone.append({"ref": key, "at": f"{DAY}{at}Z", **more})

    def __call__(self, seen: Seen) -> Any:
        if failure := self.fails(seen):
            return failure
        rows = self.gone if seen.path == "/gone" else list(self.rows.values())
        shown = sorted((row for row in rows if row["at"] >= seen.one("since")), key=lambda row: row["at"])
        at = int(seen.one("after", "0"))
        return {"items": shown[at : at + 5], **({"next": str(at + 5)} if at + 5 < len(shown) else {})}


def declared(feed: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"cursor": CURSOR, "deletes": {"feed": feed or TIMED, **more}}


def test_what_the_feed_tells_is_gone_and_counted_once(bench: Bench) -> None:
    shop = Shop(12)
    bench.kinds = {"item": Kind.model_validate({"kind": "item", "fields": {"name": {"type": "string"}}})}
    mapped = {**declared(), "map": {"to": "item", "fields": {"name": "id"}}}
    assert bench.things(shop, **mapped).counters.created == 12
    shop.delete("k00003", "11:00:00")
    shop.delete("k00007", "11:00:01")
    shop.put("k00012", "11:00:02")
    result = bench.things(**mapped)
    assert (result.counters.deleted, result.counters.created, result.shaped.deleted) == (2, 1, 2)
    assert bench.live() == keys(list(shop.rows.values()))
    assert bench.rows("SELECT count(*) FROM canonical.item WHERE deleted_at IS NULL") == [(11,)]
    again = bench.things(**mapped)
    assert (again.counters.deleted, again.counters.updated, again.counters.created) == (0, 0, 0)
    assert bench.live() == keys(list(shop.rows.values()))
    assert bench.rows("SELECT payload ->> 'id' FROM raw.acme__things WHERE external_id = 'k00003'") == [("k00003",)]


@pytest.mark.parametrize("anew", ["11:00:00", "11:00:05"])
def test_a_record_deleted_and_made_anew_never_flips(bench: Bench, anew: str) -> None:
    """Also within the same second, and while both lists tell it again within their lookback."""
    shop = Shop(8)
    feed = {**TIMED, "cursor": {"field": "at", "send": "since", "lookback": "30m"}}
    bench.things(shop, **declared(feed))
    shop.delete("k00003", "11:00:00")
    shop.put("k00003", anew, is_new=True)
    for _ in range(3):
        bench.things(**declared(feed))
        assert "k00003" in bench.live()
    before = bench.rows("SELECT * FROM raw.acme__things ORDER BY external_id")
    counters = bench.things(**declared(feed)).counters
    assert (counters.updated, counters.deleted) == (0, 0)
    assert bench.rows("SELECT * FROM raw.acme__things ORDER BY external_id") == before
    shop.delete("k00003", "11:00:09")
    bench.things(**declared(feed))
    assert "k00003" not in bench.live()


def test_a_deletion_older_than_the_record_is_superseded(bench: Bench) -> None:
    shop = Shop(3, at="12:00:00")
    bench.things(shop, **declared())
    shop.gone.append({"ref": "k00001", "at": f"{DAY}11:00:00Z"})  # came late
    bench.rows("UPDATE integrations.stream_state SET feed = NULL RETURNING 1")
    assert bench.things(**declared()).counters.superseded == 1
    assert bench.live() == keys(made(3))


def test_a_deletion_told_first_keeps_a_late_older_version_out(bench: Bench) -> None:
    shop = Shop(3)
    bench.things(shop, **declared())
    shop.delete("unknown", "11:00:00")
    bench.things(**declared())
    shop.put("unknown", "10:30:00")
    bench.things(**declared())
    assert bench.live() == keys(made(3))


def test_a_feed_without_times_counts_in_the_order_of_reading(bench: Bench) -> None:
    """An opaque mark: each deletion is told once. The list is read after it, so what it shows is there."""
    shop = Shop(4)
    feed = {"call": "GET /log", "records": "items", "key": "ref", "cursor": {"read": "mark", "send": "mark"}}

    def answer(seen: Seen) -> Any:
        told = int(seen.one("mark") or 0)
        return {"items": shop.gone[told:], "mark": str(len(shop.gone))} if seen.path == "/log" else shop(seen)

    bench.things(answer, **declared(feed))
    shop.delete("k00001", "11:00:00")
    shop.delete("k00002", "11:00:00")
    shop.put("k00002", "11:00:01")
    for _ in range(3):
        bench.things(**declared(feed))
        assert bench.live() == {"k00000", "k00002", "k00003"}
    told = [seen.one("mark") for seen in bench.source.seen if seen.path == "/log"]
    assert told == ["", "0", "2", "2"]


def test_a_rate_limit_in_mid_feed_defers_the_run_and_the_next_goes_on(bench: Bench, small_chunks: None) -> None:
    shop = Shop(40)
    bench.things(shop, **declared())
    for number in range(30):
        shop.delete(f"k{number:05}", "11:00:00")
    slow = Reply(status=429, headers={"Retry-After": "3600"})
    shop.fails = lambda seen: slow if seen.path == "/gone" and seen.one("after") == "15" else None
    asked = len(bench.source.seen)
    result = bench.things(**declared())
    assert (result.status, result.counters.deleted) == ("deferred", 15)
    assert result.resume_at is not None
    assert {seen.path for seen in bench.source.seen[asked:]} == {"/gone"}
    shop.fails = lambda seen: None
    asked = len(bench.source.seen)
    assert bench.things(**declared()).counters.deleted == 15
    assert bench.source.seen[asked].one("after") == "15", "committed pages of the feed were read again"
    assert bench.live() == keys(made(40)[30:])


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_crash_at_any_commit_loses_and_doubles_nothing(
    bench: Bench, small_chunks: None, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    shop = Shop(20)
    bench.things(shop, **declared())
    for number in range(12):
        shop.delete(f"k{number:05}", "11:00:00")
    shop.put("k00002", "11:00:00")
    commit, calls = Lease.commit_chunk, iter(range(1, 100))

    def crashing(lease: Lease, chunk: Any) -> Any:
        if next(calls) == lost:
            raise KeyboardInterrupt
        return commit(lease, chunk)

    monkeypatch.setattr(Lease, "commit_chunk", crashing)
    with pytest.raises(KeyboardInterrupt):
        bench.things(**declared())
    monkeypatch.setattr(Lease, "commit_chunk", commit)
    bench.things(**declared())
    assert bench.live() == keys(list(shop.rows.values()))
    assert bench.rows("SELECT count(*) FROM integrations.decision WHERE reason = 'in the feed of deletions'") == [(12,)]


def expired(seen: Seen) -> Reply | None:
    return Reply(status=410) if seen.path == "/gone" and seen.one("since") else None


def read_once(bench: Bench, **more: Any) -> Shop:
    """A shop whose feed was read up to a deletion."""
    shop = Shop(20)
    shop.delete("former", "09:00:00")
    bench.things(shop, **declared(**more))
    return shop


def test_a_feed_that_has_forgotten_makes_the_run_a_full_refresh(bench: Bench) -> None:
    shop = read_once(bench, snapshot="30d")
    shop.delete("k00001", "11:00:00")
    shop.gone.clear()
    shop.fails = expired
    result = bench.things(**declared(snapshot="30d"))
    assert (result.status, result.counters.tombstoned) == ("succeeded", 1)
    assert bench.live() == keys(list(shop.rows.values()))
    assert bench.rows("SELECT mode FROM integrations.run_log ORDER BY started_at DESC LIMIT 1") == [("full",)]
    shop.fails = lambda seen: None
    bench.things(**declared(snapshot="30d"))
    assert bench.rows("SELECT mode FROM integrations.run_log ORDER BY started_at DESC LIMIT 1") == [("incremental",)]


def test_a_full_refresh_that_is_due_to_the_feed_is_not_forgotten_when_it_fails(bench: Bench) -> None:
    shop = read_once(bench, snapshot="30d")
    shop.delete("k00001", "11:00:00")
    shop.gone.clear()
    shop.fails = lambda seen: expired(seen) or (Reply(status=422) if seen.path == "/things" else None)
    assert bench.things(**declared(snapshot="30d")).status == "failed"
    shop.fails = lambda seen: None
    assert bench.things(**declared(snapshot="30d")).counters.tombstoned == 1
    assert bench.live() == keys(list(shop.rows.values()))


def test_a_feed_that_has_forgotten_is_said_where_no_refresh_could_find_what_is_gone(bench: Bench) -> None:
    shop = read_once(bench)
    shop.fails = expired
    result = bench.things(**declared())
    assert result.error is not None and result.error.error_class == "cursor_expired"
    assert "snapshot" in result.error.next
    shop.fails = lambda seen: None
    shop.delete("k00001", "11:00:00")
    assert bench.things(**declared()).status == "succeeded"
    assert bench.live() == keys(list(shop.rows.values()))


def test_a_bad_entry_costs_one_row(bench: Bench) -> None:
    shop = Shop(6)
    bench.things(shop, **declared())
    shop.delete("k00001", "11:00:00")
    shop.gone += [{"ref": None, "at": f"{DAY}11:00:00Z"}, {"ref": "k00002", "at": f"{DAY}25:99:00Z"}]
    counters = bench.things(**declared()).counters
    assert (counters.deleted, counters.quarantined) == (1, 2)
    assert bench.live() == keys(made(6)) - {"k00001"}


def test_several_fields_make_the_key(bench: Bench) -> None:
    rows = [{"shop": "a", "number": n} for n in range(4)]
    gone: list[dict[str, Any]] = []
    feed = {"call": "GET /gone", "records": "items", "key": "."}
    two = {"primary_key": ["shop", "number"], "deletes": {"feed": feed}}
    bench.things(lambda seen: {"items": gone if seen.path == "/gone" else rows}, **two)
    gone.append(rows.pop(2))
    for deleted in (1, 0):
        assert bench.things(**two).counters.deleted == deleted
        assert bench.live() == {'["a",0]', '["a",1]', '["a",3]'}


def test_a_list_that_goes_on_was_begun_before_the_deletions(bench: Bench, small_chunks: None) -> None:
    """A feed without times: a list that showed the record before it was deleted must not bring it back."""
    feed = {"call": "GET /gone", "records": "items", "key": "ref"}
    shop = Shop(20)
    shown = list(shop.rows.values())  # the source's list is a picture of the moment it was begun
    broken = True

    def answer(seen: Seen) -> Any:
        if seen.path == "/gone":
            return shop(seen)
        at = int(seen.one("after", "0"))
        if broken and at == 10:
            return Reply(status=422)
        return {"items": shown[at : at + 5], **({"next": str(at + 5)} if at + 5 < 20 else {})}

    bench.things(answer, **declared(feed))
    shop.delete("k00015", "11:00:00")
    broken = False
    bench.things(**declared(feed))
    shown = list(shop.rows.values())
    shown += [{**shown[0], "id": "more"}]
    shop.rows["more"] = shown[-1]
    bench.things(**declared(feed))
    assert bench.live() == keys(list(shop.rows.values()))


def test_below_parents_the_feed_is_read_once_a_round(bench: Bench) -> None:
    shop = Shop(10)
    bench.streams = {
        "shops": {"request": "GET /shops", "records": "items", "primary_key": "id"},
        "things": {**THINGS, **declared(), "request": "GET /shops/<shops.id>/things"},
    }

    def answer(seen: Seen) -> Any:
        if seen.path == "/shops":
            return {"items": [{"id": "a"}, {"id": "b"}]}
        return {"items": []} if "/b/" in seen.path else shop(seen)

    bench.sync(answer)
    shop.delete("k00004", "11:00:00")
    asked = len(bench.source.seen)
    assert bench.sync()["things"].counters.deleted == 1
    assert bench.live() == keys(list(shop.rows.values()))
    assert [seen.path for seen in bench.source.seen[asked:]].count("/gone") == 1


def test_nothing_new_in_the_list_leaves_the_feed_to_be_read(bench: Bench) -> None:
    shop = Shop(4)
    probed = {**declared(), "probe": "etag"}

    def answer(seen: Seen) -> Any:
        if seen.path == "/gone":
            return shop(seen)
        return Reply(status=304) if seen.headers.get("If-None-Match") else Reply(shop(seen), headers={"ETag": '"1"'})

    for _ in range(3):
        bench.things(answer, **probed)
    shop.delete("k00001", "11:00:00")
    bench.things(**probed)
    assert bench.live() == keys(list(shop.rows.values()))
