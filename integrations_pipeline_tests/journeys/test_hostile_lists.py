"""Lists that mislead: each behaviour of a source with what must hold, from its HTTP to the tables.

``whole`` compares what the source holds with raw and open quarantine, record by record. Every case bounds the requests
and looks at the status that was told.

| behaviour | test |
|---|---|
| empty pages in the middle, short pages, of each kind of pagination | `test_odd_pages_end_nothing` |
| an empty page where only a key leads on | `test_an_empty_page_of_a_keyset_is_no_end` |
| a last page that names itself; tokens that cycle with period 1, 2, 3 | `test_tokens_in_a_circle_…` |
| fresh tokens, or "more", for ever | `test_a_list_without_end_…` |
| `total` that lies | `test_a_total_that_lies_…` |
| `has_more` that contradicts the token | `test_more_without_a_token_is_no_success` |
| overlapping pages, one key twice in a page | `test_overlaps_…`, `test_the_newer_of_two_rows_in_a_page_stands` |
| rows inserted, deleted, re-sorted while the list is read | `test_rows_that_move_…`, `test_a_row_deleted_behind_…` |
| a token that expires in mid-list (410, 400) | `test_a_token_that_expires_in_mid_list` |
| ties across a page seam, also after a crash exactly there | `test_ties_across_a_seam_…` |
| records that appear below the watermark | `test_late_records_…` |
| stamps in the future | `test_a_stamp_in_the_future_hides_nothing` |
| the source's window of N rows | `test_a_window_is_narrowed_by_the_cursor`, `test_a_window_full_of_one_stamp_…` |
| smaller pages than asked | `test_smaller_pages_than_asked` |
| past the end: 404, 400, empty page | `test_past_the_end`, `test_a_404_in_mid_list_…` |
| relative next links | `test_relative_links` |
| children per parent with states of their own; a parent that vanishes | `test_a_parent_that_vanishes` |
| naive local stamps | `test_naive_local_stamps` |
| `at_most` | `test_an_implausible_refresh_deletes_nothing` |
| an interrupted full refresh | `test_an_interrupted_full_refresh_deletes_exactly_what_is_gone` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from integrations_pipeline.store.lease import Lease
from integrations_pipeline.sync import pull, reading
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made, paged

Rows = list[dict[str, Any]]
Pages = list[Rows]


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    with Source(lambda seen: Reply(status=500)) as source:
        yield Bench(database_url, source)


@pytest.fixture
def each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is a chunk of its own."""
    monkeypatch.setattr(pull, "CHUNK_RECORDS", 1)
    monkeypatch.setattr(reading, "CHUNK_RECORDS", 1)


def whole(bench: Bench, rows: Rows, stream: str = "things") -> None:
    """Nothing lost, doubled, stale or resurrected."""
    held = dict(bench.rows(f"SELECT external_id, payload FROM raw.acme__{stream} WHERE deleted_at IS NULL"))
    bad = {row[0] for row in bench.rows("SELECT external_id FROM integrations.quarantine WHERE status = 'open'")}
    assert held == {str(row["id"]): row for row in rows if str(row["id"]) not in bad}


def asked(bench: Bench, run: Callable[[], StreamResult], at_most: int) -> StreamResult:
    """One sync, its requests bounded."""
    before = len(bench.source.seen)
    result = run()
    assert len(bench.source.seen) - before <= at_most
    return result


