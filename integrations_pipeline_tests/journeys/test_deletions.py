"""A feed of deletions from the simulator, by the command line, killed in its middle."""

from __future__ import annotations

import os
import signal
import time

from integrations_pipeline_tests.journeys.conftest import House

SOURCE = """
connection: shop
api:
  url: {url}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 2}}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    deletes: {feed: {call: GET /gone, records: items, key: ref, cursor: {field: at, send: since}}}
    fields: {id: {type: string, required: true}, updated_at: {type: timestamp, required: true}}
"""
PLACE = "SELECT feed -> 'bookmark' -> 'position' ->> 'token' FROM integrations.stream_state WHERE stream = 'orders'"


def test_a_killed_sync_goes_on_in_the_middle_of_the_feed(house: House) -> None:
    source = house.connect_to("shop", SOURCE, records=60)
    house.sync("shop")
    source.delete("orders", 50)
    source.latency_ms = 150
    process = house.start("sync", "shop", "--json")
    while process.poll() is None and house.value(PLACE) is None:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    place, asked = house.value(PLACE), len(source.requests())
    source.latency_ms = 0
    house.sync("shop")
    assert source.requests()[asked].path == "/v1/gone"
    assert source.requests()[asked].query["after"] == [place], "a committed page of the feed was asked for again"
    house.assert_whole("shop", "orders")
    assert house.value("SELECT sum(deleted) FROM integrations.run_log") == 50
    assert house.sync("shop")["orders"]["deleted"] == 0
