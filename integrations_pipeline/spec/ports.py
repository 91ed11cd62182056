"""The Protocols by which rooms of floor 1 are handed to each other without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from integrations_pipeline.spec.api import Limit


class Priority(IntEnum):
    """Who goes first under a shared limit; lower is more urgent."""

    USER = 0
    EVENT = 1
    POLL = 2
    BACKFILL = 3


class Limiter(Protocol):
    """A rate limit shared by all processes of a connection. One per connection."""

    def reserve(self, limits: Sequence[Limit], priority: Priority, hold: Callable[[float], None]) -> float:
        """Takes one request from each of the limits at once; returns the seconds to wait before sending it.

        While others go first it calls ``hold`` with the seconds until it asks again. A wait beyond
        ``limits.HOLD_SECONDS`` takes nothing and raises RateLimited with ``resume_at``.
        """

    def told_to_wait(self, until: datetime) -> None:
        """The server said so: nobody of this connection is granted a request before ``until``."""


class Breaker(Protocol):
    """A circuit breaker shared by all processes of a connection."""

    def before_call(self) -> None:
        """Raises BreakerOpen with ``resume_at`` while calls are paused."""

    def succeeded(self) -> None:
        """The source answered as it should."""

    def failed(self) -> None:
        """The source could not be reached or answered 5xx after all tries."""


class TokenStore(Protocol):
    """Where tokens obtained at run time live, encrypted and shared by all processes of a connection."""

    def read(self, name: str) -> str | None:
        """The stored value, or None."""

    def write(self, name: str, value: str, expires_at: datetime | None) -> None:
        """Stores before anybody uses it."""
