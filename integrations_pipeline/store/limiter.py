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

TOLD_FRESH_SECONDS = 0.2
"""Without limits, and while the source told nobody to wait or to go slower, the database is asked this often."""

NEAR_REQUESTS = 100
"""Fewer requests that the source says it will still answer are counted by all processes together."""

LOOK_SECONDS = 0.02
"""Who waits for another one's answer asks this often whether it has come."""

IDLE_SECONDS = 5.0
"""A longer pause between requests says nothing of how fast is too fast."""

RESERVE = """
SELECT taken, wait, careful, number
FROM integrations.reserve(%s, %s::text[], %s::float8[], %s::float8[], %s, %s)
"""
REFUSED = "SELECT integrations.refused(%s, %s, %s, %s, %s)"
LEFT = "SELECT integrations.note_left(%s, %s, %s, %s, %s)"
HELD_UP = """
SELECT EXISTS (SELECT FROM integrations.rate_limit
    WHERE connection = %s AND bucket = '' AND told_until > extract(epoch FROM clock_timestamp()))
"""
LEARNED = """
SELECT coalesce(max(pace) FILTER (WHERE bucket = %(learned)s), 0),
       greatest(coalesce(max(told_until) FILTER (WHERE bucket = ''), 0) - extract(epoch FROM clock_timestamp()), 0)
FROM integrations.rate_limit WHERE connection = %(connection)s
"""
TOLD = """
INSERT INTO integrations.rate_limit (connection, bucket, tat, told_until)
VALUES (%s, '', 0, extract(epoch FROM clock_timestamp()) + %s)
ON CONFLICT (connection, bucket) DO UPDATE SET told_until = greatest(rate_limit.told_until, excluded.told_until)
"""

# A person asks: what the source told to wait for is forgotten, the pace learned from it too, and what waits is due.
FORGET_TOLD = """
UPDATE integrations.rate_limit
SET told_until = 0, pace = 0, stretch_at = 0, stretch_granted = 0, granted = 0, left_requests = 0, left_until = 0
WHERE connection = %s
"""
DUE = """
UPDATE integrations.stream_state SET resume_at = now()
WHERE connection = %s AND resume_at > now() AND last_error ->> 'class' = 'rate_limited'
"""


def ask_anew(session: psycopg.Connection[Any], connection: str) -> None:
    """Ends a wait that the source told, for all processes, and forgets what was learned; told again, it holds again."""
    session.execute(FORGET_TOLD, [connection])
    session.execute(DUE, [connection])


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


def learned_of(limits: Sequence[Limit]) -> str:
    """The row of what the source told about requests of this kind: those that the same patterns match."""
    return " ".join(["~", *sorted({limit.match for limit in limits if limit.match})])


def spacing(buckets: Sequence[Bucket]) -> float:
    return min((bucket.interval_seconds for bucket in buckets), default=JITTER)


def _spaced(interval_seconds: float) -> float:
    return interval_seconds + min(interval_seconds * JITTER, JITTER)


def seconds_for(
    session: psycopg.Connection[Any], connection: str, limits: Sequence[Limit], requests: int, priority: Priority
) -> float:
    """How long that many requests take under these limits, by what is declared and what the source has told since."""
    learned = {"connection": connection, "learned": learned_of(limits)}
    row = session.execute(LEARNED, learned).fetchone()
    pace, wait = map(float, row) if row else (0.0, 0.0)
    after_burst = [
        one.interval_seconds * requests - one.tolerance_seconds(priority) - one.interval_seconds
        for one in map(bucket_of, limits)
    ]
    return wait + max([0.0, pace * requests, *after_burst]) if requests else 0.0