def stamp(minute: int) -> str:
    return (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")


def stamped(count: int, first: int = 0) -> Rows:
    return [{**row, "at": stamp(number)} for number, row in list(enumerate(made(first + count)))[first:]]


def numbered_pages(seen: Seen, pages: Pages) -> Any:
    at = int(seen.one("page")) - 1
    return {"items": pages[at] if at < len(pages) else [], "pages": len(pages)}


def pages_with_more(seen: Seen, pages: Pages) -> Any:
    at = int(seen.one("page")) - 1
    return {"items": pages[at], "more": at + 1 < len(pages)}


def offsets(seen: Seen, pages: Pages) -> Any:
    """The rows lie at places of five; what isn't shown leaves its place empty."""
    at = int(seen.one("offset"))
    found = [row for number, page in enumerate(pages) for row in page if number * 5 <= at < number * 5 + 5]
    step = at % 5
    return {"items": found[step:], "more": at + 5 < 5 * len(pages)}


def tokens(seen: Seen, pages: Pages) -> Any:
    at = int(seen.one("after", "0"))
    return {"items": pages[at], **({"next": str(at + 1)} if at + 1 < len(pages) else {"next": None})}


def header_links(seen: Seen, pages: Pages) -> Any:
    at = int(seen.one("page", "0"))
    link = {"Link": f'<?page={at + 1}>; rel="next", <?page=0>; rel="first"'} if at + 1 < len(pages) else {}
    return Reply({"items": pages[at]}, headers=link)


def body_links(seen: Seen, pages: Pages) -> Any:
    at = int(seen.one("page", "0"))
    return {"items": pages[at], "link": f"/things?page={at + 1}" if at + 1 < len(pages) else ""}


FIVE = {"send": "limit", "value": 5}
KINDS: dict[str, tuple[dict[str, Any], Callable[[Seen, Pages], Any]]] = {
    "page_number by pages": ({"type": "page_number", "send": "page", "pages": "pages"}, numbered_pages),
    "page_number by more": ({"type": "page_number", "send": "page", "more": "more"}, pages_with_more),
    "offset": ({"type": "offset", "send": "offset", "more": "more", "size": FIVE}, offsets),
    "cursor": ({"type": "cursor", "read": "next", "send": "after"}, tokens),
    "link_header": ({"type": "link_header"}, header_links),
    "link_body": ({"type": "link_body", "read": "link"}, body_links),
}


def in_pages(*sizes: int) -> Pages:
    rows = iter(made(sum(sizes)))
    return [[next(rows) for _ in range(size)] for size in sizes]


def flat(pages: Pages) -> Rows:
    return [row for page in pages for row in page]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [(5, 0, 5), (5, 0, 0, 0, 5), (0, 5), (5, 5, 0)], ids=["one", "three", "first", "last"]
)
def test_odd_pages_end_nothing(bench: Bench, kind: str, sizes: tuple[int, ...]) -> None:
    pagination, serve = KINDS[kind]
    pages = in_pages(*sizes)
    for _ in range(2):
        bound = len(sizes) * (2 if kind == "offset" else 1)  # an offset begins with the last row of the page before
        result = asked(bench, lambda: bench.things(lambda s: serve(s, pages), pagination=pagination), bound)
        assert result.status == "succeeded"
        whole(bench, flat(pages))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "offset"])
def test_short_pages_end_nothing(bench: Bench, kind: str) -> None:
    pagination, serve = KINDS[kind]
    pages = in_pages(5, 1, 3, 5)
    assert asked(bench, lambda: bench.things(lambda s: serve(s, pages), pagination=pagination), 4).status == "succeeded"
    whole(bench, flat(pages))


def test_an_empty_page_of_a_keyset_is_no_end(bench: Bench) -> None:
    """Nothing leads on from it: that is said, and isn't taken for success."""
    rows = made(10)

    def answer(seen: Seen) -> Any:
        after = seen.one("after")
        return {"items": [] if after else rows[:5], "more": True}

    keyset = {"type": "keyset", "send": "after", "more": "more"}
    result = asked(bench, lambda: bench.things(answer, pagination=keyset), 2)
    assert (result.status, result.error and result.error.error_class) == ("failed", "contract")
    whole(bench, rows[:5])


@pytest.mark.parametrize("period", [1, 2, 3])
@pytest.mark.parametrize("kind", ["cursor", "link_body"])
def test_tokens_in_a_circle_are_no_success_and_every_page_lands(
    bench: Bench, each_page: None, kind: str, period: int
) -> None:
    """Period 1 is a last page that names itself. New records come in all the same with the next run."""
    pages = in_pages(2, 2, 2, 2)

    def answer(seen: Seen) -> Any:
        at = int(seen.one("after", "") or seen.one("page", "0"))
        following = at + 1 if at + 1 < len(pages) else len(pages) - period
        return {"items": pages[at], "next": str(following), "link": f"/things?page={following}"}

    run = lambda: bench.things(answer, pagination=KINDS[kind][0])  # noqa: E731
    for _ in range(3):
        result = asked(bench, run, len(pages))
        assert (result.status, result.error and result.error.error_class) == ("failed", "contract")
        assert "circle" in (result.error.what if result.error else "")
        whole(bench, flat(pages))
        pages[0].append({"id": f"new{len(pages[0])}"})
    run()
    whole(bench, flat(pages))


