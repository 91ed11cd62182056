"""Two processes share one connection's limit: the source never says 429, and hardly any time is given away."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from integrations_pipeline_tests.journeys.conftest import House

SOURCE = """
connection: busy
api:
  url: {url}
  limits: [LIMIT]
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 10}}
streams:
  left: {request: GET /left, records: items, primary_key: id, fields: {id: {type: string, required: true}}}
  right: {request: GET /right, records: items, primary_key: id, fields: {id: {type: string, required: true}}}
"""


def seconds_between_first_and_last(house: House) -> float:
    moments: list[datetime] = [one.at for one in house.sources["busy"].requests()]
    return (max(moments) - min(moments)).total_seconds()


def race(house: House, limit: str, pages: int, *, most_refused: int) -> tuple[int, float]:
    """Both streams at once, each in a process of its own: requests made, and seconds from the first to the last.

    A machine that is busy with other things sends late, and then too much at once; the client waits and goes on.
    """
    house.connect_to("busy", SOURCE.replace("LIMIT", limit), records=pages * 10, enforce_limits=True)
    house.run("status")  # the tables are there before the clock starts
    processes = [house.start("sync", "busy", stream, "--json") for stream in ("left", "right")]
    documents = [json.loads(process.communicate(timeout=180)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], documents
    assert all(one["streams"][0]["fetched"] == pages * 10 for one in documents)
    asked = house.sources["busy"].requests()
    assert sum(one.status == 429 for one in asked) <= most_refused
    house.assert_whole("busy", "left")
    house.assert_whole("busy", "right")
    return len(asked), seconds_between_first_and_last(house)


# A window of N per W is spent as a bucket of burst N/10 and rate (N - N/10)/W, which no W can overdraw.
LIMITS = {
    "bucket": ("{rate: 10 per 1s, burst: 10}", 10, 10.0),
    "window": ("50 per 5s", 5, 9.0),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_two_processes_within_one_limit(house: House, kind: str) -> None:
    limit, burst, rate = LIMITS[kind]
    requests, seconds = race(house, limit, pages=20, most_refused=3)
    assert seconds >= (requests - 2 * burst) / rate * 0.8, "the source's limit wasn't what held us back"


@pytest.mark.long
@pytest.mark.parametrize("kind", LIMITS)
def test_a_hundred_pages_each_come_close_to_the_bound(house: House, kind: str) -> None:
    limit, burst, rate = LIMITS[kind]
    requests, seconds = race(house, limit, pages=100, most_refused=0)
    bound = (requests - burst) / rate
    print(f"{kind}: {requests} requests in {seconds:.2f} s, bound {bound:.2f} s")
    assert seconds <= bound * 1.1
