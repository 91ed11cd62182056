"""Counts what a client did: every HTTP request, retries and redirects included, and every wait."""

from __future__ import annotations

from threading import Lock


class Meter:
    """Counters since the client was made; safe to read and add to from any thread.

    ``waited_seconds`` sums the waits of all workers, so it may exceed the time that passed. ``wait_reason`` is why the
    latest wait was, or is being, held.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests = 0
        self.waited_seconds = 0.0
        self.wait_reason = ""

    def count_request(self) -> None:
        with self._lock:
            self.requests += 1

    def begin_wait(self, reason: str) -> None:
        with self._lock:
            self.wait_reason = reason

    def count_wait(self, seconds: float) -> None:
        with self._lock:
            self.waited_seconds += seconds
