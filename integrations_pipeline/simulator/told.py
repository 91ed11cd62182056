"""What readers were told about waiting, and whether they kept to it."""

from __future__ import annotations

from collections.abc import Callable

from integrations_pipeline.simulator.answer import Answer

ON_ITS_WAY_SECONDS = 0.25
"""A request that comes so soon after the telling was on its way already."""


class Told:
    """Counts requests, answers of 429, and requests that came while their sender had been told to wait."""

    def __init__(self, now: Callable[[], float]):
        self.now = now
        self.reset()

    def reset(self) -> None:
        self.requests = self.too_many = self.early = 0
        self.since = self.until = 0.0

    def asked(self) -> None:
        self.requests += 1
        now = self.now()
        self.early += self.since + ON_ITS_WAY_SECONDS < now < self.until

    def answered(self, answer: Answer) -> None:
        self.too_many += answer.status == 429
        if answer.told_seconds:
            now = self.now()
            self.since = now if now >= self.until else self.since
            self.until = max(self.until, now + answer.told_seconds)

    def report(self) -> dict[str, int]:
        return {"requests": self.requests, "too_many": self.too_many, "while_told_to_wait": self.early}
