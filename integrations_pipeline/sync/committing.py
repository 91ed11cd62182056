"""Committing in a thread of its own, so that the next chunk is prepared while the database works on this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar


class Addable(Protocol):
    """Counters of one kind."""

    def __add__(self, other: Any) -> Any: ...


C = TypeVar("C", bound=Addable)


class Committer(Generic[C]):
    """Commits one chunk after the other and adds up what became of them.

    At most one commit is under way; ``settle`` waits for it and raises what it raised.
    """

    def __init__(self, none: C) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pending: Future[C] | None = None
        self.counters = none

    def submit(self, commit: Callable[[], C]) -> None:
        self.settle()
        self._pending = self._thread.submit(commit)

    def settle(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self.counters = self.counters + pending.result()

    def close(self) -> None:
        """Waits for what is under way; its outcome is told by ``settle`` only."""
        self._thread.shutdown(wait=True)
