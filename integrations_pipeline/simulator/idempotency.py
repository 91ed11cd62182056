"""Idempotency keys as a source keeps them: the same request gives the same answer and is done once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b

from integrations_pipeline.simulator.answer import Answer, Refused
from integrations_pipeline.simulator.views import Request

MOST_KEYS = 100_000
REPLAYED = "Idempotent-Replayed"
"""As https://docs.whop.com/developer/api/idempotency (read 2026-11-22) and others mark an answer given again."""


@dataclass(frozen=True, slots=True)
class Kept:
    request: bytes
    answer: Answer
    at: datetime


class Keys:
    """The keys of one source, each with its first request and that one's answer."""

    def __init__(self) -> None:
        self.kept: OrderedDict[str, Kept] = OrderedDict()

    def answer(self, key: str, request: Request, now: datetime, lifetime: timedelta) -> Answer | None:
        """The first answer; None for a new key or one past its lifetime. Raises Refused where the request differs."""
        kept = self.kept.get(key)
        if kept is None or now - kept.at >= lifetime:
            return None
        if kept.request != digest(request):
            raise Refused(422, "idempotency_error", "this key was used with another request")
        return replace(kept.answer, headers={**kept.answer.headers, REPLAYED: "true"}, wrote=())

    def keep(self, key: str, request: Request, answer: Answer, now: datetime) -> None:
        self.kept[key] = Kept(digest(request), replace(answer, headers=dict(answer.headers)), now)
        self.kept.move_to_end(key)
        while len(self.kept) > MOST_KEYS:
            self.kept.popitem(last=False)


def digest(request: Request) -> bytes:
    text = f"{request.method} {request.path}?{request.query_string}\n".encode()
    return blake2b(text + request.content, digest_size=16).digest()