class SharedLimiter:
    """``ports.Limiter`` on PostgreSQL. Thread-safe; keeps one connection of its own. ``close`` when done."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], connection: str, clock: Clock | None = None):
        self._connect = connect
        self._name = connection
        self._clock = clock or SystemClock()
        self._guard = threading.Lock()
        self._session: psycopg.Connection[Any] | None = None
        self._free_until = float("-inf")  # monotonic seconds: without limits nobody is asked before
        self._uncounted = 0  # requests let through without asking, since
        self._uncounted_since = self._uncounted_at = 0.0
        self._own = threading.local()  # .number: of the thread's latest grant

    def reserve(self, limits: Sequence[Limit], priority: Priority, hold: Callable[[float], None] = time.sleep) -> float:
        """Takes one request from each limit at once; returns the seconds to wait before sending it.

        While others go first it calls ``hold`` with the seconds until it asks again. Raises RateLimited with
        ``resume_at``, having taken nothing, where it would come to more than HOLD_SECONDS; DestinationError where the
        database is lost.
        """
        now = self._clock.monotonic_seconds()
        if not limits and now < self._free_until:
            self._count(now)
            return 0.0
        buckets = sorted({bucket_of(limit) for limit in limits}, key=lambda bucket: bucket.name)
        arguments = (
            [bucket.name for bucket in buckets],
            [bucket.interval_seconds for bucket in buckets],
            [bucket.tolerance_seconds(priority) for bucket in buckets],
            AHEAD_SECONDS[priority],
            learned_of(limits),
        )
        while True:
            taken, wait, self._own.careful, self._own.number = self._ask(RESERVE, self._name, *arguments)
            if taken:
                self._free_until = now if self._own.careful else now + TOLD_FRESH_SECONDS
                return float(wait)
            self._refuse_long(wait, self._clock.monotonic_seconds() - now)
            # A little apart, so that those who wait don't all ask at the same moment.
            least = min(wait, LOOK_SECONDS)
            hold(max(wait - AHEAD_SECONDS[priority], least) + random.random() * min(JITTER, spacing(buckets)))

    def still_granted(self) -> bool:
        """Whether a turn that was waited for still counts: not where the source told anybody to wait meanwhile."""
        return not self._ask(HELD_UP, self._name)[0]

    def told_to_wait(self, until: datetime) -> None:
        """Nobody of this connection is granted a request before ``until``."""
        seconds = (until - self._clock.now()).total_seconds()
        if seconds > 0:
            self._free_until = float("-inf")
            self._ask(TOLD, self._name, seconds)

    def refused(self, limits: Sequence[Limit], until: datetime) -> None:
        """As told_to_wait; and from then on slower, as fast as the source has just shown to bear."""
        seconds = max((until - self._clock.now()).total_seconds(), 0.0)
        with self._guard:
            uncounted, self._uncounted = self._uncounted, 0
        since = self._clock.monotonic_seconds() - self._uncounted_since
        self._free_until = float("-inf")
        self._ask(REFUSED, self._name, learned_of(limits), seconds, uncounted, since)

    def remaining(self, limits: Sequence[Limit], requests: int, until: datetime) -> None:
        """The source takes so many more until then; fewer than NEAR_REQUESTS are shared out by all processes."""
        seconds = (until - self._clock.now()).total_seconds()
        near = requests < NEAR_REQUESTS and seconds > 0
        if near or getattr(self._own, "careful", False):
            self._free_until = float("-inf")
            number = getattr(self._own, "number", None)
            self._ask(LEFT, self._name, learned_of(limits), requests, seconds if near else None, number)

    def close(self) -> None:
        with self._guard:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _refuse_long(self, wait: float, already: float) -> None:
        if wait + already > HOLD_SECONDS:
            raise RateLimited(
                f"the rate limit is used up for {wait:.0f} s", resume_at=self._clock.now() + timedelta(seconds=wait)
            )

    def _count(self, now: float) -> None:
        """A request that nobody was asked for; after an idle time a new count begins."""
        with self._guard:
            if self._uncounted == 0 or now - self._uncounted_at > IDLE_SECONDS:
                self._uncounted, self._uncounted_since = 0, now
            self._uncounted += 1
            self._uncounted_at = now
        self._own.number, self._own.careful = None, False

    def _ask(self, statement: str, *values: Any) -> Any:
        """One round trip on the limiter's own session."""
        with self._guard, destination_errors(self._name):
            if self._session is None or self._session.closed:
                self._session = self._connect()
                # A reservation lost in a power cut harms nobody; a disk flush per request would.
                self._session.execute("SET synchronous_commit = off")
            cursor = self._session.execute(statement, values, prepare=True)
            return cursor.fetchone() if cursor.description else None
