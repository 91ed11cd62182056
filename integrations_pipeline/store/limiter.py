"""The rate limiter shared by all processes of a connection: a reservation in one SQL call, by the database's clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from integrations_pipeline.spec.api import Limit
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.errors import RateLimited
from integrations_pipeline.spec.limits import HOLD_SECONDS
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.failures import destination_errors

WINDOW_BURST = 10
"""A window of N is spent as a bucket of N/10 at once: any span then admits burst + rate × span, which is N."""

JITTER = 0.05
"""Where no token is left for the jitter of arrivals, requests are spaced this much wider (at most as many seconds)."""

AHEAD_SECONDS = {Priority.USER: 2.0, Priority.EVENT: 1.0, Priority.POLL: 0.5, Priority.BACKFILL: 0.0}
"""How far ahead a slot may be booked. Who would wait longer takes nothing and asks again when it is nearer, so the more
urgent never queue behind more than this much of less urgent work."""

LEFT_TO_OTHERS = {Priority.USER: 0.0, Priority.EVENT: 0.05, Priority.POLL: 0.1, Priority.BACKFILL: 0.5}
"""The part of each burst a priority doesn't touch."""

TOLD_FRESH_SECONDS = 1.0
"""Without limits the database is asked this often whether the source told anybody to wait."""

RESERVE = "SELECT taken, wait FROM integrations.reserve(%s, %s::text[], %s::float8[], %s::float8[], %s)"
TOLD = """
INSERT INTO integrations.rate_limit (connection, bucket, tat, told_until)
VALUES (%s, '', 0, extract(epoch FROM clock_timestamp()) + %s)
ON CONFLICT (connection, bucket) DO UPDATE SET told_until = greatest(rate_limit.told_until, excluded.told_until)
"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit as it is spent: ``burst`` at once, then one request per ``interval_seconds``."""

    name: str
    burst: int
    interval_seconds: float

    def tolerance_seconds(self, priority: Priority) -> float:
        """How early a request may come; a lower priority leaves part of the burst alone."""
        usable = self.burst - int(self.burst * LEFT_TO_OTHERS[priority])
        return (usable - 1) * self.interval_seconds


def bucket_of(limit: Limit) -> Bucket:
    """A window as a smaller bucket with a slower refill; a declared bucket less one token, kept for late arrivals."""
    count, seconds = limit.rate.count, limit.rate.seconds
    name = f"{count} per {seconds:g}s {limit.burst or ''} {limit.match or ''}".strip()
    if limit.burst is None:
        burst = max(1, count // WINDOW_BURST)
        interval = seconds / max(count - burst, 1)
        return Bucket(name, burst, _spaced(interval) if count == 1 else interval)
    interval = seconds / count
    return Bucket(name, max(limit.burst - 1, 1), interval if limit.burst > 1 else _spaced(interval))


def _spaced(interval_seconds: float) -> float:
    return interval_seconds + min(interval_seconds * JITTER, JITTER)


class SharedLimiter:
    """``ports.Limiter`` on PostgreSQL. Thread-safe; keeps one connection of its own. ``close`` when done."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], connection: str, clock: Clock | None = None):
        self._connect = connect
        self._name = connection
        self._clock = clock or SystemClock()
        self._guard = threading.Lock()
        self._session: psycopg.Connection[Any] | None = None
        self._told_at = 0.0  # monotonic seconds: nobody sends before
        self._asked_at = float("-inf")

    def reserve(self, limits: Sequence[Limit], priority: Priority, hold: Callable[[float], None] = time.sleep) -> float:
        """Takes one request from each limit at once; returns the seconds to wait before sending it.

        While others go first it calls ``hold`` with the seconds until it asks again. Raises RateLimited with
        ``resume_at``, having taken nothing, where it would come to more than HOLD_SECONDS; DestinationError where the
        database is lost.
        """
        if not limits:
            return self._held(self._told_seconds(), 0.0)
        started = self._clock.monotonic_seconds()
        buckets = sorted({bucket_of(limit) for limit in limits}, key=lambda bucket: bucket.name)
        arguments = (
            [bucket.name for bucket in buckets],
            [bucket.interval_seconds for bucket in buckets],
            [bucket.tolerance_seconds(priority) for bucket in buckets],
            AHEAD_SECONDS[priority],
        )
        while True:
            taken, wait = self._ask(RESERVE, self._name, *arguments)
            if taken:
                return float(wait)
            self._held(wait, self._clock.monotonic_seconds() - started)
            # A little apart, so that those who wait don't all ask at the same moment.
            hold(wait - AHEAD_SECONDS[priority] + random.random() * min(JITTER, buckets[0].interval_seconds))

    def told_to_wait(self, until: datetime) -> None:
        """Nobody of this connection is granted a request before ``until``."""
        seconds = (until - self._clock.now()).total_seconds()
        if seconds > 0:
            self._told_at = max(self._told_at, self._clock.monotonic_seconds() + seconds)
            self._ask(TOLD, self._name, seconds)

    def close(self) -> None:
        with self._guard:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _held(self, wait: float, already: float) -> float:
        if wait + already > HOLD_SECONDS:
            raise RateLimited(
                f"the rate limit is used up for {wait:.0f} s", resume_at=self._clock.now() + timedelta(seconds=wait)
            )
        return wait

    def _told_seconds(self) -> float:
        """What is left of a wait the source told; another process's is known within a second."""
        now = self._clock.monotonic_seconds()
        if now - self._asked_at >= TOLD_FRESH_SECONDS:
            self._asked_at = now
            _, wait = self._ask(RESERVE, self._name, [], [], [], 0.0)
            self._told_at = now + wait
        return max(self._told_at - now, 0.0)

    def _ask(self, statement: str, *values: Any) -> Any:
        """One round trip on the limiter's own session."""
        with self._guard, destination_errors(self._name):
            if self._session is None or self._session.closed:
                self._session = self._connect()
                # A reservation lost in a power cut harms nobody; a disk flush per request would.
                self._session.execute("SET synchronous_commit = off")
            cursor = self._session.execute(statement, values, prepare=True)
            return cursor.fetchone() if cursor.description else None
