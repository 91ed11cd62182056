"""The `api` block: where a source is, how it limits us, and what its answers mean."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field as Key
from pydantic import field_validator, model_validator

from integrations_pipeline.spec.auth import Auth, NoAuth
from integrations_pipeline.spec.conditions import AnswerConditionText
from integrations_pipeline.spec.forms import METHODS, Call, Duration, Model, Origin, RateText, Size, Unit
from integrations_pipeline.spec.limits import HOLD_SECONDS, MAX_RESPONSE_BYTES, RETRY_ATTEMPTS, TIMEOUT_SECONDS
from integrations_pipeline.spec.pagination import Pagination
from integrations_pipeline.spec.paths import PathText
from integrations_pipeline.spec.places import ReadPlaceText

ErrorClass = Literal[
    "rate_limited",
    "transient",
    "credentials",
    "permission",
    "config",
    "contract",
    "data",
    "not_found",
    "conflict",
    "exists",
    "cursor_expired",
    "end_of_list",
    "ignore",
]
"""What an answer can be declared to mean; `end_of_list` and `ignore` are no errors."""


class Limit(Model):
    """One declared rate limit. Without `burst` it is a window (no such span holds more), with it a bucket."""

    short_form = {"type": "string"}
    match: str | None = Key(
        None, description="METHOD and path pattern, `*` for any run of characters; all requests unless given"
    )
    rate: RateText
    burst: int | None = Key(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"rate": value} if isinstance(value, str) else value

    @field_validator("match")
    @classmethod
    def _match(cls, value: str | None) -> str | None:
        if value is not None and value.partition(" ")[0] not in (*METHODS, "*"):
            raise ValueError(f"a match like 'GET /search/*' was expected, not {value!r}")
        return value

    def applies_to(self, method: str, path: str) -> bool:
        """Whether a request to this path (below the API's url) counts against the limit."""
        if self.match is None:
            return True
        pattern = "".join(".*" if char == "*" else re.escape(char) for char in self.match)
        return re.fullmatch(pattern, f"{method} {path}") is not None


class Quota(Model):
    remaining: ReadPlaceText
    reset: ReadPlaceText
    unit: Unit = "s"


class Wait(Model):
    read: ReadPlaceText
    unit: Unit = "s"


class Retry(Model):
    attempts: int = Key(RETRY_ATTEMPTS, ge=1, le=20)
    max_wait: Duration = timedelta(seconds=HOLD_SECONDS)


def parse_statuses(value: Any) -> tuple[int, ...]:
    """``403``, ``5xx`` or a list of them, as the range of statuses each stands for."""
    if isinstance(value, tuple):
        return value
    found: list[int] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, int) and not isinstance(one, bool) and 100 <= one <= 599:
            found.append(one)
        elif isinstance(one, str) and re.fullmatch(r"[1-5]xx", one):
            found.extend(range(int(one[0]) * 100, int(one[0]) * 100 + 100))
        else:
            raise ValueError(f"a status like 403, 5xx or a list of them was expected, not {one!r}")
    return tuple(found)


class ErrorRule(Model):
    """An answer of this status, where the condition holds on its body and headers, means the class."""

    status: Any = None
    when: AnswerConditionText | None = None
    is_: ErrorClass = Key(alias="is")
    id: PathText | None = Key(None, description="where an existing object's id is read (class `exists`)")

    @field_validator("status", mode="before")
    @classmethod
    def _status(cls, value: Any) -> Any:
        return None if value is None else parse_statuses(value)

    @model_validator(mode="after")
    def _something(self) -> ErrorRule:
        if self.status is None and self.when is None:
            raise ValueError("`status`, `when` or both were expected")
        return self


class Api(Model):
    """The `api` block: what holds for every request of a connection."""

    url: Origin
    origins: list[Origin] = []
    check: Call | None = None
    auth: Auth = NoAuth()
    pagination: Pagination | None = None
    headers: dict[str, Any] = {}
    query: dict[str, Any] = {}
    encoding: Literal["json", "form"] = "json"
    limits: list[Limit] = []
    quota: Quota | None = None
    wait: list[Wait] = []
    retry: Retry = Retry()
    errors: list[ErrorRule] = []
    concurrency: int = Key(1, ge=1, le=32)
    timeout: Duration = timedelta(seconds=TIMEOUT_SECONDS)
    max_response: Size = MAX_RESPONSE_BYTES
