"""Any order of changes at the source, syncs, full syncs, crashes and faults: the invariants of the read path hold.

The source is simulated and served over HTTP in this process, each sync is the real command in a process of its own,
which a crash kills with -9 at a chosen request. After each sync that says `succeeded`, whatever happened before it:

- no loss: each record that didn't change while it ran is in raw as the source holds it, or in open quarantine
- nothing stale or resurrected: what raw holds of a key is what the source held since the last such sync, never older
- a full sync has tombstones for exactly what is gone
- it balances, and the canonical rows are those of the live raw records
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.journeys.walking import walk
from integrations_pipeline_tests.journeys.zygote import kill_when, start

PAGINATIONS = {
    "cursor": "{type: cursor, read: next, send: after, size: {send: limit, value: 10}}",
    "offset": "{type: offset, send: offset, more: more, size: {send: limit, value: 10}}",
    "numbers": "{type: page_number, send: page, pages: pages, total: total, size: {send: limit, value: 10}}",
    "keyset": "{type: keyset, read: id, send: after, more: more, size: {send: limit, value: 10}}",
    "link": "{type: link_body, read: next, size: {send: limit, value: 10}}",
}
SOURCE = """
connection: shop
api:
  url: {url}
  retry: {attempts: 2}
  pagination: PAGINATION
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since, lookback: 2h}
    deletes: {snapshot: 30d, at_most: 100%}
    fields:
      id: {type: string, required: true}
      amount: {type: decimal}
      updated_at: {type: timestamp, required: true}
    map: {to: order, fields: {amount: amount}}
