"""Tries, waits and deferrals: what the source asks for is kept, and no worker is held for long."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.errors import BreakerOpen, CredentialsError, NotFound, RateLimited, Transient
from integrations_pipeline.spec.forms import Call
from integrations_pipeline_tests.client.conftest import Bench, HastyClock, LocalLimiter, rows
from integrations_pipeline_tests.client.source import Reply
from integrations_pipeline_tests.patience import until


def first(client: Client) -> Any:
    return next(iter(client.pages("things")))


def from_now(text: str) -> str:
    """``DATE+20`` as an HTTP date, ``ISO+20``, ``ASCTIME+20``; ``UNIX+40``, ``UNIX_MS+40000`` as numbers; other
    texts as they are."""
    form, plus, number = text.partition("+")
    moment = datetime.now(UTC) + timedelta(seconds=int(number or 0))
    if form in ("ISO", "ASCTIME"):
        return moment.isoformat() if form == "ISO" else moment.strftime("%a %b %d %H:%M:%S %Y")
    if form == "DATE":
        return format_datetime(moment, usegmt=True)
    return str(int(time.time()) * {"UNIX": 1, "UNIX_MS": 1000}[form] + int(number)) if plus else text


def once(bench: Bench, reply: Reply) -> Any:
    """A source that answers so once, then well."""
    replies = [reply]
    return bench.source(lambda seen: replies.pop() if replies else rows(1))


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (429, {"Retry-After": "30"}, 30, 31),
        (503, {"Retry-After": "30"}, 30, 31),
        (429, {"Retry-After": "0.7"}, 0.7, 0.8),
        (429, {"Retry-After": "DATE+20"}, 17, 22),
        (429, {"Retry-After": "soon"}, 0.5, 0.5),
        (429, {"Retry-After": "-5"}, 0.5, 0.5),
        (429, {"Retry-After": "nan"}, 0.5, 0.5),
        (429, {}, 0.5, 0.5),
        (500, {}, 0.5, 0.5),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"}, 7, 8),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "UNIX+40"}, 36, 45),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "UNIX_MS+40000"}, 36, 45),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.5"}, 1.5, 1.7),
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12, 13),
        (429, {"RateLimit": "limit=100, remaining=0, reset=15"}, 15, 16),
        (429, {"RateLimit": '"default";r=0;t=15'}, 15, 16),
        (429, {"Retry-After": "3", "RateLimit": '"default";r=0;t=15'}, 15, 16),
        (429, {"Retry-After": "12, 12"}, 12, 13),
        (429, {"Retry-After": "ASCTIME+20"}, 17, 22),
        (429, {"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, 0.5, 0.5),
        (429, {"Retry-After": "DATE+-3600"}, 0.5, 0.5),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "ISO+20"}, 17, 22),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "DATE+20"}, 17, 22),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "tomorrow"}, 0.5, 0.5),
        (429, {"RateLimit": '"a, b";r=0;t=15, "daily";r=500;t=40000'}, 15, 16),
        (429, {"RateLimit": '"daily";r=500;t=40000, "burst";r=0;t=15'}, 15, 16),
        (429, {"RateLimit": '"burst";r=0', "RateLimit-Policy": '"daily";q=9;w=90, "burst";q=10;w=15'}, 15, 16),
        (429, {"RateLimit": '"burst";r=5;t=60'}, 0.5, 0.5),
        (429, {"RateLimit": "nonsense"}, 0.5, 0.5),
    ],
)
def test_every_way_to_say_slow_down(
    bench: Bench, status: int, headers: dict[str, str], least: float, most: float
) -> None:
    clock = HastyClock()
    source = once(bench, Reply({}, status, {name: from_now(value) for name, value in headers.items()}))
    client = bench.client(source.url, clock=clock)
    assert first(client).rows == rows(1)
    assert least - 0.1 <= clock.slept <= most + 0.1
    assert client.meter.requests == 2
    assert least - 0.1 <= client.meter.waited_seconds


def test_waits_grow_between_tries_when_the_source_names_none(bench: Bench) -> None:
    clock = HastyClock()
    source = bench.source(lambda seen: Reply({}, 500))
    with pytest.raises(Transient) as caught:
        first(bench.client(source.url, clock=clock))
    assert 7.4 <= clock.slept <= 7.6  # 0.5 + 1 + 2 + 4
    assert caught.value.resume_at is not None
    assert caught.value.resume_at > clock.now()


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_declared_tries(bench: Bench, attempts: int) -> None:
    source = bench.source(lambda seen: Reply({}, 500))
    with pytest.raises(Transient):
        first(bench.client(source.url, clock=HastyClock(), retry={"attempts": attempts}))
    assert len(source.seen) == attempts


@pytest.mark.parametrize(("status", "expected"), [(429, RateLimited), (503, Transient)])
def test_a_wait_too_long_to_hold_defers_at_once(bench: Bench, status: int, expected: type[Exception]) -> None:
    clock = HastyClock()
    limiter = LocalLimiter(clock)
    source = bench.source(lambda seen: Reply({}, status, {"Retry-After": "600"}))
    with pytest.raises(expected) as caught:
        first(bench.client(source.url, clock=clock, limiter=limiter))
    wait = (caught.value.resume_at - datetime.now(UTC)).total_seconds()  # type: ignore[attr-defined]
    assert 595 < wait < 605
    assert clock.slept == 0
    assert len(source.seen) == 1
    assert limiter.told, "the other processes must know"


def test_an_absurd_wait_is_cut_to_a_day(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 429, {"Retry-After": "99999999999"}))
    with pytest.raises(RateLimited) as caught:
        first(bench.client(source.url, clock=HastyClock()))
    assert caught.value.resume_at is not None
    assert caught.value.resume_at < datetime.now(UTC) + timedelta(hours=24, minutes=1)


def test_max_wait_is_declared_and_bounds_the_sum(bench: Bench) -> None:
    clock = HastyClock()
    source = bench.source(lambda seen: Reply({}, 429, {"Retry-After": "4"}))
    with pytest.raises(RateLimited):
        first(bench.client(source.url, clock=clock, retry={"attempts": 20, "max_wait": "10s"}))
    assert len(source.seen) == 3
    assert clock.slept < 11


def test_a_used_up_window_is_told_to_the_limiter_before_any_refusal(bench: Bench) -> None:
    limiter = LocalLimiter()
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2"}
    source = bench.source(lambda seen: Reply(rows(1), headers=headers))
    first(bench.client(source.url, limiter=limiter))
    assert len(limiter.told) == 1
    assert 0 < (limiter.told[0] - datetime.now(UTC)).total_seconds() <= 2


def test_a_source_whose_clock_is_wrong_makes_nobody_wait_longer(bench: Bench) -> None:
    limiter = LocalLimiter()
    date = b"Date: Tue, 02 Jan 2074 03:04:05 GMT\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 3282087850\r\n"
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n" + date + b"\r\n[]"
    first(bench.client(bench.source(lambda seen: Reply(raw=[raw])).url, limiter=limiter))
    assert 4 < (limiter.told[0] - datetime.now(UTC)).total_seconds() <= 5


def test_a_window_with_something_left_tells_nothing(bench: Bench) -> None:
    limiter = LocalLimiter()
    headers = {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "2", "RateLimit": '"default";r=9;t=15'}
    source = bench.source(lambda seen: Reply(rows(1), headers=headers))
    first(bench.client(source.url, limiter=limiter))
    assert limiter.told == []


@pytest.mark.parametrize(
    ("headers", "left", "seconds"),
    [
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "60"}, 3, 60),
        ({"RateLimit": '"day";r=900;t=4000, "burst";r=2;t=9'}, 2, 9),
        ({"RateLimit": "limit=9, remaining=4, reset=30"}, 4, 30),
        ({"RateLimit": '"burst";r=2', "RateLimit-Policy": '"burst";q=10;w=9'}, 2, 9),
    ],
)
def test_the_limiter_is_told_what_is_left_of_the_tightest_window(
    bench: Bench, headers: dict[str, str], left: int, seconds: float
) -> None:
    limiter = LocalLimiter()
    first(bench.client(bench.source(lambda seen: Reply(rows(1), headers=headers)).url, limiter=limiter))
    ((found, until),) = limiter.left
    assert found == left
    assert seconds - 3 < (until - datetime.now(UTC)).total_seconds() <= seconds
    assert limiter.told == []


def test_a_turn_that_was_overtaken_by_a_told_wait_is_taken_again(bench: Bench) -> None:
    class Overtaken(LocalLimiter):
        waits, granted = [0.3, 5.0, 0.0], [False, True]

        def reserve(self, limits: Any, priority: Any, hold: object = None) -> float:
            return self.waits.pop(0)

        def still_granted(self) -> bool:
            return self.granted.pop(0)

    clock, limiter = HastyClock(), Overtaken()
    first(bench.client(bench.source(lambda seen: rows(1)).url, clock=clock, limiter=limiter))
    assert 5.2 < clock.slept < 5.4
    assert limiter.granted == []


def test_declared_places_of_quota_and_wait(bench: Bench) -> None:
    limiter = LocalLimiter()
    body = {"items": rows(1), "backoff": 3, "cost": {"left": 0, "reset_ms": 9000}}
    source = bench.source(lambda seen: Reply(body))
    streams = {"things": {"request": "GET /things", "records": "items", "primary_key": "id"}}
    options = {
        "quota": {"remaining": "cost.left", "reset": "body cost.reset_ms", "unit": "ms"},
        "wait": [{"read": "backoff"}],
    }
    first(bench.client(source.url, streams, limiter=limiter, **options))
    assert 7.5 < (limiter.told[0] - datetime.now(UTC)).total_seconds() <= 9


def test_each_request_is_reserved_with_the_limits_that_match(bench: Bench) -> None:
    limiter = LocalLimiter()
    source = bench.source(lambda seen: rows(1))
    limits = ["100 per 1s", {"match": "GET /thi*", "rate": "50 per 1s"}, {"match": "GET /search/*", "rate": "4 per 1s"}]
    first(bench.client(source.url + "/v1", limiter=limiter, limits=limits))
    assert [[one.match for one in reserved] for reserved in limiter.reserved] == [[None, "GET /thi*"]]


def test_the_limiter_is_waited_for_and_counted(bench: Bench) -> None:
    source = bench.source(lambda seen: rows(1))
    clock = HastyClock()
    client = bench.client(source.url, limits=["1 per 20s"], clock=clock)
    for _ in range(5):
        first(client)
    assert 60 < clock.slept <= 80
    assert client.meter.waited_seconds == pytest.approx(clock.slept, abs=1)
    assert client.meter.wait_reason == "the rate limit"


def test_reads_by_post_are_tried_again_and_writes_are_not(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 500) if seen.path == "/write" else Reply(raw=[]))
    streams = {"things": {"request": "POST /search", "records": ".", "primary_key": "id"}}
    client = bench.client(source.url, streams, clock=HastyClock())
    with pytest.raises(Transient):
        first(client)
    assert len(source.seen) == 5
    for path in ("/write", "/lost"):
        source.seen.clear()
        with pytest.raises(Transient):
            client.send(call(f"POST {path}"), {})
        assert len(source.seen) == 1
    source.seen.clear()
    with pytest.raises(Transient):
        client.send(call("DELETE /lost"), {})
    assert len(source.seen) == 5


def call(text: str) -> Call:
    return Call.model_validate(text)


class CountingBreaker:
    def __init__(self, error: Exception | None = None, retries: list[bool] | None = None) -> None:
        self.error, self.retries = error, retries
        self.calls: list[str] = []

    def before_call(self) -> None:
        if self.error:
            raise self.error

    def succeeded(self) -> None:
        self.calls.append("succeeded")

    def failed(self, what: str) -> None:
        self.calls.append(what)

    def undecided(self) -> None:
        self.calls.append("undecided")

    def may_retry(self) -> bool:
        return self.retries is None or (bool(self.retries) and bool(self.retries.pop()))


DOWN = 'the source answered 500: [{"id":0}]'


@pytest.mark.parametrize(
    ("status", "told"),
    [(200, ["succeeded"]), (401, ["succeeded"]), (404, ["succeeded"]), (500, [DOWN] * 5), (429, ["undecided"] * 5)],
)
def test_the_breaker_is_told_what_each_try_tells_of_the_source(bench: Bench, status: int, told: list[str]) -> None:
    breaker = CountingBreaker()
    source = bench.source(lambda seen: Reply(rows(1), status))
    client = bench.client(source.url, breaker=breaker, clock=HastyClock())
    try:
        first(client)
    except (CredentialsError, NotFound, Transient, RateLimited):
        pass
    assert breaker.calls == told


def test_an_open_breaker_costs_no_request(bench: Bench) -> None:
    source = bench.source(lambda seen: rows(1))
    client = bench.client(source.url, breaker=CountingBreaker(BreakerOpen("paused")))
    with pytest.raises(BreakerOpen):
        first(client)
    assert (source.seen, client.meter.requests) == ([], 0)


def test_a_breaker_that_opens_ends_the_tries_at_once(bench: Bench) -> None:
    class Opening(CountingBreaker):
        def failed(self, what: str) -> None:
            raise BreakerOpen("paused")

    source, clock = bench.source(lambda seen: Reply({}, 500)), HastyClock()
    with pytest.raises(BreakerOpen) as caught:
        first(bench.client(source.url, breaker=Opening(), clock=clock))
    assert (len(source.seen), clock.slept) == (1, 0)
    assert caught.value.where == "acme/things GET /things"


def test_used_up_retries_defer_and_told_waits_need_none(bench: Bench) -> None:
    source, clock = bench.source(lambda seen: Reply({}, 500)), HastyClock()
    with pytest.raises(Transient, match="retries of this connection are used up") as caught:
        first(bench.client(source.url, breaker=CountingBreaker(retries=[True, True]), clock=clock))
    assert len(source.seen) == 3
    assert caught.value.resume_at is not None and caught.value.resume_at > clock.now()
    source = once(bench, Reply({}, 503, {"Retry-After": "1"}))
    first(bench.client(source.url, breaker=CountingBreaker(retries=[]), clock=clock))
    assert len(source.seen) == 2


def test_a_wait_is_cut_short_by_closing(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 429, {"Retry-After": "60"}))
    client = bench.client(source.url, clock=SystemClock())

    def close() -> None:
        until(lambda: client.meter.requests)
        time.sleep(0.3)  # most likely it waits by now; where it doesn't yet, closing ends it all the same
        client.close()

    threading.Thread(target=close).start()
    began = time.monotonic()
    with pytest.raises(Transient, match="stopped"):
        first(client)
    assert time.monotonic() - began < 45
