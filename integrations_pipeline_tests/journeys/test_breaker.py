"""A source that is down: after a few failures nobody asks it any more, until one call finds that it is back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from integrations_pipeline.spec.limits import BREAKER_FAILURES
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.journeys.conftest import House

STREAMS = [f"s{number:02}" for number in range(BREAKER_FAILURES + 2)]
HEAD = """
connection: acme
api:
  url: URL
  retry: {attempts: 1}
  pagination: {type: single_page}
streams:
"""
STREAM = "  NAME: {request: GET /NAME, records: ., primary_key: id, fields: {id: {type: integer, required: true}}}\n"


class Flaky:
    """Answers rows; where a path is broken, 503."""

    def __init__(self) -> None:
        self.broken: set[str] = set()

    def __call__(self, seen: Seen) -> Any:
        return Reply({"message": "maintenance"}, 503) if seen.path.strip("/") in self.broken else [{"id": 1}]


@pytest.fixture
def source() -> Iterator[Source]:
    with Source(Flaky()) as found:
        yield found


@pytest.fixture
def acme(house: House, source: Source) -> House:
    text = HEAD.replace("URL", source.url) + "".join(STREAM.replace("NAME", name) for name in STREAMS)
    house.write("connections/acme.yaml", text)
    return house


def breaker(house: House) -> dict[str, Any]:
    (found,) = json.loads(house.run("status", "--json").stdout)["breakers"]
    return found  # type: ignore[no-any-return]


def test_a_source_that_is_down_is_left_alone_then_probed_once(acme: House, source: Source) -> None:
    acme.sync("acme")
    source.answer.broken = set(STREAMS)  # type: ignore[attr-defined]
    source.seen.clear()
    streams = acme.sync("acme", expect=3)
    classes = [streams[name]["error"]["class"] for name in STREAMS]
    assert classes == ["transient"] * (BREAKER_FAILURES - 1) + ["breaker_open"] * 3
    assert len(source.seen) == BREAKER_FAILURES

    again = acme.sync("acme", expect=3)
    assert len(source.seen) == BREAKER_FAILURES, "another process asked a source that is known to be down"
    found = breaker(acme)
    assert {one["resume_at"] for one in again.values()} == {found["next_try"]}
    assert (found["state"], found["failures"]) == ("open", BREAKER_FAILURES)
    assert {one["requests"] for one in again.values()} == {0}
    assert [acme.raw("acme", name) for name in STREAMS] == [{"1": {"id": 1}}] * len(STREAMS), "what is held stays"
    said = acme.run("status").stdout
    assert "acme: calls to the source are paused since" in said
    assert "the source answered 503" in said and "integrations connect acme" in said

    source.answer.broken = set()  # type: ignore[attr-defined]
    acme.rows("UPDATE integrations.breaker SET retry_at = clock_timestamp() RETURNING 1")
    assert {one["status"] for one in acme.sync("acme").values()} == {"succeeded"}
    assert breaker(acme)["state"] == "closed"
    assert "paused" not in acme.run("status").stdout


def test_a_person_who_connects_asks_at_once_and_closes_it(acme: House, source: Source) -> None:
    source.answer.broken = set(STREAMS)  # type: ignore[attr-defined]
    acme.sync("acme", expect=3)
    refused = acme.run("connect", "acme")
    assert refused.returncode == 3 and "paused" in refused.stderr
    source.answer.broken = set()  # type: ignore[attr-defined]
    assert acme.run("connect", "acme").returncode == 0
    assert breaker(acme)["state"] == "closed"


def test_one_broken_list_among_good_ones_pauses_nothing(acme: House, source: Source) -> None:
    source.answer.broken = {STREAMS[0]}  # type: ignore[attr-defined]
    for _ in range(2):
        streams = acme.sync("acme", expect=3)
        assert streams[STREAMS[0]]["error"]["class"] == "transient"
        assert {streams[name]["status"] for name in STREAMS[1:]} == {"succeeded"}
    assert breaker(acme)["state"] == "closed"
