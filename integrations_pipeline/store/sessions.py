"""Database sessions for several threads of one piece of work, kept until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.types.json import set_json_dumps, set_json_loads

from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.holder import COLLISIONS

Done = TypeVar("Done")


def exact(session: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The session with JSON whose numbers stay as they are."""
    set_json_loads(decode, session)  # type: ignore[arg-type]
    set_json_dumps(encode, session)
    return session


class Sessions:
    """Each is used by one thread at a time, and in autocommit. Close them when done."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]):
        self._connect = connect
        self._idle: SimpleQueue[psycopg.Connection[Any]] = SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[psycopg.Connection[Any]]:
        """Raises DestinationError where the database is lost."""
        try:
            session = self._idle.get_nowait()
        except Empty:
            session = exact(self._connect())
        try:
            with destination_errors():
                yield session
        finally:
            if session.closed or session.broken:
                session.close()
            else:
                self._idle.put(session)

    def write(self, work: Callable[[psycopg.Connection[Any]], Done]) -> Done:
        """The work in one transaction; again where it collided with another one. Raises DestinationError."""
        with self.one() as session:
            for _ in range(COLLISIONS - 1):
                try:
                    with session.transaction():
                        return work(session)
                except (errors.DeadlockDetected, errors.SerializationFailure):
                    pass  # everything was rolled back: the same work again
            with session.transaction():
                return work(session)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()
