"""kill -9 at random points of a sync: nothing is lost or doubled, and no committed page is asked for again."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.patience import until

KINDS = {"cursor": "{type: cursor, read: next, send: after", "offset": "{type: offset, send: offset, more: more"}
SOURCE = """
connection: shop
api:
  url: {url}
  pagination: PAGINATION, size: {send: limit, value: PAGE}}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    deletes: {snapshot: 7d}
    fields:
      id: {type: string, required: true}
      email: {type: string, format: email}
      amount: {type: decimal, min: 0}
      updated_at: {type: timestamp, required: true}
    map: {to: order, fields: {email: {from: email, apply: [trim, lower]}, amount: amount}}
"""
ORDER = "kind: order\nfields: {email: {type: string}, amount: {type: decimal}}\n"


def pages_asked(house: House) -> list[dict[str, list[str]]]:
    """The query of each request for the list, in order."""
    return [one.query for one in house.sources["shop"].requests() if one.path.endswith("/orders")]


def start_and_kill(house: House, seconds: float) -> bool:
    """Starts a sync and kills it so long after its first request. Whether it was still running then."""
    held = len(pages_asked(house))
    process = house.start("sync", "shop", "--json")
    while process.poll() is None and len(pages_asked(house)) == held:
        time.sleep(0.01)
    time.sleep(seconds)
    running = process.poll() is None
    process.kill()
    process.communicate()
    until(lambda: not house.rows(SESSIONS))
    time.sleep(house.sources["shop"].latency_ms / 1000 + 0.1)  # what it had asked for is logged at the source only then
    return running


SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
"""A commit that the killed process had asked for is still done: what it left is known when its sessions are gone."""


def bookmark(house: House) -> dict[str, Any] | None:
    """The committed position, None where no list is under way."""
    found = house.rows("SELECT bookmark -> 'position' FROM integrations.stream_state WHERE stream = 'orders'")
    return found[0][0] if found else None


def asked_where_it_stopped(kind: str, position: dict[str, Any] | None, query: dict[str, list[str]], page: int) -> bool:
    """Whether the first request after a crash is the bookmark's page: no committed one, but the seam of an offset."""
    if not position:
        return "next" not in query and query.get("offset", ["0"]) == ["0"]
    if kind == "cursor":
        return query["after"] == [position["token"]]
    return int(position["offset"]) - page <= int(query["offset"][0]) <= int(position["offset"])


def journey(house: House, kind: str, *, records: int, page: int, kills: int, seconds: float, latency_ms: float) -> int:
    """So many syncs killed at random, then one to the end. Returns how many requests the list took.

    The source's latency alone takes longer than all that is read before the kills, however quick the machine is.
    """
    house.write("models/order.yaml", ORDER)
    text = SOURCE.replace("PAGINATION", KINDS[kind]).replace("PAGE", str(page))
    house.connect_to("shop", text, records=records, latency_ms=latency_ms)
    dice, killed = random.Random(kills), 0
    for _ in range(kills):
        position, held = bookmark(house), len(pages_asked(house))
        killed += start_and_kill(house, dice.uniform(0, seconds))
        assert asked_where_it_stopped(kind, position, pages_asked(house)[held], page)
    assert house.sync("shop")["orders"]["status"] == "succeeded"
    house.assert_whole("shop", "orders")
    assert house.value("SELECT count(*) FROM canonical.order") == records
    assert house.value("SELECT count(*) FROM integrations.link") == records
    assert killed >= kills * 2 / 3, "the kills came too late to prove anything"
    return len(pages_asked(house))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_syncs_lose_and_double_nothing(house: House, kind: str) -> None:
    journey(house, kind, records=12_000, page=100, kills=4, seconds=0.5, latency_ms=18)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_records_killed_more_than_ten_times(house: House, kind: str) -> None:
    asked = journey(house, kind, records=100_000, page=500, kills=18, seconds=1.2, latency_ms=100)
    # Beside one clean pass, a kill costs what was read and not yet committed: two chunks and the pages read ahead.
    assert asked <= 200 + 18 * (10 + 10 + 8)
