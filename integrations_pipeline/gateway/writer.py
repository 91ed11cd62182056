"""One writer for all requests: what arrives while a commit is under way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.spec.limits import COMMIT_SECONDS
from integrations_pipeline.store.inbox import Event, append

BATCH_EVENTS = 1_000
"""Per commit: more would not be faster, and make the next ones wait."""

Waiting = tuple[Sequence[Event], asyncio.Future[bool]]


class Writer:
    """Stores events for requests of one event loop. ``connect`` gives a session in autocommit.

    The commits run in a thread, one after the other. Alone, an event is committed at once; under load, hundreds share a
    commit, as there is no waiting for a full batch.
    """

    def __init__(self, connect: Callable[[], Any], batch_events: int = BATCH_EVENTS):
        self._connect = connect
        self._batch_events = batch_events
        self._session: Any = None
        self._waiting: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Requests still waiting are given up; none of them was acknowledged."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop_session)
        self._thread.shutdown()

    async def store(self, events: Sequence[Event]) -> bool:
        """Returns when the events are committed; False where the database can't hold one of them.

        Raises DestinationError where it can't be reached, or took longer than ``limits.COMMIT_SECONDS``.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, future))
        self._arrived.set()
        try:
            return await asyncio.wait_for(future, COMMIT_SECONDS)
        except TimeoutError:
            raise DestinationError(f"the database took longer than {COMMIT_SECONDS:.0f} s", where="inbox") from None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._take():
                events = [event for given, _ in batch for event in given]
                try:
                    refused = await loop.run_in_executor(self._thread, self._commit, events)
                except Exception as error:  # noqa: BLE001 - each request gets it; the writer serves the next ones
                    fail(batch, error)
                else:
                    succeed(batch, refused)

    def _take(self) -> list[Waiting]:
        """The oldest that fit into a commit, without those whose request has ended; at least one."""
        batch: list[Waiting] = []
        size = taken = 0
        for events, future in self._waiting:
            if batch and size + len(events) > self._batch_events:
                break
            taken += 1
            if not future.done():
                batch.append((events, future))
                size += len(events)
        del self._waiting[:taken]
        return batch

    def _commit(self, events: Sequence[Event]) -> frozenset[int]:
        """In the thread. A session that broke since its last use is replaced once: appending twice stores once."""
        fresh = self._session is None
        try:
            self._session = self._session or self._connect()
            return append(self._session, events)
        except DestinationError:
            self._drop_session()
            if fresh:
                raise
        return self._commit(events)

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def fail(batch: Sequence[Waiting], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def succeed(batch: Sequence[Waiting], refused: frozenset[int]) -> None:
    first = 0
    for events, future in batch:
        if not future.done():
            future.set_result(refused.isdisjoint(range(first, first + len(events))))
        first += len(events)
