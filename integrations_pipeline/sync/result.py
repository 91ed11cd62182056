"""What a sync did, as values and as the JSON document that scripts rely on (README, *The contract*)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from integrations_pipeline.spec.errors import ConfigError, Deferred, IntegrationError
from integrations_pipeline.store.judging import Judged
from integrations_pipeline.store.landing import Counters
from integrations_pipeline.store.shaping import ShapeCounters

Status = Literal["succeeded", "deferred", "failed"]
EXIT_CODES: dict[Status, int] = {"succeeded": 0, "deferred": 3, "failed": 1}
WORST_FIRST: tuple[Status, ...] = ("failed", "deferred", "succeeded")


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the millisecond, ending in Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class StreamResult:
    """One stream's part of a sync. ``counters`` balance; ``error`` is None only where the stream succeeded."""

    stream: str
    status: Status = "succeeded"
    error: IntegrationError | None = None
    counters: Counters = field(default_factory=Counters)
    shaped: ShapeCounters = field(default_factory=ShapeCounters)
    healed: int = 0
    pages: int = 0
    requests: int = 0
    waited_seconds: float = 0.0
    duration_seconds: float = 0.0
    resume_at: datetime | None = None
    note: str | None = None
    judged: Judged | None = None

    @property
    def exit_code(self) -> int:
        """A fault of the configuration found before the stream's first request has a code of its own."""
        if isinstance(self.error, ConfigError) and not self.requests:
            return self.error.exit_code
        return EXIT_CODES[self.status]

    def remark(self, note: str) -> None:
        """Adds what people should know of the run beside its counters and error."""
        self.note = f"{self.note}; {note}" if self.note else note

    def end_with(self, error: IntegrationError) -> None:
        """Takes the error's outcome: deferred errors come back by themselves, all others fail the stream."""
        self.status = "deferred" if isinstance(error, Deferred) else "failed"
        self.error = error
        self.resume_at = error.resume_at

    @property
    def webhooks(self) -> dict[str, Any] | None:
        """What the run found of the stream's webhooks; None where it judged none."""
        found = self.judged
        if found is None or found.told is None:
            return None
        return {"told": found.told, "missed": found.missed, "delay_seconds": found.delay_seconds}

    def as_dict(self) -> dict[str, Any]:
        """The stream's entry in the JSON document."""
        return {
            "stream": self.stream,
            "status": self.status,
            "error": self.error.as_dict() if self.error else None,
            **self.counters.as_dict(),
            "tombstoned": self.counters.tombstoned,
            "healed": self.healed,
            "pages": self.pages,
            "requests": self.requests,
            "waited_seconds": round(self.waited_seconds, 3),
            "duration_seconds": round(self.duration_seconds, 3),
            "resume_at": iso(self.resume_at),
            "note": self.note,
            "webhooks": self.webhooks,
            "shaped": self.shaped.as_dict(),
        }


@dataclass
class SyncResult:
    """All streams of one sync of a connection."""

    connection: str
    streams: list[StreamResult] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """The worst of the streams': failed beats deferred beats succeeded."""
        found = {one.status for one in self.streams}
        return next((status for status in WORST_FIRST if status in found), "succeeded")

    @property
    def exit_code(self) -> int:
        """The worst of the streams': 1 beats 2 beats 3 beats 0."""
        codes = {one.exit_code for one in self.streams}
        return next((code for code in (1, 2, 3) if code in codes), 0)

    def as_dict(self) -> dict[str, Any]:
        return {"connection": self.connection, "streams": [one.as_dict() for one in self.streams]}
