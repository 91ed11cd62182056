"""Fetches what will probably be asked for next while the caller works on what it has.

What is fetched ahead is only a guess: an answer is used where the list really comes to that position, and dropped
where it doesn't, for instance because the source gives smaller pages than it was asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import Generic, TypeVar

from integrations_pipeline.spec.limits import READ_AHEAD_PAGES
from integrations_pipeline.spec.running import carried

K = TypeVar("K")
V = TypeVar("V")


class ReadAhead(Generic[K, V]):
    """At most ``limits.READ_AHEAD_PAGES`` answers are held or under way; with one worker one, without any none.

    ``fetch`` is called in worker threads; what it raises is raised where its answer is taken. ``stop`` tells it that
    nobody waits any more.
    """

    def __init__(self, fetch: Callable[[K], V], *, workers: int, stop: Event):
        self._fetch, self._workers, self._stop = fetch, workers, stop
        self._pages = READ_AHEAD_PAGES if workers > 1 else workers
        self._threads: ThreadPoolExecutor | None = None
        self._planned: deque[tuple[K, Future[V]]] = deque()

    def take(self, key: K) -> V:
        """The answer for a key: the one fetched ahead, else fetched now. After a wrong guess only one is read ahead."""
        if self._planned and self._planned[0][0] == key:
            return self._planned.popleft()[1].result()
        if self._planned:
            self._drop()
            self._pages = 1
        return self._fetch(key)

    def plan(self, keys: Iterable[K]) -> None:
        """Fetches these ahead, in order, beside those already planned."""
        planned = [key for key, _ in self._planned]
        wanted = list(islice(keys, self._pages))
        if wanted[: len(planned)] == planned[: len(wanted)]:
            for key in wanted[len(planned) :]:
                self._planned.append((key, self._pool().submit(carried(self._fetch), key)))

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="read-ahead")
        return self._threads

    def _drop(self) -> None:
        for _, future in self._planned:
            future.cancel()
        self._planned.clear()

    def close(self) -> None:
        """Ends all threads: a wait or read under way is cut short."""
        self._stop.set()
        self._drop()
        if self._threads:
            self._threads.shutdown(wait=True, cancel_futures=True)
