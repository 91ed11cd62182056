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
    both(house, pages)
    asked = house.sources["busy"].requests()
    assert sum(one.status == 429 for one in asked) <= most_refused
    return len(asked), seconds_between_first_and_last(house)


def both(house: House, pages: int) -> None:
    house.run("status")  # the tables are there before the clock starts
    processes = [house.start("sync", "busy", stream, "--json") for stream in ("left", "right")]
    documents = [json.loads(process.communicate(timeout=180)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], documents
    assert all(one["streams"][0]["fetched"] == pages * 10 for one in documents)
    house.assert_whole("busy", "left")
    house.assert_whole("busy", "right")


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


# The source's own limit, and what is declared of it.
TIGHTER = {
    "tighter": ("100 per 1s", ["limit 20 per 1s"]),
    "changing": ("100 per 1s", ["limit 50 per 1s for 60", "limit 15 per 1s after 60"]),
    "undeclared": ("", ["limit 20 per 1s"]),
}


def refused_share(house: House, kind: str, pages: int) -> float:
    """Two processes against a source that allows less than is declared: the share of answers that are 429."""
    limit, faults = TIGHTER[kind]
    house.connect_to("busy", SOURCE.replace("LIMIT", limit), records=pages * 10, faults=faults)
    both(house, pages)
    report = house.sources["busy"].report()
    share = report["too_many"] / report["requests"]
    seconds = seconds_between_first_and_last(house)
    print(f"{kind}: {report['requests']} requests in {seconds:.1f} s, {report['too_many']} were 429 ({share:.1%})")
    # A process that was held up between taking its turn and sending comes late, and then perhaps into a wait.
    assert report["while_told_to_wait"] <= report["requests"] // 50
    return share


def test_a_limit_that_changes_in_mid_run_is_learned_by_both(house: House) -> None:
    assert refused_share(house, "changing", pages=60) <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("kind", TIGHTER)
def test_a_learned_limit_is_kept_to(house: House, kind: str) -> None:
    assert refused_share(house, kind, pages=400) <= 0.05
