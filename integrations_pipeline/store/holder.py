"""The database session of a lease holder: each of its transactions first proves that the lease is still its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.types.string import BytesBinaryDumper

from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.store.failures import destination_errors

RETRY_AFTER = timedelta(minutes=1)
"""When a stream that another process holds is tried again."""

COLLISIONS = 3
"""Tries of a transaction that met another one's locks (a team's own edits of canonical rows may)."""

# A chunk's rows are looked up one by one in indexes, whatever the statistics of tables that grow by the second say: a
# plan made for an empty table, or by guesses about one never analyzed, would scan all of it for each row. For the
# same reason the statements look up by LATERAL subqueries with OFFSET 0, which keep all columns of a key together.
SETTINGS = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', false), set_config('jit', 'off', false),
       set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false), set_config('enable_material', 'off', false),
       set_config('random_page_cost', '1.1', false),
       set_config('work_mem', '32MB', false), set_config('temp_buffers', '32MB', false)
"""

# Proves the lease and keeps it until the transaction ends: whoever takes it over must wait for this row.
FENCE = """
SELECT 1 FROM integrations.stream_state
WHERE connection = %s AND stream = %s AND parent_key = '' AND lease_epoch = %s FOR NO KEY UPDATE
"""

Done = TypeVar("Done")


class Holder:
    """One connection to the database, in the name of one stream, run and lease epoch.

    ``first_stamp`` is the transaction that took the lease (xid8 as text): rows stamped at or past it are of this run.
    Threads may share it: transactions go one after the other. ``fenced_last``: beside the session that holds the lease,
    the fence is looked at when the work is done, so that both write at the same time.
    """

    def __init__(self, session: psycopg.Connection[Any], connection: str, stream: str, run_id: UUID):
        self.session = session
        self.connection = connection
        self.stream = stream
        self.run_id = run_id
        self.epoch = 0
        self.first_stamp = "0"
        self.fenced_last = False
        self.quarantined: dict[str, bool] = {}  # stage → whether rows may be open; unknown until asked
        self._turn = threading.RLock()
        set_json_loads(decode, session)  # type: ignore[arg-type]
        set_json_dumps(encode, session)
        session.adapters.register_dumper(bytes, BytesBinaryDumper)  # last, so before the slow one of `Binary`

    @property
    def where(self) -> str:
        return f"{self.connection}/{self.stream}"

    @property
    def names(self) -> dict[str, Any]:
        """What most statements name: whose rows, in which run."""
        return {"connection": self.connection, "stream": self.stream, "run_id": self.run_id}

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction that only reads. Raises DestinationError."""
        with self._turn, destination_errors(self.where), self.session.transaction():
            yield self.session

    def write(self, work: Callable[[psycopg.Connection[Any]], Done]) -> Done:
        """Runs the work in one fenced transaction; again where it collided with another one.

        Raises LeaseHeld, with nothing written, where the lease was taken over, and DestinationError.
        """
        with destination_errors(self.where):
            for _ in range(COLLISIONS - 1):
                try:
                    return self._write_once(work)
                except (errors.DeadlockDetected, errors.SerializationFailure):
                    pass  # everything was rolled back: the same work again
            return self._write_once(work)

    def _write_once(self, work: Callable[[psycopg.Connection[Any]], Done]) -> Done:
        with self._turn, self.session.transaction():
            if self.fenced_last:
                done = work(self.session)
                self._check_fence()
                return done
            self._check_fence()
            return work(self.session)

    def _check_fence(self) -> None:
        """Holds the lease's epoch until the transaction ends. Raises LeaseHeld, which undoes it, where it is gone."""
        if self.session.execute(FENCE, (self.connection, self.stream, self.epoch)).fetchone() is None:
            raise lease_held("the lease was taken over by another process; nothing was written", self.where)


def lease_held(what: str, where: str) -> LeaseHeld:
    return LeaseHeld(what, where=where, resume_at=datetime.now(UTC) + RETRY_AFTER)
