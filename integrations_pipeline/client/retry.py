"""The only layer that repeats: how often, after which waits, and when the work is deferred instead."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event
from typing import TypeVar, cast

import backoff

from integrations_pipeline.client.meter import Meter
from integrations_pipeline.spec.api import Limit, Retry
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import Deferred, Transient
from integrations_pipeline.spec.ports import Breaker, Limiter

FIRST_WAIT_SECONDS = 0.5
LONGEST_STEP_SECONDS = 30.0  # where the source names no time
DEFERRED_SECONDS = 60.0  # when all tries are used up: the next one is a new run
SLICE_SECONDS = 0.25  # how soon a wait notices that nobody waits for it any more
JITTER_SECONDS = 1.0

T = TypeVar("T")


class TryAgain(Exception):
    """A try that failed in a way a repetition may mend. ``told_seconds``: the wait the source asked for."""

    def __init__(self, error: Deferred, told_seconds: float | None = None):
        super().__init__(error.what)
        self.error = error
        self.told_seconds = told_seconds


class Waiting:
    """Holds the thread, in slices, and counts it. Cut short by ``stop`` with Transient. ``attempt`` is the try of the
    request under way."""

    def __init__(self, clock: Clock, meter: Meter, stop: Event):
        self.clock, self._meter, self._stop = clock, meter, stop
        self.attempt = 0
        self._held: list[tuple[float, str]] = []

    def hold(self, seconds: float, reason: str) -> None:
        if seconds <= 0:
            return
        self._meter.begin_wait(reason)
        began = self.clock.monotonic_seconds()
        while (left := began + seconds - self.clock.monotonic_seconds()) > 0:
            self.check()
            self.clock.sleep(min(left, SLICE_SECONDS))
        self._meter.count_wait(seconds)
        self._held.append((seconds, reason))

    def spent(self) -> tuple[float, str | None]:
        """Seconds held since last asked, and the reason of the longest wait."""
        held, self._held = self._held, []
        return sum(seconds for seconds, _ in held), max(held)[1] if held else None

    def check(self) -> None:
        if self._stop.is_set():
            raise Transient("stopped", resume_at=self.clock.now())


class Tries:
    """The waits between the tries of one request; together they hold no longer than ``retry.max_wait``."""

    def __init__(self, retry: Retry, waiting: Waiting, limiter: Limiter, breaker: Breaker, limits: Sequence[Limit]):
        self._retry, self._waiting, self._limiter, self._breaker = retry, waiting, limiter, breaker
        self._limits = limits  # that hold for this request
        self._tried = 0
        self._left_seconds = retry.max_wait.total_seconds()
        self._wait_seconds = 0.0

    def too_long(self, failed: TryAgain) -> bool:
        """Whether to give up now. Everybody of the connection is told of a wait that the source asked for."""
        self._tried += 1
        if failed.told_seconds is None:
            step = FIRST_WAIT_SECONDS * 2 ** (self._tried - 1)
            self._wait_seconds = min(step, LONGEST_STEP_SECONDS)
        else:  # never less than told; a little more, so that many workers don't come back at once
            self._wait_seconds = failed.told_seconds + random.uniform(0, min(JITTER_SECONDS, failed.told_seconds / 10))
        until = self._waiting.clock.now() + timedelta(seconds=self._wait_seconds)
        if failed.error.error_class == "rate_limited":
            self._limiter.refused(self._limits, until)
        elif failed.told_seconds is not None:
            self._limiter.told_to_wait(until)
        deferred = self._waiting.clock.now() + timedelta(seconds=max(self._wait_seconds, DEFERRED_SECONDS))
        failed.error.resume_at = until if self._wait_seconds > self._left_seconds else deferred
        return self._wait_seconds > self._left_seconds or self._used_up(failed)

    def _used_up(self, failed: TryAgain) -> bool:
        """Whether the connection's budget forbids another try. One that the source named a time for is no blind one."""
        blind = failed.told_seconds is None and failed.error.error_class != "rate_limited"
        if not blind or self._tried >= self._retry.attempts or self._breaker.may_retry():
            return False
        failed.error.what += "; the retries of this connection are used up for now"
        return True

    def hold(self, failed: TryAgain) -> None:
        self._left_seconds -= self._wait_seconds
        self._waiting.hold(self._wait_seconds, failed.error.what[:80])


def repeat(attempt: Callable[[], T], tries: Tries, attempts: int) -> T:
    """The result of the first try that succeeds.

    Raises the last try's RateLimited or Transient with ``resume_at`` when all tries are used up, or at once when the
    wait would be longer than may be held; other errors pass through.
    """
    repeated = backoff.on_exception(
        backoff.constant,
        TryAgain,
        interval=0,  # the wait is held in `hold`: backoff's own sleep can't be cut short
        jitter=None,
        max_tries=attempts,
        giveup=lambda failed: tries.too_long(cast(TryAgain, failed)),
        on_backoff=lambda details: tries.hold(details["exception"]),
        logger=None,
    )(attempt)
    try:
        return repeated()
    except TryAgain as last:
        raise last.error from None
