"""The error tree: every failure the platform reports, grouped by what the caller does next.

IntegrationError
├── ConfigError        exit 2 before the first request, exit 1 in a source's answer: the YAML or a setting must change
├── Deferred           exit 3: nobody must act, the work is resumed at ``resume_at``
│   ├── RateLimited · Transient · BreakerOpen · LeaseHeld · OffPeak · AnswerLost
└── Failed             exit 1: somebody must act
    ├── CredentialsError · PermissionDenied · ContractError · DataError · SourceConfigError
    └── NotFound · Conflict · Exists · CursorExpired · DestinationError

Each says what happened, where (connection, stream, record, request), who must act and what to do next.
``error_class`` is the word of the grammar (GRAMMAR, CLASS) that appears in ``--json`` and in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a YAML file: ``file:line: path: expected (did you mean …)``. Lines count from 1."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class IntegrationError(Exception):
    """Base of all errors a person may see. ``str(error)`` is one line: what, where, who, next."""

    error_class: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    default_who: ClassVar[str] = "the person who runs this connection"
    default_next: ClassVar[str] = (
        "see `integrations status` for where it stands; if that doesn't tell why, run it again with `--debug`"
    )

    def __init__(self, what: str, *, where: str = "", who: str = "", next: str = "", resume_at: datetime | None = None):
        super().__init__(what)
        self.what = what
        self.where = where
        self.who = who or self.default_who
        self.next = next or self.default_next
        self.resume_at = resume_at

    def at(self, where: str) -> IntegrationError:
        """The same error with its place, unless a nearer place is already known."""
        self.where = self.where or where
        return self

    def __str__(self) -> str:
        where = f" [{self.where}]" if self.where else ""
        return f"{self.what}{where} ({self.who}: {self.next})"

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` object of the JSON contract."""
        return {
            "class": self.error_class,
            "message": self.what,
            "where": self.where,
            "who": self.who,
            "next": self.next,
        }


class ConfigError(IntegrationError):
    """A file, setting or secret is wrong or missing; found before the first request."""

    error_class = "config"
    exit_code = 2
    default_who = "whoever edits the connection"
    default_next = "mend the file, then run `integrations check`"

    def __init__(
        self, what: str, *, problems: tuple[Problem, ...] = (), where: str = "", who: str = "", next: str = ""
    ):
        super().__init__(what, where=where, who=who, next=next)
        self.problems = problems


class Deferred(IntegrationError):
    """Not now: nothing is lost, the stream goes on from its bookmark at ``resume_at``."""

    exit_code = 3
    default_who = "nobody"
    default_next = "it is resumed by itself"


class RateLimited(Deferred):
    """The source asked for a wait longer than a worker may hold."""

    error_class = "rate_limited"
    default_next = "it is resumed by itself; `integrations connect` asks the source at once"


class Transient(Deferred):
    """The source is down, unreachable or answered 5xx after all tries."""

    error_class = "transient"


class BreakerOpen(Deferred):
    """The source failed repeatedly; calls are paused for everybody."""

    error_class = "breaker_open"


class LeaseHeld(Deferred):
    """Another process is syncing this stream."""

    error_class = "lease_held"


class OffPeak(Deferred):
    """Work that belongs into the connection's ``off_peak`` hours."""

    error_class = "off_peak"


class AnswerLost(Deferred):
    """A write left, but it isn't known whether it was done: no answer, 5xx, an answer that can't be read.

    Never raised where it surely wasn't done. Whoever sends it again must be sure that it can't be done twice.
    """

    error_class = "unsure"
    default_next = "it is settled by itself: sent again with the same key, or read back"


class Failed(IntegrationError):
    """Somebody must act before a retry can help."""


class CredentialsError(Failed):
    """401: the secret is wrong, expired or revoked."""

    error_class = "credentials"
    default_who = "whoever owns the account"
    default_next = "renew the secret, then run `integrations connect`"


class PermissionDenied(Failed):
    """403: the account may not do this."""

    error_class = "permission"
    default_who = "an administrator of the outside system"
    default_next = "grant the account the scope named in the message"


class ContractError(Failed):
    """The source's answer is not what the connector declares: HTML, wrong shape, implausible amount of change."""

    error_class = "contract"
    default_who = "whoever maintains the connector"
    default_next = "compare the source's answer with the connector file"


class DataError(Failed):
    """A record was refused (422 from the source, or a value that can't be stored)."""

    error_class = "data"


class SourceConfigError(Failed):
    """The source calls our request wrong (other 4xx)."""

    error_class = "config"
    default_who = "whoever maintains the connector"
    default_next = "compare the request with the provider's documentation"


class NotFound(Failed):
    """404 on a record."""

    error_class = "not_found"


class Conflict(Failed):
    """409 or 412: the record changed meanwhile."""

    error_class = "conflict"


class Exists(Failed):
    """A create met an object that is already there."""

    error_class = "exists"


class CursorExpired(Failed):
    """410 on a list: the bookmark is too old, the list starts again."""

    error_class = "cursor_expired"


class DestinationError(Failed):
    """Our own database or disk refused a write."""

    error_class = "destination"
    default_who = "whoever runs the database"
    default_next = "check its log, disk and permissions"


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """One error that names every problem, in file order."""
    ordered = tuple(sorted(set(problems), key=lambda one: (one.file, one.line, one.path, one.message)))
    return ConfigError("\n".join(map(str, ordered)), problems=ordered)
