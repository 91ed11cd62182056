"""A scripted source, a client for it, and a limiter that really waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.api import Limit
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline_tests.client.source import Reply, Seen, Source


class LocalLimiter:
    """Spaces the requests of each limit evenly, within this process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = {}
        self.until = datetime.min.replace(tzinfo=UTC)
        self.told: list[datetime] = []
        self.left: list[tuple[int, datetime]] = []
        self.reserved: list[list[Limit]] = []

    def reserve(self, limits: Sequence[Limit], priority: Priority, hold: object = None) -> float:
        with self._lock:
            self.reserved.append(list(limits))
            now = self._clock.monotonic_seconds()
            at = now + max((self.until - self._clock.now()).total_seconds(), 0.0)
            at = max([at, *(self._free_at.get(str(one), 0.0) for one in limits)])
            for one in limits:
                self._free_at[str(one)] = at + one.rate.seconds / one.rate.count
            return at - now

    def still_granted(self) -> bool:
        return True

    def refused(self, limits: Sequence[Limit], until: datetime) -> None:
        self.told_to_wait(until)

    def remaining(self, limits: Sequence[Limit], requests: int, until: datetime) -> None:
        with self._lock:
            self.left.append((requests, until))

    def told_to_wait(self, until: datetime) -> None:
        with self._lock:
            self.told.append(until)
            self.until = max(self.until, until)


class HastyClock:
    """Sleeping only moves the hands, so that waits of minutes are tested in no time."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.slept)

    def monotonic_seconds(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += max(seconds, 0.0)


Answer = Callable[[Seen], Reply | Any]


class Bench:
    """Starts sources and makes clients for them, and closes all of it."""

    def __init__(self, stack: ExitStack):
        self._stack = stack

    def source(self, answer: Answer) -> Source:
        return self._stack.enter_context(Source(answer))

    def client(
        self, url: str, streams: dict[str, Any] | None = None, *, secrets: dict[str, str] | None = None, **options: Any
    ) -> Client:
        """A client of a connection with these streams. ``options``: keys of `api`, and clock, limiter, breaker."""
        parts = {name: options.pop(name) for name in ("clock", "limiter", "breaker") if name in options}
        parts.setdefault("limiter", LocalLimiter(parts.get("clock")))
        api = {"url": url, "pagination": {"type": "single_page"}, **options}
        streams = streams or {"things": {"request": "GET /things", "records": ".", "primary_key": "id"}}
        connection = Connection.model_validate({"connection": "acme", "api": api, "streams": streams})
        known = {name: Secret(value) for name, value in (secrets or {}).items()}
        client = Client(connection, secrets=known, **parts)
        self._stack.callback(client.close)
        return client


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(first, first + count)]