@pytest.mark.parametrize("kind", ["cursor", "page_number by more"])
def test_a_list_without_end_ends_at_the_cap_and_is_no_success(bench: Bench, kind: str) -> None:
    def answer(seen: Seen) -> Any:
        at = int(seen.one("after", "") or seen.one("page", "0"))
        return {"items": [{"id": f"k{at}"}], "next": str(at + 1), "more": True}

    pagination = {**KINDS[kind][0], "max_pages": 12}
    result = asked(bench, lambda: bench.things(answer, pagination=pagination), 12)
    assert (result.status, result.error and result.error.error_class) == ("failed", "contract")
    assert "max_pages" in (result.error.next if result.error else "")


@pytest.mark.parametrize("total", [0, 1, 7, 1000, "many", -3])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_total_that_lies_loses_and_invents_nothing(bench: Bench, total: Any, concurrency: int) -> None:
    rows = made(23)

    def answer(seen: Seen) -> Any:
        at = int(seen.one("offset"))
        return {"items": rows[at : at + 5], "total": total, "more": at + 5 < len(rows)}

    bench.concurrency = concurrency
    pagination = {"type": "offset", "send": "offset", "total": "total", "more": "more", "size": FIVE}
    result = asked(bench, lambda: bench.things(answer, pagination=pagination), 5 + 3 * concurrency)
    assert result.status == "succeeded"
    whole(bench, rows)


def test_more_without_a_token_is_no_success(bench: Bench) -> None:
    result = bench.things(
        lambda seen: {"items": made(3), "more": True}, pagination={**KINDS["cursor"][0], "more": "more"}
    )
    assert (result.status, result.error and result.error.error_class) == ("failed", "contract")


def test_overlaps_are_counted_and_not_doubled(bench: Bench, each_page: None) -> None:
    rows = made(12)
    pages = [rows[0:5], rows[3:8], rows[6:12]]
    result = bench.things(lambda seen: tokens(seen, pages))
    assert (result.counters.created, result.counters.superseded, result.counters.fetched) == (12, 4, 16)
    whole(bench, rows)


def test_the_newer_of_two_rows_in_a_page_stands(bench: Bench) -> None:
    older, newer = ({"id": "a", "at": stamp(minute), "is": minute} for minute in (1, 2))
    for page in ([older, newer], [newer, older]):
        bench.things(lambda seen, page=page: {"items": page}, version="at")
        whole(bench, [newer])


@pytest.mark.parametrize("kind", ["cursor", "keyset", "offset"])
def test_rows_that_move_while_they_are_read_are_there_once(bench: Bench, kind: str) -> None:
    """After the first page a row is put in front, and one is changed and moves to the end."""
    rows = stamped(20)
    moved = False

    def answer(seen: Seen) -> Any:
        nonlocal moved
        at = place_of(kind, seen, rows)
        shown, size = rows[at : at + 5], len(rows)
        found = {"items": shown, "more": at + 5 < size, "next": shown[-1]["id"] if at + 5 < size else None}
        if not moved:
            moved = True
            changed = {**rows.pop(2), "at": stamp(900), "changed": True}
            rows.insert(0, {"id": "front", "at": stamp(901)})
            rows.append(changed)
        return found

    pagination = {
        "cursor": KINDS["cursor"][0],
        "keyset": {"type": "keyset", "send": "after", "more": "more"},
        "offset": KINDS["offset"][0],
    }[kind]
    cursor = {"cursor": {"field": "at", "send": "since"}}
    result = asked(bench, lambda: bench.things(answer, pagination=pagination, **cursor), 6)
    assert result.status == "succeeded"
    bench.source.answer = lambda seen: {"items": [r for r in rows if r["at"] >= seen.one("since")], "more": False}
    bench.things(pagination=pagination, **cursor)
    whole(bench, rows)


def place_of(kind: str, seen: Seen, rows: Rows) -> int:
    if kind == "offset":
        return int(seen.one("offset"))
    after = seen.one("after")
    return next(number for number, row in enumerate(rows) if row["id"] == after) + 1 if after else 0


def test_a_row_deleted_behind_an_offset_hides_no_other(bench: Bench) -> None:
    """The rows after it move up, one of them past the seam: it is read all the same."""
    rows = made(20)
    hit = False

    def answer(seen: Seen) -> Any:
        nonlocal hit
        at = int(seen.one("offset"))
        found = {"items": rows[at : at + 5], "more": at + 5 < len(rows)}
        if not hit:
            hit = True
            rows.pop(1)
        return found

    snapshot: dict[str, Any] = {"deletes": {"snapshot": "1d"}, "pagination": KINDS["offset"][0]}
    deleted = rows[1]["id"]
    assert asked(bench, lambda: bench.things(answer, **snapshot), 8).status == "succeeded"
    assert bench.live() == {row["id"] for row in rows} | {deleted}, "it was read before it was deleted"
    assert bench.things(**snapshot).status == "succeeded"
    whole(bench, rows)


