"""The Protocols by which rooms of floor 1 are handed to each other without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol
from uuid import UUID

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

    def still_granted(self) -> bool:
        """Whether a turn that was waited for still counts: not where the source told anybody to wait meanwhile."""

    def told_to_wait(self, until: datetime) -> None:
        """The server said so: nobody of this connection is granted a request before ``until``."""

    def refused(self, limits: Sequence[Limit], until: datetime) -> None:
        """The server answered "too many requests", under these limits: as told_to_wait, and slower afterwards."""

    def remaining(self, limits: Sequence[Limit], requests: int, until: datetime) -> None:
        """The server said, in its answer to this thread's latest request, how many more it will take until then."""


class Breaker(Protocol):
    """A circuit breaker and a budget of retries, shared by all processes of a connection.

    Each try begins with ``before_call`` and ends, in the same thread, with one of ``succeeded``, ``failed`` and
    ``undecided``.
    """

    def before_call(self) -> None:
        """Raises BreakerOpen with ``resume_at`` while calls are paused.

        After the pause one caller of all processes passes and probes the source; the others wait for what it finds.
        """

    def succeeded(self) -> None:
        """The source answered: well, or with a refusal that only a living one can give."""

    def failed(self, what: str) -> None:
        """The source could not be reached, broke off or answered 5xx; ``what`` is for people and holds no secret.

        Raises BreakerOpen with ``resume_at`` where calls are paused by now.
        """

    def undecided(self) -> None:
        """The try told nothing of the source's health: it was stopped, or told to wait. A probe is given back."""

    def may_retry(self) -> bool:
        """Takes one from the connection's budget of retries; False while it is used up."""


class TokenStore(Protocol):
    """Where what a connection was granted at run time lives, encrypted and shared by all its processes."""

    def read(self, seed: str) -> bytes | None:
        """The stored value; None where there is none, or one that can't be read and grew from another seed.

        ``seed`` stands for the first refresh token. Raises ConfigError where the key is missing or another one.
        """

    def write(self, value: bytes, seed: str, expires_at: datetime | None) -> None:
        """Stores it durably, before anybody uses it. Raises DestinationError, ConfigError where there is no key."""

    def alone(self) -> AbstractContextManager[bool]:
        """Whether this is the only one that may ask for a new token until the block ends; never waits."""


@dataclass(slots=True)
class HttpCall:
    """One HTTP call, each try and each redirect of its own. Nothing in it holds a secret; the times are ours.

    ``rows``: of a list's page, where known. ``outcome``: `ok`, the class of the error, or what the answer was declared
    to mean (`end_of_list`, `ignore`). ``waited_seconds`` were held before it, by its ``wait_reason``. ``stream`` and
    ``run_id`` are None where it belongs to none.
    """

    id: int
    at: datetime
    connection: str
    stream: str | None
    run_id: UUID | None
    method: str
    url: str
    attempt: int = 1
    waited_seconds: float = 0.0
    wait_reason: str | None = None
    status: int | None = None
    seconds: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    request_id: str | None = None
    rows: int | None = None
    outcome: str = "ok"
    error: str | None = None
    request_body: str | None = None
    response_body: str | None = None


class CallLog(Protocol):
    """Where HTTP calls are written down. Any thread may use it."""

    def note(self, call: HttpCall) -> None:
        """Keeps it to be written soon. Neither waits nor raises."""

    def flush(self) -> str | None:
        """Writes what was noted. Never raises: what could not be written is told, in words for people."""
