"""The circuit breaker shared by all processes of a connection, and its budget of retries, by the database's clock.

The state machine is written beside its table, in migrations/0007_breaker.sql.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row

from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import BreakerOpen
from integrations_pipeline.spec.limits import (
    BREAKER_FAILURES,
    BREAKER_LONGEST_PAUSE_SECONDS,
    BREAKER_PAUSE_SECONDS,
    RETRY_PERCENT,
    RETRY_RESERVE,
)

FRESH_SECONDS = 1.0
"""A breaker found closed is taken for closed this long: another process's news is at most so old."""

PROBE_MARGIN_SECONDS = 10.0
"""A probe lasts as long as one answer may take, and this much: for taking its turn under the limits."""

ASK_AGAIN_SECONDS = 15
"""While somebody else probes, the others come back after this: by then it is mostly decided."""

REFILL_SECONDS = 600.0
"""In this time the reserve of retries fills up from nothing."""

# Takes the probe of an open breaker whose pause is over (or at once, for a person), or keeps the own one longer.
PROBE = """
UPDATE integrations.breaker SET probe = %(probe)s,
    probe_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
WHERE connection = %(connection)s AND opened_at IS NOT NULL AND (
    (probe = %(probe)s AND probe_until > clock_timestamp())
    OR ((retry_at <= clock_timestamp() OR %(at_once)s) AND (probe_until IS NULL OR probe_until <= clock_timestamp())))
RETURNING true
"""

# How it stands. Next try: when a call will be let through; while somebody probes, when to ask what was found.
LOOK = f"""
SELECT connection, failures, reason, opened_at AS since,
    CASE WHEN opened_at IS NULL THEN 'closed' WHEN probe_until > clock_timestamp() THEN 'half_open' ELSE 'open' END
        AS state,
    CASE WHEN probe_until > clock_timestamp()
        THEN least(probe_until, clock_timestamp() + interval '{ASK_AGAIN_SECONDS} s') ELSE retry_at END AS next_try
FROM integrations.breaker WHERE connection = ANY (%s)
"""

# A failure: one more in a row while closed, which may open it; the own probe's opens it for longer; others don't count.
FAILED = """
INSERT INTO integrations.breaker AS b (connection, failures, reason) VALUES (%(connection)s, 1, %(reason)s)
ON CONFLICT (connection) DO UPDATE SET (failures, reason, opened_at, pauses, retry_at, probe, probe_until) = (
    SELECT b.failures + 1, excluded.reason, coalesce(b.opened_at, CASE WHEN opens THEN at END),
        b.pauses + opens::integer,
        CASE WHEN opens THEN at + make_interval(secs => least(%(pause)s * 2.0 ^ least(b.pauses, 20), %(longest)s)) END,
        NULL::uuid, NULL::timestamptz
    FROM (SELECT clock_timestamp() AS at, b.opened_at IS NOT NULL OR b.failures + 1 >= %(bound)s AS opens) now)
WHERE b.opened_at IS NULL OR (b.probe = %(probe)s AND b.probe_until > clock_timestamp())
"""

# A success: nothing in a row any more; the own probe's closes an open breaker, others leave it open.
SUCCEEDED = """
UPDATE integrations.breaker SET failures = 0, opened_at = NULL, pauses = 0, retry_at = NULL,
    probe = NULL, probe_until = NULL
WHERE connection = %(connection)s AND CASE WHEN opened_at IS NULL THEN failures > 0 ELSE probe = %(probe)s END
"""

# A probe that told nothing: the next caller may take it.
GIVE_BACK = """
UPDATE integrations.breaker SET probe = NULL, probe_until = NULL WHERE connection = %(connection)s AND probe = %(probe)s
"""

# One retry from the budget: a share of each request made goes into it, and time fills it up.
RETRY = """
INSERT INTO integrations.breaker AS b (connection, retries_left) VALUES (%(connection)s, %(reserve)s - 1.0)
ON CONFLICT (connection) DO UPDATE SET retries_at = clock_timestamp(), retries_left = {left} - 1
WHERE {left} >= 1
RETURNING true
""".replace(
    "{left}",
    "least(%(reserve)s, coalesce(b.retries_left, %(reserve)s) + %(earned)s"
    " + %(per_second)s * extract(epoch FROM clock_timestamp() - b.retries_at)::float8)",
)