"""
ORDER = "kind: order\nfields: {amount: {type: decimal}}\n"
FAULTS = [
    "429 every 3rd",
    "503 every 3rd",
    "reset every 4th",
    "hang up every 4th",
    "truncate every 4th",
    "html every 5th",
    "empty body every 5th",
    "empty page 2",
    "repeat token after 2",
    "cycle tokens 2",
    "last page names itself",
    "lie more yes",
    "overlap 3",
    "smaller pages 3",
    "repeat row 20%",
    "expire cursor 410",
    "past end 404",
]
BAD = {"amount": "much"}
Row = dict[str, Any] | None
PARTS = ("created", "updated", "unchanged", "deleted", "skipped", "quarantined", "superseded")


class ReadPath(RuleBasedStateMachine):
    """``past[key]`` is each state of a record (None: not there), oldest first, with the sync under way at that time."""

    make_house: Callable[[], House]

    @initialize(kind=st.sampled_from(sorted(PAGINATIONS)))
    def open(self, kind: str) -> None:
        self.house = type(self).make_house()
        self.house.write("models/order.yaml", ORDER)
        self.source = self.house.connect_to("shop", SOURCE.replace("PAGINATION", PAGINATIONS[kind]), records=40)
        self.asked = 0
        self.at_request: dict[int, Callable[[], object]] = {}
        self.answer, self.source.answer = self.source.answer, self.watched  # type: ignore[method-assign]
        self.syncs = 0
        self.past: dict[str, list[tuple[int, Row]]] = {}
        self.believed = 0  # the last sync that succeeded
        self.began: dict[Any, int] = {None: 0}  # by refresh id: the sync in which that full refresh began
        self.note()

    def watched(self, request: Any) -> Any:
        self.asked += 1
        answer = self.answer(request)
        if (act := self.at_request.pop(self.asked, None)) is not None:
            act()
        return answer

    def note(self) -> None:
        """Remembers what the source holds by now."""
        held = {row["id"]: row for row in self.source.contents("orders")}
        for key in held.keys() | self.past.keys():
            states, now = self.past.setdefault(key, [(self.syncs, None)]), held.get(key)
            if states[-1][1] != now:
                states.append((self.syncs, now))

    # what happens at the source

    def change(self, what: str, count: int) -> None:
        live = sorted(key for key, states in self.past.items() if states[-1][1])
        if what == "insert":
            self.source.insert("orders", count)
        elif what == "delete":
            self.source.delete("orders", min(count, max(len(live) - 10, 0)))
        elif what == "resort":
            self.source.update("orders", live[:: max(len(live) // count, 1)][:count], {})
        elif what == "break":
            self.source.update("orders", live[count : count + 1], BAD)
        else:
            self.source.update("orders", count, None)
        self.note()

    CHANGES = st.tuples(st.sampled_from(["insert", "update", "delete", "resort", "break"]), st.integers(1, 4))

    @rule(change=CHANGES)
    def changes(self, change: tuple[str, int]) -> None:
        self.change(*change)

    @rule(key=st.integers(0, 5))
    def comes_back(self, key: int) -> None:
        gone = sorted(key for key, states in self.past.items() if states[-1][1] is None)
        if gone:
            self.source.update("orders", [gone[key % len(gone)]], {"amount": 5})
            self.note()

    @rule(fault=st.sampled_from(FAULTS))
    def fault_on(self, fault: str) -> None:
        self.source.faults.switch([fault])

    @rule()
    def fault_off(self) -> None:
        self.source.faults.switch([])

    # syncs

    @rule(full=st.booleans())
    def sync(self, full: bool) -> None:
        self.run(full)

    @rule(full=st.booleans(), after=st.integers(1, 6), change=CHANGES)
    def sync_while_it_changes(self, full: bool, after: int, change: tuple[str, int]) -> None:
        self.at_request = {self.asked + after: lambda: self.change(*change)}
        self.run(full)

    @rule(full=st.booleans(), after=st.integers(1, 7), later_ms=st.sampled_from([0, 0, 5, 20, 60]))
    def crash(self, full: bool, after: int, later_ms: int) -> None:
        self.run(full, kill_after=after, later_ms=later_ms)

    def run(self, full: bool, kill_after: int | None = None, later_ms: int = 0) -> None:
        self.time_passes()
        goes_on = self.began.get(self.refresh_id(), 0)
        self.syncs += 1
        output = self.house.home / f"sync-{self.syncs}"
        arguments = ["sync", "shop", "--json", *(["--full", "--now"] if full else [])]
        child = start(arguments, self.house.variables, self.house.home, output)
        if kill_after is not None:
            reached = Event()
            self.at_request[self.asked + kill_after] = reached.set
            kill_when(child, reached, later_ms)
        child.join(60)
        assert child.exitcode is not None, "a sync that doesn't end"
        self.at_request = {}
        if kill_after is None:
            self.judge(json.loads(output.read_text()), full, goes_on or self.syncs)
        self.began.setdefault(self.refresh_id(), self.syncs)

    def refresh_id(self) -> Any:
        """That of a full refresh which was interrupted, and goes on with the next sync."""
        found = self.house.rows("SELECT refresh_id FROM integrations.stream_state WHERE stream = 'orders'")
        return found[0][0] if found else None

    def time_passes(self) -> None:
        """Waits that were told are over."""
        self.house.rows(PASS)

    def judge(self, document: dict[str, Any], full: bool, since: int) -> None:
        (stream,) = document["streams"]
        assert stream["fetched"] == sum(stream[part] for part in PARTS)
        assert stream["status"] in ("succeeded", "deferred", "failed"), stream
        if stream["status"] != "succeeded":
            return
        raw, quarantined = self.house.raw("shop", "orders"), self.quarantined()
        for key, states in self.past.items():
            self.judge_record(key, states, raw.get(key), key in quarantined, full, since)
        self.judge_canonical(raw)
        self.believed = self.syncs

    def judge_record(
        self, key: str, states: list[tuple[int, Row]], held: Row, quarantined: bool, full: bool, since: int
    ) -> None:
        """What raw may hold of a record: what it was when the read began, or anything it became meanwhile.

        A full refresh that was interrupted doesn't look again at what it has seen: it began in an earlier sync.
        """
        before = [state for sync, state in states if sync < since]
        during = [state for sync, state in states if sync >= since]
        allowed = [*before[-1:], *during]
        if all(state is None for state in allowed) and not full:
            return  # deleted: an incremental sync can't know
        if any(is_bad(state) for state in allowed) and quarantined:
            return
        good = [state for state in allowed if not is_bad(state)]
        assert not quarantined or None in allowed, (key, allowed)
        if None in good and not full:
            good += [state for state in before if state]
        assert held in good, (key, held, allowed)

    def quarantined(self) -> set[str]:
        return {row[0] for row in self.house.rows(QUARANTINED)}

    def judge_canonical(self, raw: dict[str, Any]) -> None:
        held = dict(self.house.rows(CANONICAL))
        assert held == {key: as_decimal(row.get("amount")) for key, row in raw.items()}

    def teardown(self) -> None:
        """Everything heals: one full sync makes both sides equal, and the next ones change nothing. Where that one only
        finished another, what changed behind it comes with the sync after it."""
        if not hasattr(self, "house"):
            return
        try:
            self.source.faults.switch([])
            for full in (True, False):
                self.run(full)
                assert self.believed == self.syncs, "a healthy source, and no success"
            stamps = self.house.rows(STAMPS)
            for full in (False, True):
                self.run(full)
                assert self.believed == self.syncs
            assert self.house.rows(STAMPS) == stamps
        finally:
            self.house.close()


QUARANTINED = "SELECT external_id FROM integrations.quarantine WHERE status = 'open'"
CANONICAL = """
SELECT l.external_id, c.amount FROM integrations.link l JOIN canonical.order c ON c.id = l.canonical_id
WHERE l.deleted_at IS NULL AND c.deleted_at IS NULL
"""
STAMPS = "SELECT external_id, xmin::text FROM raw.shop__orders ORDER BY 1"
PASS = "UPDATE integrations.rate_limit SET told_until = 0 RETURNING 1"


def is_bad(row: Row) -> bool:
    return row is not None and row.get("amount") == BAD["amount"]


def as_decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def test_the_read_path_holds_its_invariants(make_house: Callable[[], House]) -> None:
    walk(ReadPath, make_house, examples=8, steps=12)


@pytest.mark.long
def test_the_read_path_holds_its_invariants_in_two_hundred_walks(make_house: Callable[[], House]) -> None:
    walk(ReadPath, make_house, examples=200, steps=30)
