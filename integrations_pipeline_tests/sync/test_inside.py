"""Rows that lie inside their parent's record, and full refreshes that come due by themselves."""

from __future__ import annotations

import time
from typing import Any

from integrations_pipeline_tests.sync.conftest import Bench, keys, made, paged

ORDERS = {"request": "GET /orders", "records": "items", "primary_key": "id", "deletes": {"when": "gone"}}
LINES = {"parent": "orders", "records": {"path": "lines", "include": {"order": "parent id"}}, "primary_key": "id"}


def orders(count: int, lines: int) -> list[dict[str, Any]]:
    return [
        {**order, "lines": [{"id": f"{order['id']}-{n}", "amount": n} for n in range(lines)]} for order in made(count)
    ]


def test_rows_inside_a_record_are_replaced_with_it(bench: Bench) -> None:
    bench.streams = {"orders": ORDERS, "lines": LINES}
    found = orders(4, 3)
    first = bench.sync(paged(found))
    assert first["lines"].counters.created == 12
    assert bench.rows("SELECT count(*) FROM raw.acme__lines WHERE parent_key = payload ->> 'order'") == [(12,)]
    del found[0]["lines"][1]
    found[1]["lines"].append({"id": "new", "amount": 9})
    found[2]["lines"] = None
    found[3]["gone"] = True
    again = bench.sync(paged(found))["lines"]
    assert (again.counters.created, again.counters.tombstoned) == (1, 1 + 3 + 3)
    assert bench.live("lines") == {"k00000-0", "k00000-2", "k00001-0", "k00001-1", "k00001-2", "new"}
    idle = bench.sync(paged(found))["lines"].counters  # a transaction of somebody else's may have rows looked at again
    assert (idle.created, idle.updated, idle.tombstoned) == (0, 0, 0)


def test_many_parents_are_checked_together(bench: Bench) -> None:
    bench.streams = {"orders": ORDERS, "lines": {**LINES, "fields": {"amount": {"type": "integer", "min": 0}}}}
    began = time.process_time()
    assert bench.sync(paged(orders(1500, 2), 500))["lines"].counters.created == 3000
    assert time.process_time() - began < 15, "a check per parent takes 20 ms each"


def test_a_snapshot_that_is_overdue_is_taken_by_the_next_sync(bench: Bench) -> None:
    rows = made(30, at="2024-01-02T03:04:05Z")
    declared = {"cursor": {"field": "at", "send": "since"}, "deletes": {"snapshot": "7d"}}
    bench.things(paged(rows), **declared)
    bench.things(paged(rows[1:]), **declared)
    assert bench.live() == keys(rows)
    bench.rows("UPDATE integrations.stream_state SET last_full_refresh = now() - interval '8 days' RETURNING 1")
    assert bench.things(paged(rows[1:]), **declared).counters.tombstoned == 1
    assert bench.live() == keys(rows[1:])
