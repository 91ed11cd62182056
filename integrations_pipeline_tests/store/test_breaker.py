"""The breaker shared by all processes: when it opens, who probes, when it closes; and the budget of retries."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import BreakerOpen
from integrations_pipeline.spec.limits import (
    BREAKER_FAILURES,
    BREAKER_LONGEST_PAUSE_SECONDS,
    BREAKER_PAUSE_SECONDS,
    RETRY_RESERVE,
)
from integrations_pipeline.store.breaker import FRESH_SECONDS, BreakerState, SharedBreaker
from integrations_pipeline.store.store import Store

ROOT = Path(__file__).parents[2]


def acme(name: str = "acme", attempts: int = 5) -> Connection:
    api = {"url": "https://api.example.com", "retry": {"attempts": attempts}, "timeout": "5s"}
    streams = {"things": {"request": "GET /things", "records": ".", "primary_key": "id"}}
    return Connection.model_validate(
        {"connection": name, "api": {**api, "pagination": {"type": "single_page"}}, "streams": streams}
    )


class Bench:
    """One database; each ``process`` is a breaker with a memory of its own, as another process has."""

    def __init__(self, url: str):
        self.url, self.store = url, Store(url)

    def process(self, name: str = "acme", **options: bool) -> SharedBreaker:
        return self.store.breaker(acme(name), **options)

    def state(self, name: str = "acme") -> BreakerState:
        return self.store.breakers([acme(name)])[name]

    def change(self, assignment: str) -> None:
        with self.store.borrow() as session:
            session.execute(f"UPDATE integrations.breaker SET {assignment}")

    def pause_is_over(self) -> None:
        self.change("retry_at = clock_timestamp()")

    def open(self) -> None:
        with pytest.raises(BreakerOpen):
            fail(self.process(), BREAKER_FAILURES)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    made = Bench(database_url)
    yield made
    made.store.close()


def fail(breaker: SharedBreaker, times: int = 1, what: str = "the source answered 503") -> None:
    for _ in range(times):
        breaker.before_call()
        breaker.failed(what)


def succeed(breaker: SharedBreaker) -> None:
    breaker.before_call()
    breaker.succeeded()


def test_failures_of_several_processes_in_a_row_pause_all_of_them(bench: Bench) -> None:
    one, other = bench.process(), bench.process()
    fail(one, BREAKER_FAILURES // 2)
    fail(other, BREAKER_FAILURES - BREAKER_FAILURES // 2 - 1)
    assert bench.state().state == "closed"
    with pytest.raises(BreakerOpen, match="paused after 10 failed tries in a row; the last: it is down") as refused:
        fail(one, what="it is down")
    pause = refused.value.resume_at - datetime.now(UTC)
    assert timedelta(seconds=BREAKER_PAUSE_SECONDS - 15) < pause <= timedelta(seconds=BREAKER_PAUSE_SECONDS + 1)
    time.sleep(FRESH_SECONDS)  # the other's news may be so old
    for breaker in (one, other, bench.process()):
        with pytest.raises(BreakerOpen):
            breaker.before_call()
    found = bench.state()
    assert (found.state, found.failures, found.reason) == ("open", BREAKER_FAILURES, "it is down")
    assert found.since is not None and found.next_try is not None and found.since < found.next_try


def test_a_success_in_between_begins_the_count_anew(bench: Bench) -> None:
    """One record that always fails among others that don't never pauses a connection."""
    one, other = bench.process(), bench.process()
    for _ in range(5):
        fail(one, BREAKER_FAILURES - 1)
        succeed(other)
    assert bench.state().state == "closed" and bench.state().failures == 0


def test_one_request_alone_never_opens_it_however_often_it_is_tried(bench: Bench) -> None:
    breaker = bench.store.breaker(acme(attempts=20))
    fail(breaker, 20)
    assert bench.state().state == "closed"


def test_connections_do_not_share(bench: Bench) -> None:
    bench.open()
    succeed(bench.process("another"))
    assert bench.state("another") == BreakerState("another")


def test_one_of_many_probes_and_its_success_lets_all_go_on(bench: Bench) -> None:
    bench.open()
    bench.pause_is_over()
    prober, waiting = bench.process(), bench.process()
    prober.before_call()
    assert bench.state().state == "half_open"
    with pytest.raises(BreakerOpen) as refused:
        waiting.before_call()
    assert datetime.now(UTC) < refused.value.resume_at <= datetime.now(UTC) + timedelta(seconds=16)  # type: ignore[operator]
    prober.succeeded()
    succeed(waiting)
    assert bench.state().state == "closed"