Borrow = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@dataclass(frozen=True)
class BreakerState:
    """How a connection's breaker stands. ``since`` and ``next_try`` are None while it is closed."""

    connection: str
    failures: int = 0
    reason: str | None = None
    since: datetime | None = None
    state: Literal["closed", "open", "half_open"] = "closed"
    next_try: datetime | None = None


def read_breakers(session: psycopg.Connection[Any], connections: Iterable[str]) -> dict[str, BreakerState]:
    """By connection; one that never failed is closed."""
    names = list(connections)
    found = session.cursor(row_factory=class_row(BreakerState)).execute(LOOK, [names]).fetchall()
    return {name: BreakerState(name) for name in names} | {one.connection: one for one in found}


class SharedBreaker:
    """``ports.Breaker`` on PostgreSQL. Thread-safe. ``at_once``: a person asks, who needn't wait for a pause to end."""

    def __init__(self, borrow: Borrow, connection: Connection, *, at_once: bool = False, clock: Clock | None = None):
        self._borrow, self._name, self._at_once = borrow, connection.name, at_once
        self._clock = clock or SystemClock()
        self._bound = max(BREAKER_FAILURES, 2 * connection.api.retry.attempts)
        self._lease_seconds = connection.api.timeout.total_seconds() + PROBE_MARGIN_SECONDS
        self._own = threading.local()  # .probe: what this thread holds
        self._closed_until = float("-inf")  # monotonic seconds
        self._failing = False  # whether failures in a row were counted
        self._guard = threading.Lock()
        self._tries = 0  # not yet counted into the budget

    def before_call(self) -> None:
        """Raises BreakerOpen with ``resume_at`` while calls are paused; may hold the probe afterwards."""
        if self._probe is None and self._clock.monotonic_seconds() < self._closed_until:
            return
        wanted = self._probe or uuid4()
        with self._borrow() as session:
            values = {"lease_seconds": self._lease_seconds, "at_once": self._at_once, **self._values(wanted)}
            if session.execute(PROBE, values).fetchone():
                self._own.probe = wanted
                return
            self._own.probe = None
            self._heed(read_breakers(session, [self._name])[self._name])

    def succeeded(self) -> None:
        self._count()
        if self._probe is not None or self._failing:
            self._tell(SUCCEEDED)
            self._failing = False

    def failed(self, what: str) -> None:
        self._count()
        bounds = {"bound": self._bound, "pause": BREAKER_PAUSE_SECONDS, "longest": BREAKER_LONGEST_PAUSE_SECONDS}
        self._tell(FAILED, reason=what, **bounds)
        with self._borrow() as session:
            self._heed(read_breakers(session, [self._name])[self._name])

    def undecided(self) -> None:
        if self._probe is not None:
            self._tell(GIVE_BACK)

    def may_retry(self) -> bool:
        with self._guard:
            tries, self._tries = self._tries, 0
        earned = tries * RETRY_PERCENT / 100
        values = {"reserve": float(RETRY_RESERVE), "earned": earned, "per_second": RETRY_RESERVE / REFILL_SECONDS}
        with self._borrow() as session:
            taken = session.execute(RETRY, {"connection": self._name, **values}).fetchone() is not None
        if not taken:
            with self._guard:
                self._tries += tries
        return taken

    def _count(self) -> None:
        with self._guard:
            self._tries += 1

    @property
    def _probe(self) -> UUID | None:
        return getattr(self._own, "probe", None)

    def _values(self, probe: UUID | None) -> dict[str, Any]:
        return {"connection": self._name, "probe": probe}

    def _tell(self, statement: str, **values: Any) -> None:
        """What became of the try; with it the thread's probe is over."""
        probe, self._own.probe = self._probe, None
        self._closed_until = float("-inf")
        with self._borrow() as session:
            session.execute(statement, {**self._values(probe), **values})

    def _heed(self, found: BreakerState) -> None:
        """Remembers a closed one for a moment. Raises BreakerOpen."""
        if found.state == "closed":
            self._failing = found.failures > 0
            self._closed_until = self._clock.monotonic_seconds() + FRESH_SECONDS
            return
        raise BreakerOpen(
            f"calls to the source are paused after {found.failures} failed tries in a row; the last: {found.reason}",
            next=f"it is resumed by itself; `integrations connect {self._name}` asks the source at once",
            resume_at=found.next_try,
        )
