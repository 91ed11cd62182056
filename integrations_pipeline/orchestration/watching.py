"""Progress of a sync as lines of the run's log: a few a minute, however many pages there are."""

from __future__ import annotations

import time
from logging import Logger

LINE_SECONDS = 2.0
"""About a chunk's time. Dagster stores tens of events a second for all runs together, so pages can't have one each."""


class LoggedProgress:
    """Told of each page; writes a line at most every LINE_SECONDS."""

    def __init__(self, log: Logger) -> None:
        self.log = log
        self.told_at = 0.0

    def page(self, stream: str, *, records: int, pages: int, total: int | None, waited_seconds: float) -> None:
        if time.monotonic() - self.told_at < LINE_SECONDS:
            return
        self.told_at = time.monotonic()
        of = f" of {total:,}" if total is not None else ""
        waited = f", {waited_seconds:.0f} s of it waiting" if waited_seconds >= 1 else ""
        self.log.info(f"{stream}: {records:,}{of} records on {pages:,} pages{waited}")

    def phase(self, stream: str, text: str) -> None:
        self.log.info(f"{stream}: {text}")
