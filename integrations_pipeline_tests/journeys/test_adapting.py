"""A source whose own limit is tighter than the declared one, or changes while it is read, in each way it can say so."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.client.source import Reply, Seen, Source

WINDOW_SECONDS = 0.5


class Limited:
    """A list in pages whose source answers ``count`` requests per sliding window; from request ``at`` on so many."""

    def __init__(self, pages: int, count: int, says: str, change: tuple[int, int] | None = None):
        self.pages, self.count, self.says, self.change = pages, count, says, change
        self.taken: deque[float] = deque()
        self.guard = threading.Lock()
        self.asked = self.refused = self.early = 0
        self.told_until = 0.0

    def __call__(self, seen: Seen) -> Any:
        with self.guard:
            now = time.monotonic()
            self.asked += 1
            self.early += now < self.told_until
            if self.change and self.asked >= self.change[0]:
                self.count = self.change[1]
            while self.taken and self.taken[0] <= now - WINDOW_SECONDS:
                self.taken.popleft()
            good = len(self.taken) < self.count
            self.taken += [now] if good else []
            frees = self.taken[max(len(self.taken) - self.count, 0)]  # with it the window has room again
            return self.reply(seen, good, frees + WINDOW_SECONDS - now)

    def reply(self, seen: Seen, good: bool, wait: float) -> Reply:
        self.refused += not good
        left, headers = max(self.count - len(self.taken), 0), {}
        if self.says == "X-RateLimit":
            headers = {"X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": f"{wait:.3f}"}
        if self.says == "RateLimit":
            headers = {"RateLimit": f'"short";r={left};t={wait:.3f}, "day";r=90000;t=9000'}
        if self.says == "Retry-After" and not good:
            headers = {"Retry-After": f"{wait:.3f}"}
        if headers and not left:
            self.told_until = time.monotonic() + wait
        page = int(seen.one("after", "0"))
        body = {"items": [{"id": page}], "next": str(page + 1) if page + 1 < self.pages else None}
        return Reply(body, headers=headers) if good else Reply({}, 429, headers)


def acme(url: str, limits: list[str]) -> Connection:
    pages = {"type": "cursor", "read": "next", "send": "after"}
    api = {"url": url, "pagination": pages, "limits": limits, "retry": {"attempts": 20}}
    things = {"request": "GET /things", "records": "items", "primary_key": "id"}
    return Connection.model_validate({"connection": "acme", "api": api, "streams": {"things": things}})


def read(database_url: str, connection: Connection) -> int:
    """As a process does: a store and a client of its own. Returns how many pages came."""
    with Store(database_url) as store:
        client = Client(connection, limiter=store.limiter(connection), breaker=store.breaker(connection), secrets={})
        try:
            return sum(1 for _ in client.pages("things"))
        finally:
            client.close()


def journey(database_url: str, source: Limited, limits: list[str], readers: int) -> None:
    with Source(source) as running, ThreadPoolExecutor(readers) as pool:
        connection = acme(running.url, limits)
        found = list(pool.map(lambda _: read(database_url, connection), range(readers)))
    print(f"{source.asked} answers, {source.refused} of them 429, {source.early} requests while told to wait")
    assert found == [source.pages] * readers
    assert source.refused <= 0.05 * source.asked
    # A request that was on its way when another one's answer said to wait can't be called back.
    assert source.early <= (0.05 * source.asked if readers > 1 else 0)


SAYS = ("Retry-After", "X-RateLimit", "RateLimit", "nothing")
TIGHTER = ["200 per 1s"]


@pytest.mark.parametrize("says", SAYS)
def test_a_limit_tighter_than_declared_is_learned(database_url: str, says: str) -> None:
    journey(database_url, Limited(80, 12, says), TIGHTER, readers=1)


def test_a_limit_that_nobody_declared_is_learned(database_url: str) -> None:
    journey(database_url, Limited(80, 12, "Retry-After"), [], readers=1)


@pytest.mark.parametrize("says", ["Retry-After", "X-RateLimit"])
def test_two_processes_learn_a_limit_that_becomes_tighter_meanwhile(database_url: str, says: str) -> None:
    journey(database_url, Limited(120, 40, says, change=(60, 20)), TIGHTER, readers=2)


@pytest.mark.long
@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("limits", [TIGHTER, []], ids=["declared", "undeclared"])
@pytest.mark.parametrize("change", [None, (150, 8), (150, 60)], ids=["steady", "tighter", "wider"])
def test_long_reads_by_three_processes(
    database_url: str, says: str, limits: list[str], change: tuple[int, int] | None
) -> None:
    journey(database_url, Limited(120, 15, says, change), limits, readers=3)
