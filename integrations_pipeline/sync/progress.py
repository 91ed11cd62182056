"""How long work is watched while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told once per page; must be quick and must not raise."""

    def page(self, stream: str, *, records: int, pages: int, total: int | None, waited_seconds: float) -> None:
        """Counts since the stream's run started; ``total`` where the source tells it."""

    def phase(self, stream: str, text: str) -> None:
        """What the stream is doing now, in a few words."""


class Unwatched:
    """Progress that nobody looks at."""

    def page(self, stream: str, *, records: int, pages: int, total: int | None, waited_seconds: float) -> None:
        return

    def phase(self, stream: str, text: str) -> None:
        return
