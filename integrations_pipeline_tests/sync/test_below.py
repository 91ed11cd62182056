"""Lists below parents, several read at once."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import Bench, made

PARENTS = {"request": "GET /orders", "records": "items", "primary_key": "id"}
CHILDREN = {"request": "GET /orders/<orders.id>/notes", "records": "items", "primary_key": "id"}
AT_ONCE = 4


def answer(seen: Seen) -> Any:
    """Twenty orders with two notes on two pages each; one is unknown by now."""
    if seen.path.endswith("/orders"):
        return {"items": made(20)}
    order, page = seen.path.split("/")[-2], int(seen.one("after", "0"))
    if order == "k00007":
        return Reply(status=404)
    return {"items": [{"id": f"{order}-{page}"}], **({"next": "1"} if page == 0 else {})}


def held(bench: Bench) -> set[str]:
    return {f"k{n:05}-{page}" for n in range(20) if n != 7 for page in (0, 1)}


def test_parents_are_read_at_once_and_committed_in_order(bench: Bench) -> None:
    bench.streams = {"orders": PARENTS, "notes": CHILDREN}
    bench.concurrency = 8
    numbers, together = count(1), threading.Barrier(AT_ONCE)

    def waits(seen: Seen) -> Any:
        if seen.path.endswith("/notes") and next(numbers) <= AT_ONCE:
            together.wait(60)  # the first lists below are answered when all of them were asked for
        return answer(seen)

    notes = bench.sync(waits)["notes"]
    assert bench.live("notes") == held(bench)
    assert notes.requests == 39
    assert not together.broken


def test_a_failing_parent_keeps_those_before_it_and_ends_the_threads(bench: Bench) -> None:
    bench.streams = {"orders": PARENTS, "notes": CHILDREN}
    bench.concurrency = 8

    def fails(seen: Seen) -> Any:
        return Reply(status=422) if "/k00010/" in seen.path else answer(seen)

    assert bench.sync(fails)["notes"].status == "failed"
    assert {f"k{n:05}-1" for n in range(7)} <= bench.live("notes")
    asked = len(bench.source.seen)
    assert bench.sync(answer)["notes"].status == "succeeded"
    assert bench.live("notes") == held(bench)
    assert not any("/k00000/" in one.path for one in bench.source.seen[asked:]), "a finished parent was read again"
