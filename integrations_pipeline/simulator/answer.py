"""What a simulated source answers, before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations_pipeline.spec.decoding import encode


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer is sent where it isn't sent well: a name of `wire.DELIVERIES`, and what that needs."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Answer:
    """A whole answer. ``count`` is how many records it holds, ``told_seconds`` the wait that it tells of.

    ``wrote`` are the external ids of the records that the request made, changed or deleted.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    count: int = 0
    wrote: tuple[str, ...] = ()
    told_seconds: float = 0.0
    delay_seconds: float = 0.0
    delivery: Delivery | None = None


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, encode({"error": {"code": code, "message": message}}), dict(headers or {}))


class Refused(Exception):
    """Instead of an answer: the source does nothing, and says so. ``more`` is put beside the error."""

    def __init__(self, status: int, code: str, message: str, more: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, dict(more or {})

    @property
    def document(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}, **self.more}

    @property
    def answer(self) -> Answer:
        return Answer(self.status, encode(self.document))