@pytest.mark.parametrize("status", [410, 400])
def test_a_token_that_expires_in_mid_list(bench: Bench, each_page: None, status: int) -> None:
    """It starts again once; where that fails too, it isn't tried for ever."""
    rows = made(30)
    left = 1

    def answer(seen: Seen) -> Any:
        nonlocal left
        if seen.one("after") == "15" and left:
            left -= 1
            return Reply({"code": "EXPIRED"}, status=status)
        return paged(rows)(seen)

    expired = {"errors": [{"status": 400, "when": {"code": "EXPIRED"}, "is": "cursor_expired"}]}
    result = asked(bench, lambda: bench.things(answer, **expired), 4 + 6)
    assert result.status == "succeeded"
    whole(bench, rows)
    left = 100
    result = asked(bench, lambda: bench.things(answer, **expired), 4 + 4)
    assert (result.status, result.error and result.error.error_class) == ("failed", "cursor_expired")
    whole(bench, rows)


@pytest.mark.parametrize("order", ["asc", "desc", "none"])
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_ties_across_a_seam_also_after_a_crash_there(
    bench: Bench, each_page: None, monkeypatch: pytest.MonkeyPatch, order: str, lost: int
) -> None:
    """Two stamps for twenty rows: each seam but one lies between equals. The list is filtered inclusively."""
    rows = [{**row, "at": stamp(number // 10)} for number, row in enumerate(made(20))]

    def answer(seen: Seen) -> Any:
        shown = sorted((row for row in rows if row["at"] >= seen.one("since")), key=lambda row: row["at"])
        return paged(shown[::-1] if order == "desc" else shown)(seen)

    cursor = {"cursor": {"field": "at", "send": "since", "order": order}}
    crash(monkeypatch, lost, lambda: bench.things(answer, **cursor))
    bench.things(**cursor)
    whole(bench, rows)
    rows += [{"id": "tied", "at": stamp(1)}, {"id": "later", "at": stamp(2)}]
    crash(monkeypatch, 1, lambda: bench.things(**cursor))
    assert bench.things(**cursor).status == "succeeded"
    whole(bench, rows)


def crash(monkeypatch: pytest.MonkeyPatch, at: int, run: Callable[[], Any]) -> None:
    """The process ends in the place of the n-th commit, as by a signal; nothing is caught on the way."""
    commit, calls = Lease.commit_chunk, iter(range(1, 1000))

    def crashing(lease: Lease, chunk: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return commit(lease, chunk)

    with monkeypatch.context() as patched:
        patched.setattr(Lease, "commit_chunk", crashing)
        with pytest.raises(KeyboardInterrupt):
            run()


def filtered(rows: Rows) -> Callable[[Seen], Any]:
    """Those at or past `since`, in pages of five with tokens."""
    return lambda seen: paged([row for row in rows if row["at"] >= seen.one("since")])(seen)


def test_late_records_within_the_lookback_arrive(bench: Bench) -> None:
    cursor = {"cursor": {"field": "at", "send": "since", "lookback": "10m"}}
    rows = stamped(20)
    bench.things(filtered(rows), **cursor)
    rows.append({"id": "late", "at": stamp(10)})
    asked(bench, lambda: bench.things(**cursor), 3)
    whole(bench, rows)


def test_late_records_beyond_the_lookback_arrive_with_the_next_full_refresh(bench: Bench) -> None:
    cursor: dict[str, Any] = {"cursor": {"field": "at", "send": "since"}, "deletes": {"snapshot": "7d"}}
    rows = stamped(20)
    bench.things(filtered(rows), **cursor)
    rows.append({"id": "late", "at": stamp(3)})
    bench.things(**cursor)
    bench.things(full=True, **cursor)
    whole(bench, rows)


def test_a_stamp_in_the_future_hides_nothing(bench: Bench) -> None:
    cursor = {"cursor": {"field": "at", "send": "since"}}
    rows = [*stamped(6), {"id": "ahead", "at": "2999-01-01T00:00:00Z"}]
    bench.things(filtered(rows), **cursor)
    for number in range(3):
        rows.append({"id": f"new{number}", "at": stamp(100 + number)})
        bench.things(**cursor)
        whole(bench, rows)


WINDOW = {"type": "cursor", "read": "next", "send": "after", "size": FIVE, "max_records": 10}


def test_a_window_is_narrowed_by_the_cursor(bench: Bench) -> None:
    rows = stamped(47)

    def answer(seen: Seen) -> Any:
        return paged([row for row in rows if row["at"] >= seen.one("since")], fails_at=10)(seen)

    cursor = {"cursor": {"field": "at", "send": "since", "order": "asc"}, "pagination": WINDOW}
    for _ in range(2):
        assert asked(bench, lambda: bench.things(answer, **cursor), 14).status == "succeeded"
        whole(bench, rows)


def test_a_window_full_of_one_stamp_is_no_success(bench: Bench) -> None:
    rows = [{**row, "at": stamp(1)} for row in made(30)]

    def answer(seen: Seen) -> Any:
        return paged([row for row in rows if row["at"] >= seen.one("since")], fails_at=10)(seen)

    cursor = {"cursor": {"field": "at", "send": "since", "order": "asc"}, "pagination": WINDOW}
    result = asked(bench, lambda: bench.things(answer, **cursor), 6)
    assert (result.status, result.error and result.error.error_class) == ("failed", "contract")


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", ["offset", "page_number"])
def test_smaller_pages_than_asked(bench: Bench, kind: str, concurrency: int) -> None:
    """Fifty are asked for, four come: the next offset follows what came."""
    rows = made(22)

    def answer(seen: Seen) -> Any:
        at = int(seen.one("offset")) if kind == "offset" else (int(seen.one("page")) - 1) * 4
        return {"items": rows[at : at + 4], "total": 22, "more": at + 4 < len(rows)}

    bench.concurrency = concurrency
    send = "offset" if kind == "offset" else "page"
    size = {"send": "limit", "value": 50}
    pagination = {"type": kind, "send": send, "more": "more", "total": "total", "size": size}
    result = asked(bench, lambda: bench.things(answer, pagination=pagination), 6 + 3 * concurrency)
    assert result.status == "succeeded"
    whole(bench, rows)


@pytest.mark.parametrize("past", [404, 400, "empty"])
def test_past_the_end(bench: Bench, past: Any) -> None:
    """A page-number list that tells of no end: by a declared answer, or after two empty pages."""
    rows = made(15)

    def answer(seen: Seen) -> Any:
        at = (int(seen.one("page")) - 1) * 5
        if at >= len(rows) and past != "empty":
            return Reply({"code": "PAST"}, status=past)
        return {"items": rows[at : at + 5]}

    numbers = {"pagination": {"type": "page_number", "send": "page"}}
    ended = {**numbers, "errors": [{"status": past, "when": {"code": "PAST"}, "is": "end_of_list"}]}
    result = asked(bench, lambda: bench.things(answer, **(numbers if past == "empty" else ended)), 5)
    assert result.status == "succeeded"
    whole(bench, rows)
    if past != "empty":
        assert bench.things(**numbers).status == "failed", "undeclared, it isn't taken for the end"


def test_a_404_in_mid_list_keeps_what_was_read_and_is_no_success(bench: Bench, each_page: None) -> None:
    rows = made(20)
    result = asked(bench, lambda: bench.things(paged(rows, fails_at=10, status=404)), 3)
    assert result.status == "failed"
    whole(bench, rows[:10])
    assert asked(bench, lambda: bench.things(paged(rows)), 2).status == "succeeded"
    whole(bench, rows)


@pytest.mark.parametrize("link", ["?page={}", "/things?page={}", "things?page={}", "{url}/things?page={}"])
def test_relative_links(bench: Bench, link: str) -> None:
    pages = in_pages(3, 3, 3)

    def answer(seen: Seen) -> Any:
        at = int(seen.one("page", "0"))
        following = link.replace("{url}", bench.source.url).format(at + 1)
        return {"items": pages[at], "link": following if at + 1 < len(pages) else None}

    assert asked(bench, lambda: bench.things(answer, pagination=KINDS["link_body"][0]), 3).status == "succeeded"
    whole(bench, flat(pages))


def test_a_parent_that_vanishes(bench: Bench, each_page: None) -> None:
    """Each parent's list goes on from its own watermark; one that is gone costs its own list and no other."""
    shops = made(4)
    notes = {
        shop["id"]: [{"id": f"{shop['id']}-{n}", "at": stamp(n), "shop": shop["id"]} for n in range(7)]
        for shop in shops
    }

    def answer(seen: Seen) -> Any:
        if seen.path == "/shops":
            return {"items": [*shops, {"id": "gone"}]}
        shop = seen.path.split("/")[2]
        return filtered(notes[shop])(seen) if shop in notes else Reply(status=404)

    child = {**THINGS, "request": "GET /shops/<shops.id>/notes", "cursor": {"field": "at", "send": "since"}}
    bench.streams = {"shops": {**THINGS, "request": "GET /shops"}, "notes": child}
    assert bench.sync(answer)["notes"].status == "succeeded"
    whole(bench, [row for rows in notes.values() for row in rows], "notes")
    vanished = notes.pop("k00001")
    notes["k00002"].append({"id": "k00002-new", "at": stamp(50), "shop": "k00002"})
    result = asked(bench, lambda: bench.sync()["notes"], 1 + 5)
    assert (result.status, result.counters.created) == ("succeeded", 1)
    assert [seen.one("since") for seen in bench.source.seen[-5:]] == ["", *["2024-01-01T00:05:59Z"] * 4]
    whole(bench, [*vanished, *(row for rows in notes.values() for row in rows)], "notes")


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata"])
def test_naive_local_stamps(bench: Bench, zone: str) -> None:
    """The source writes and reads local times without a zone, also in the hour that comes twice."""
    pattern, here = "%Y-%m-%d %H:%M:%S", ZoneInfo(zone)
    begin = (
        datetime(2024, 10, 27, 0, tzinfo=UTC) if zone != "America/New_York" else datetime(2024, 11, 3, 5, tzinfo=UTC)
    )
    rows: Rows = []

    def add(minutes: int) -> None:
        moment = (begin + timedelta(minutes=minutes)).astimezone(here)
        rows.append({"id": f"m{minutes}", "at": moment.strftime(pattern)})

    def answer(seen: Seen) -> Any:
        return paged([row for row in rows if row["at"] >= seen.one("since")], 50)(seen)

    declared = {
        "cursor": {"field": "at", "send": "since", "format": pattern},
        "fields": {"at": {"type": "timestamp", "formats": [pattern], "zone": zone}},
    }
    for minutes in range(0, 240, 30):
        add(minutes)
        assert bench.things(answer, **declared).status == "succeeded"
        whole(bench, rows)


def test_an_implausible_refresh_deletes_nothing(bench: Bench) -> None:
    rows = made(50)
    snapshot: dict[str, Any] = {"deletes": {"snapshot": "7d", "at_most": "10%"}}
    bench.things(paged(rows), **snapshot)
    result = bench.things(paged(rows[:40]), full=True, **snapshot)
    assert (result.status, result.error and result.error.error_class) == ("failed", "contract")
    assert "at_most" in (result.error.next if result.error else "")
    whole(bench, rows)
    assert bench.things(paged(rows[:46]), full=True, **snapshot).counters.tombstoned == 4
    whole(bench, rows[:46])


@pytest.mark.parametrize("lost", [1, 2, 4])
def test_an_interrupted_full_refresh_deletes_exactly_what_is_gone(
    bench: Bench, each_page: None, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Gone before it was begun, and gone in its middle, behind the place it had reached and before it."""
    rows = stamped(40)
    declared: dict[str, Any] = {"deletes": {"snapshot": "7d"}, "cursor": {"field": "at", "send": "since"}}

    def answer(seen: Seen) -> Any:
        after = seen.one("after")
        left = [row for row in rows if row["id"] > after and row["at"] >= seen.one("since")]
        return {"items": left[:5], "next": left[4]["id"] if len(left) > 5 else None}

    bench.things(answer, **declared)
    rows = [row for row in rows if row["id"] not in ("k00003", "k00030")]
    crash(monkeypatch, lost, lambda: bench.things(full=True, **declared))
    rows = [row for row in rows if row["id"] not in ("k00001", "k00038")]
    before = len(bench.source.seen)
    result = bench.things(full=True, **declared)
    assert result.status == "succeeded"
    assert len(bench.source.seen) - before <= 8 - (lost - 1)
    seen_before = {"k00001"} if lost > 1 else set()
    held = bench.live()
    assert held - {row["id"] for row in rows} == seen_before
    bench.things(full=True, **declared)
    whole(bench, rows)
