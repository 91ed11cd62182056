"""The shared limiter, against a source that really enforces its limit."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.spec.api import Limit
from integrations_pipeline.spec.errors import RateLimited
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.limiter import TOLD_FRESH_SECONDS, SharedLimiter

ROOT = Path(__file__).parents[2]


def limit(rate: str, burst: int | None = None) -> Limit:
    return Limit.model_validate({"rate": rate, "burst": burst})


def limiter(url: str, name: str = "acme") -> SharedLimiter:
    return SharedLimiter(lambda: psycopg.connect(url, autocommit=True), name)


class TokenBucket:
    """Strict: holds at most ``burst``, refilled continuously."""

    def __init__(self, per_second: float, burst: int):
        self.per_second, self.burst, self.tokens, self.at = per_second, float(burst), float(burst), time.monotonic()

    def allows(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class SlidingWindow:
    """Strict: no span of this length holds more."""

    def __init__(self, count: int, seconds: float):
        self.count, self.seconds, self.granted = count, seconds, deque[float]()

    def allows(self, now: float) -> bool:
        while self.granted and self.granted[0] <= now - self.seconds:
            self.granted.popleft()
        if len(self.granted) >= self.count:
            return False
        self.granted.append(now)
        return True


class Source:
    """Answers 200 or 429, and notes when, and to whom. ``GET /ready`` is answered when all processes asked for it.

    Each request tells when it was meant to be sent: a machine that is busy with other things sends late.
    """

    def __init__(self, rule: TokenBucket | SlidingWindow, processes: int = 2):
        self.rule, self.guard, self.processes = rule, threading.Lock(), processes
        self.all_ready = threading.Barrier(processes)
        self.arrivals: list[tuple[float, str, int]] = []
        self.latest = 0.0

    def answer(self, path: str) -> int:
        who, meant = path.split("?")
        with self.guard:
            now = time.monotonic()
            status = 200 if self.rule.allows(now) else 429
            self.arrivals.append((now, who, status))
            self.latest = max(self.latest, now - float(meant))
            return status

    @property
    def kept_time(self) -> bool:
        """Whether requests were sent about when they were meant to be: only then they are as the limiter says."""
        return self.latest < 0.02

    @property
    def refused(self) -> int:
        return sum(status == 429 for _, _, status in self.arrivals)

    @property
    def seconds(self) -> float:
        return self.arrivals[-1][0] - self.arrivals[0][0]


@contextmanager
def serving(source: Source) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path == "/ready":
                source.all_ready.wait(60)
            self.send_response(200 if self.path == "/ready" else source.answer(self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def send_requests(url: str, port: int, who: str, requests: int, rate: str, burst: int | None) -> None:
    """What one process of the test does."""
    shared, limits = limiter(url), [limit(rate, burst)]
    source = http.client.HTTPConnection("127.0.0.1", port)
    for path in ["/ready"] + requests * [f"/{who}"]:
        wait = shared.reserve(limits if path != "/ready" else [], Priority.POLL)
        meant = time.monotonic() + wait
        time.sleep(wait)
        source.request("GET", path if path == "/ready" else f"{path}?{meant}")
        source.getresponse().read()
    shared.close()


def race(url: str, source: Source, *arguments: object) -> None:
    """Several processes send to the source at once."""
    code = f"from {__name__} import send_requests; import sys; send_requests(sys.stdin.read(), *{{}})"
    running = []
    with serving(source) as port:
        for number in range(source.processes):
            command = [sys.executable, "-c", code.format((port, f"p{number}", *arguments))]
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT))
        for process in running:
            assert process.stdin
            process.stdin.write(url)
            process.stdin.close()
        assert [process.wait() for process in running] == [0] * source.processes


BUCKET = (lambda: TokenBucket(10, 10), "10 per 1s", 10, 10.0, 10)
WINDOW = (lambda: SlidingWindow(50, 5.0), "50 per 5s", None, 9.0, 5)
QUICK_BUCKET = (lambda: TokenBucket(20, 10), "20 per 1s", 10, 20.0, 10)
QUICK_WINDOW = (lambda: SlidingWindow(20, 1.0), "20 per 1s", None, 18.0, 2)


@pytest.mark.parametrize(
    ("case", "each"),
    [
        pytest.param(QUICK_BUCKET, 25, id="bucket"),
        pytest.param(QUICK_WINDOW, 25, id="window"),
        pytest.param(BUCKET, 100, id="bucket-full", marks=pytest.mark.long),
        pytest.param(WINDOW, 100, id="window-full", marks=pytest.mark.long),
    ],
)
def test_two_processes_use_a_limit_up_and_never_overdraw_it(
    database_url: str, case: tuple[Callable[[], TokenBucket], str, int | None, float, int], each: int
) -> None:
    rule, rate, declared, per_second, burst = case
    source = Source(rule())
    race(database_url, source, each, rate, declared)
    bound = (2 * each - burst) / per_second
    assert len(source.arrivals) == 2 * each
    if source.kept_time:
        assert source.refused == 0
        assert source.seconds <= bound * 1.1 + 0.1


def test_processes_share_fairly(database_url: str) -> None:
    source = Source(SlidingWindow(10**9, 1.0), processes=3)
    race(database_url, source, 40, "60 per 1s", None)
    first_done = min(max(i for i, arrival in enumerate(source.arrivals) if arrival[1] == f"/p{n}") for n in range(3))
    together = source.arrivals[: first_done + 1]
    shares = [sum(who == f"/p{n}" for _, who, _ in together) for n in range(3)]
    assert min(shares) >= (0.5 if source.kept_time else 0.2) * max(shares)


def test_urgent_work_goes_first(database_url: str) -> None:
    """Six workers of a backfill and six polls want all of 20 per second; a user's requests still take little time."""
    stop, limits = threading.Event(), [limit("20 per 1s")]

    def work(priority: Priority) -> None:
        shared = limiter(database_url)
        while not stop.is_set():
            stop.wait(shared.reserve(limits, priority))
        shared.close()

    workers = [threading.Thread(target=work, args=[p]) for p in (Priority.POLL, Priority.BACKFILL) for _ in range(6)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    user, waits = limiter(database_url), []
    for _ in range(10):
        started = time.monotonic()
        waits.append(user.reserve(limits, Priority.USER) + time.monotonic() - started)
    stop.set()
    for worker in workers:
        worker.join()
    user.close()
    assert statistics.median(waits) < 1.3, waits


def test_all_limits_are_taken_or_none(database_url: str) -> None:
    shared, wide, narrow = limiter(database_url), limit("1000 per 1s", 100), limit("1 per 1h", 2)
    assert shared.reserve([wide, narrow], Priority.USER) == 0
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            shared.reserve([wide, narrow], Priority.USER)
        assert refused.value.resume_at is not None
        assert refused.value.resume_at > datetime.now(UTC) + timedelta(minutes=55)
    with psycopg.connect(database_url) as session:
        rows = session.execute("SELECT bucket, tat FROM integrations.rate_limit ORDER BY tat").fetchall()
        now = session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert now and rows[0][1] < now[0] + 0.1, "the wide one was charged for a request that wasn't granted"
    shared.close()


def test_a_told_wait_holds_every_process(database_url: str) -> None:
    told, other = limiter(database_url), limiter(database_url)
    assert other.reserve([limit("1000 per 1s")], Priority.POLL) == 0
    until = datetime.now(UTC) + timedelta(seconds=1)
    told.told_to_wait(until)
    for held, limits in ((other, [limit("1000 per 1s")]), (told, [])):
        wait = held.reserve(limits, Priority.POLL)
        free_at = datetime.now(UTC) + timedelta(seconds=wait)
        assert until - timedelta(seconds=0.1) < free_at < until + timedelta(seconds=20)
    told.told_to_wait(datetime.now(UTC) + timedelta(hours=1))
    time.sleep(TOLD_FRESH_SECONDS)  # without limits, another process's news is at most so old
    for asked in ([], [limit("1000 per 1s")]):
        with pytest.raises(RateLimited):
            other.reserve(asked, Priority.USER)
    told.close()
    other.close()


def test_connections_do_not_share(database_url: str) -> None:
    one, another = limiter(database_url, "one"), limiter(database_url, "another")
    one.told_to_wait(datetime.now(UTC) + timedelta(hours=1))
    assert another.reserve([limit("1 per 1s")], Priority.POLL) == 0
    one.close()
    another.close()


def test_a_reservation_is_quick(database_url: str) -> None:
    shared, limits = limiter(database_url), [limit("100000 per 1s"), limit("100000 per 1s", 50_000)]
    took = []
    for _ in range(300):
        started = time.perf_counter()
        shared.reserve(limits, Priority.POLL)
        took.append(time.perf_counter() - started)
    shared.close()
    assert min(took) < 0.002  # 0.0003 measured; whatever else the machine does, one of them is undisturbed


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def pace(url: str) -> float:
    with psycopg.connect(url) as session:
        found = session.execute("SELECT pace FROM integrations.rate_limit WHERE bucket LIKE '~%'").fetchone()
    return float(found[0]) if found else 0.0


def test_what_the_source_says_is_left_is_shared_out_exactly(database_url: str) -> None:
    one, other, limits = limiter(database_url), limiter(database_url), [limit("1000 per 1s")]
    assert one.reserve(limits, Priority.POLL) == 0
    other.reserve(limits, Priority.POLL)  # the answer to the first one can't know of this
    one.remaining(limits, 4, soon(60))
    waits = [shared.reserve(limits, Priority.USER) for shared in (one, other, one)]
    assert max(waits) < 1
    for shared in (one, other):
        with ThreadPoolExecutor(1) as pool, pytest.raises(Held):
            pool.submit(shared.reserve, limits, Priority.USER, held).result()
        shared.close()


class Held(Exception):
    """Somebody would have to wait."""


def held(seconds: float) -> None:
    assert 30 < seconds <= 60
    raise Held


@pytest.mark.parametrize("declared", [True, False])
def test_a_new_word_of_what_is_left_replaces_the_old_one(database_url: str, declared: bool) -> None:
    shared, limits = limiter(database_url), [limit("1000 per 1s")] if declared else []
    for left in (2, 1, 50):
        shared.reserve(limits, Priority.USER)
        shared.remaining(limits, left, soon(60))
    for _ in range(49):
        assert shared.reserve(limits, Priority.USER) < 1
    shared.reserve(limits, Priority.USER)
    with pytest.raises(Held):
        shared.reserve(limits, Priority.USER, held)
    shared.close()


def test_a_refusal_slows_all_processes_to_what_was_borne(database_url: str) -> None:
    one, other, limits = limiter(database_url), limiter(database_url), [limit("1000 per 1s", 500)]
    for _ in range(10):
        one.reserve(limits, Priority.POLL)
        other.reserve(limits, Priority.POLL)
    one.refused(limits, soon(0.5))
    learned = pace(database_url)
    assert learned > 0.5 / 19, "19 answers in at least the half second that must be waited"
    other.refused(limits, soon(0.4))
    assert pace(database_url) == learned, "an answer to a request sent before it was known teaches nothing new"
    waits = [other.reserve(limits, Priority.POLL, lambda seconds: time.sleep(max(seconds, 0))) for _ in range(3)]
    assert waits[-1] > 0, "spaced, though the declared burst isn't used up"
    one.close()
    other.close()


def test_a_pace_that_bears_becomes_quicker_and_an_old_one_is_forgotten(database_url: str) -> None:
    shared, limits = limiter(database_url), [limit("1000 per 1s", 500)]
    for _ in range(20):
        shared.reserve(limits, Priority.POLL)
    shared.refused(limits, soon(0.02))
    learned = pace(database_url)
    for _ in range(10):
        shared.reserve(limits, Priority.POLL, lambda seconds: time.sleep(max(seconds, 0)))
    assert 0 < pace(database_url) < learned
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("UPDATE integrations.rate_limit SET slowed_at = slowed_at - 3601")
    shared.reserve(limits, Priority.POLL)
    assert pace(database_url) == 0
    shared.close()


def test_a_first_refusal_teaches_no_pace(database_url: str) -> None:
    """Somebody else used the quota up: nothing is known of how fast is too fast."""
    shared = limiter(database_url)
    shared.reserve([], Priority.POLL)
    shared.refused([], soon(3600))
    assert pace(database_url) == 0
    with pytest.raises(RateLimited):
        shared.reserve([], Priority.POLL)
    shared.close()


def test_a_turn_does_not_outlive_a_told_wait(database_url: str) -> None:
    one, other, limits = limiter(database_url), limiter(database_url), [limit("10 per 1s", 2)]
    other.reserve(limits, Priority.POLL)
    assert other.reserve(limits, Priority.POLL) > 0
    assert other.still_granted()
    one.told_to_wait(soon(60))
    assert not other.still_granted()
    one.close()
    other.close()


def test_kinds_of_requests_with_limits_of_their_own_learn_apart(database_url: str) -> None:
    shared = limiter(database_url)
    search = [limit("1000 per 1s", 500), Limit.model_validate({"match": "GET /search/*", "rate": "1000 per 1s"})]
    for _ in range(20):
        shared.reserve(search, Priority.POLL)
    shared.remaining(search, 1, soon(60))
    shared.reserve(search, Priority.USER)
    with pytest.raises(Held):
        shared.reserve(search, Priority.USER, held)
    assert shared.reserve(search[:1], Priority.USER) < 1
    shared.close()


def test_after_a_wait_one_goes_first_and_its_answer_says_how_many_may_follow(database_url: str) -> None:
    """At a source that says how much is left; where the answer says nothing, the others follow all the same."""
    first, other, limits = limiter(database_url), limiter(database_url), [limit("1000 per 1s", 500)]
    first.reserve(limits, Priority.POLL)
    first.remaining(limits, 1, soon(60))
    waits: list[float] = []
    first.reserve(limits, Priority.POLL)
    change(database_url, "left_until = extract(epoch FROM clock_timestamp())")
    first.reserve(limits, Priority.POLL)  # after the window's end: the one that goes first
    change(database_url, "left_until = left_until + 60")  # a quarter of a second is too short for a busy machine
    with pytest.raises(Stayed):
        other.reserve(limits, Priority.POLL, stayed)
    first.remaining(limits, 1, soon(60))
    other.reserve(limits, Priority.POLL, stayed)
    with pytest.raises(Stayed):
        other.reserve(limits, Priority.POLL, stayed)
    first.remaining(limits, 5_000, soon(60))
    for shared in (first, other, first):
        shared.reserve(limits, Priority.POLL, waits.append)
    assert waits == []
    first.remaining(limits, 1, soon(60))
    first.reserve(limits, Priority.POLL)
    change(database_url, "left_until = extract(epoch FROM clock_timestamp())")
    first.reserve(limits, Priority.POLL)
    change(database_url, "left_until = extract(epoch FROM clock_timestamp())")
    for shared in (other, first, other):
        shared.reserve(limits, Priority.POLL, stayed)
    first.close()
    other.close()


def change(url: str, assignment: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"UPDATE integrations.rate_limit SET {assignment} WHERE bucket LIKE '~%'")


class Stayed(Exception):
    """It would have to stay behind."""


def stayed(seconds: float) -> None:
    raise Stayed
