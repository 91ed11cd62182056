"""A rehearsal: the ordinary verbs on a database that forgets all they did.

Everything runs in one transaction of one session, which is rolled back at the end; what the verbs hold for transactions
are savepoints. Nothing may wait for a source meanwhile, since rows stay locked until then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.store.failures import LOST, destination_errors, one_line
from integrations_pipeline.store.store import CONNECTION_SETTINGS, Store

LOCK_SECONDS = 5
"""Whoever holds a row longer is not disturbed: the rehearsal gives up."""


class Stage(psycopg.Connection[Any]):
    """The one session. Closing it, as each of its users does, ends nothing; ``play`` does."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.prepare_threshold = None  # temporary tables of one name have different columns, one after the other
        self._turn = threading.RLock()
        self._depth = 0

    def close(self) -> None:
        pass

    @contextmanager
    def play(self) -> Iterator[None]:
        """The transaction around all, undone at its end. Closes the session."""
        try:
            with destination_errors(), super().transaction(force_rollback=True):
                self.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                yield
        finally:
            super().close()

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Any]:
        """A savepoint. Threads take turns, since savepoints must be left in the order in which they were made. What a
        transaction would take with it, its temporary rows, are taken away here."""
        with self._turn, super().transaction(savepoint_name, force_rollback) as begun:
            self._depth += 1
            try:
                yield begun
            finally:
                self._depth -= 1
            if self._depth == 0:
                self.execute("DISCARD TEMP")


class Rehearsal(Store):
    """A store whose every session is the stage's."""

    def __init__(self, store: Store, stage: Stage):
        super().__init__(store.url, state=store.state)
        self._stage = stage

    def connect(self) -> psycopg.Connection[Any]:
        return self._stage

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection[Any]]:
        with destination_errors():
            yield self._stage


@contextmanager
def rehearsal(store: Store) -> Iterator[Rehearsal]:
    """A store to be worked with until the block ends, when all that was done is undone. Raises DestinationError where
    the database is lost, or somebody holds what is needed."""
    try:
        stage = Stage.connect(store.url, autocommit=True, **CONNECTION_SETTINGS)
    except psycopg.OperationalError as error:
        raise DestinationError(f"the database can't be reached: {one_line(error)}", next=LOST) from None
    with stage.play():
        yield Rehearsal(store, stage)