def test_of_many_threads_at_once_exactly_one_probes(bench: Bench) -> None:
    bench.open()
    bench.pause_is_over()
    shared, start, passed = bench.process(), threading.Barrier(8), []

    def call(breaker: SharedBreaker) -> None:
        start.wait()
        try:
            breaker.before_call()
            passed.append(breaker)
        except BreakerOpen:
            pass

    threads = [threading.Thread(target=call, args=[shared if n % 2 else bench.process()]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1


def test_each_failed_probe_makes_the_pause_longer_up_to_a_cap(bench: Bench) -> None:
    bench.open()
    pauses = []
    for _ in range(8):
        bench.pause_is_over()
        with pytest.raises(BreakerOpen) as refused:
            fail(bench.process())
        assert refused.value.resume_at is not None
        pauses.append((refused.value.resume_at - datetime.now(UTC)).total_seconds())
    expected = [min(BREAKER_PAUSE_SECONDS * 2**n, BREAKER_LONGEST_PAUSE_SECONDS) for n in range(1, 9)]
    assert all(wanted - 15 < found <= wanted + 1 for found, wanted in zip(pauses, expected, strict=True)), pauses
    succeed_after_pause(bench)
    bench.open()
    assert bench.state().next_try < datetime.now(UTC) + timedelta(seconds=BREAKER_PAUSE_SECONDS + 1)  # type: ignore[operator]


def succeed_after_pause(bench: Bench) -> None:
    bench.pause_is_over()
    succeed(bench.process())
    assert bench.state().state == "closed"


PROBER = """
import sys
from integrations_pipeline_tests.store.test_breaker import Bench
Bench(sys.argv[1]).process().before_call()
print("probing", flush=True)
sys.stdin.read()
"""


def test_a_prober_that_was_killed_does_not_keep_it_half_open(bench: Bench) -> None:
    bench.open()
    bench.pause_is_over()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PROBER, bench.url], text=True, cwd=ROOT, **pipes) as prober:  # type: ignore[call-overload]
        assert prober.stdout.readline() == "probing\n"
        prober.kill()
    with pytest.raises(BreakerOpen):
        bench.process().before_call()
    with bench.store.borrow() as session:
        left = session.execute("SELECT probe_until - clock_timestamp() FROM integrations.breaker").fetchone()
    assert left is not None and left[0] <= timedelta(seconds=15), "its time limit is one answer's, and a little"
    bench.change("probe_until = clock_timestamp()")
    succeed(bench.process())
    assert bench.state().state == "closed"


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_a_prober_that_comes_back_too_late_decides_nothing(bench: Bench, outcome: str) -> None:
    bench.open()
    bench.pause_is_over()
    late, next_one = bench.process(), bench.process()
    late.before_call()
    bench.change("probe_until = clock_timestamp()")
    next_one.before_call()
    before = bench.state()
    if outcome == "succeeded":
        late.succeeded()
    else:
        with pytest.raises(BreakerOpen):
            late.failed("late")
    assert (bench.state().state, bench.state().reason) == ("half_open", before.reason)
    next_one.succeeded()
    assert bench.state().state == "closed"


def test_calls_under_way_when_it_opened_neither_close_nor_prolong_it(bench: Bench) -> None:
    early = [bench.process(), bench.process()]
    for one in early:
        one.before_call()
    bench.open()
    until = bench.state().next_try
    early[0].succeeded()
    with pytest.raises(BreakerOpen):
        early[1].failed("also down")
    assert bench.state().state == "open" and bench.state().next_try == until


def test_a_probe_that_tells_nothing_is_given_back(bench: Bench) -> None:
    bench.open()
    bench.pause_is_over()
    stopped = bench.process()
    stopped.before_call()
    stopped.undecided()
    succeed(bench.process())
    assert bench.state().state == "closed"


def test_a_person_need_not_wait_for_the_end_of_the_pause(bench: Bench) -> None:
    bench.open()
    person = bench.process(at_once=True)
    succeed(person)
    assert bench.state().state == "closed"


def test_a_closed_breaker_asks_the_database_rarely(bench: Bench) -> None:
    breaker = bench.process()
    succeed(breaker)
    with psycopg.connect(bench.url, autocommit=True) as session:
        session.execute("ALTER TABLE integrations.breaker RENAME TO away")
        for _ in range(20):
            succeed(breaker)  # within the second
        session.execute("ALTER TABLE integrations.away RENAME TO breaker")


def test_retries_are_a_share_of_all_requests_and_a_reserve(bench: Bench) -> None:
    one, other = bench.process(), bench.process()
    assert [one.may_retry() for _ in range(RETRY_RESERVE)] == [True] * RETRY_RESERVE
    assert not other.may_retry(), "the budget is the connection's, not the process's"
    for _ in range(50):
        succeed(other)
    assert sum(other.may_retry() for _ in range(30)) in (10, 11, 12, 13)  # 20 % of 50; time adds ten a minute
    assert bench.process("another").may_retry()
    bench.change("retries_at = clock_timestamp() - interval '1 hour'")
    assert sum(one.may_retry() for _ in range(RETRY_RESERVE + 5)) in (RETRY_RESERVE, RETRY_RESERVE + 1)
