"""Reading ahead: faster, in order, within bounds, and nothing left behind."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from integrations_pipeline.spec.errors import SourceConfigError
from integrations_pipeline.spec.limits import READ_AHEAD_PAGES
from integrations_pipeline_tests.client.conftest import Bench, rows
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.patience import until

COUNTED = {"type": "offset", "send": "offset", "total": "total", "size": {"send": "limit", "value": 10}}
NUMBERED = {"type": "page_number", "send": "page", "pages": "pages", "size": {"send": "limit", "value": 10}}


def stream(pagination: dict[str, Any]) -> dict[str, Any]:
    return {"things": {"request": "GET /things", "records": "items", "primary_key": "id", "pagination": pagination}}


def slow_pages(pages: int, delay: float) -> Any:
    def answer(seen: Seen) -> Reply:
        begin = (int(seen.one("page")) - 1) * 10 if "page" in seen.query else int(seen.one("offset"))
        items = rows(pages * 10)[begin : begin + 10]
        return Reply({"items": items, "total": pages * 10, "pages": pages}, delay=delay)

    return answer


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("form", [COUNTED, NUMBERED], ids=["offset", "page_number"])
def test_counted_lists_are_read_by_several_workers_in_order(bench: Bench, form: dict[str, Any]) -> None:
    pages, together = slow_pages(40, 0), threading.Barrier(4)

    def answer(seen: Seen) -> Reply:
        if (
            2 <= len(source.seen) <= 5
        ):  # the page after the first, and three more: answered when all four were asked for
            together.wait(60)
        return pages(seen)  # type: ignore[no-any-return]

    source = bench.source(answer)
    client = bench.client(source.url, stream(form), concurrency=4)
    assert [row["id"] for page in client.pages("things") for row in page.rows] == list(range(400))
    assert not together.broken


def test_a_list_that_can_not_be_counted_is_read_one_page_ahead(bench: Bench) -> None:
    def answer(seen: Seen) -> Reply:
        page = int(seen.one("after", "0"))
        return Reply({"items": rows(1, page), "next": page + 1 if page < 9 else None})

    source = bench.source(answer)
    client = bench.client(source.url, stream({"type": "cursor", "read": "next", "send": "after"}), concurrency=8)
    for page in client.pages("things"):
        until(lambda page=page: page.next is None or len(source.seen) == page.number + 2)
        assert len(source.seen) <= page.number + 2


def test_what_is_held_ahead_is_bounded(bench: Bench) -> None:
    source = bench.source(slow_pages(100, 0))
    client = bench.client(source.url, stream(COUNTED), concurrency=4)
    pages = client.pages("things")
    for taken in range(1, 4):
        next(pages)
        time.sleep(0.15)
        assert len(source.seen) <= taken + READ_AHEAD_PAGES
    pages.close()  # type: ignore[attr-defined]


def test_workers_share_the_rate_limit(bench: Bench) -> None:
    source = bench.source(slow_pages(20, 0))
    client = bench.client(source.url, stream(NUMBERED), concurrency=8, limits=["50 per 1s"])
    began = time.monotonic()
    assert len(list(client.pages("things"))) == 20
    assert time.monotonic() - began >= 19 / 50


def test_closing_the_pages_ends_all_threads(bench: Bench) -> None:
    source = bench.source(slow_pages(1000, 0.3))
    client = bench.client(source.url, stream(NUMBERED), concurrency=4)
    pages = client.pages("things")
    next(pages)
    until(lambda: len(threads()) == 4)
    pages.close()  # type: ignore[attr-defined]
    assert threads() == []
    assert len(source.seen) < 100


def test_a_list_read_to_its_end_leaves_no_thread(bench: Bench) -> None:
    source = bench.source(slow_pages(5, 0))
    list(bench.client(source.url, stream(NUMBERED), concurrency=4).pages("things"))
    assert threads() == []


def test_a_failure_ahead_is_raised_behind_the_pages_before_it(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page"))
        return Reply({}, 400) if page == 4 else {"items": rows(10, page), "pages": 9}

    client = bench.client(bench.source(answer).url, stream(NUMBERED), concurrency=4)
    pages = client.pages("things")
    assert [next(pages).number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceConfigError):
        next(pages)
    assert threads() == []


def test_a_guess_beyond_the_end_harms_nothing(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page"))
        if page > 3:
            return Reply({}, 404)
        return {"items": rows(10, page * 10), "pages": 9, "more": page < 3}

    form = {**NUMBERED, "more": "more"}
    pages = list(bench.client(bench.source(answer).url, stream(form), concurrency=4).pages("things"))
    assert len(pages) == 3


def test_two_lists_of_one_client_at_once(bench: Bench) -> None:
    source = bench.source(slow_pages(10, 0.005))
    client = bench.client(source.url, stream(NUMBERED), concurrency=3)
    read: list[int] = []
    lists = [threading.Thread(target=lambda: read.append(len(list(client.pages("things"))))) for _ in range(3)]
    for one in lists:
        one.start()
    for one in lists:
        one.join()
    assert read == [10, 10, 10]
