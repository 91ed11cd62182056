"""The lease: one writer per stream. It reads the stream's state, commits its chunks and logs its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from integrations_pipeline.store import refreshing
from integrations_pipeline.store.failures import destination_errors
from integrations_pipeline.store.holder import SETTINGS, Holder, lease_held
from integrations_pipeline.store.judging import Judged
from integrations_pipeline.store.landing import Chunk, Counters, land
from integrations_pipeline.store.state import StateChange, StreamState, read_state, write_state

# Freed with the session, also when its process is killed.
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('integrations lease ' || %s || '/' || %s, 0))"

# Fences every earlier holder.
RAISE_EPOCH = """
INSERT INTO integrations.stream_state (connection, stream, lease_epoch) VALUES (%s, %s, 1)
ON CONFLICT (connection, stream, parent_key) DO UPDATE
SET lease_epoch = stream_state.lease_epoch + 1, updated_at = now()
RETURNING lease_epoch, pg_current_xact_id()::text
"""

# Runs of the stream whose process died: nobody else can be running it.
BURY = """
UPDATE integrations.run_log SET status = 'failed', finished_at = now(), error = %(error)s
WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'running' AND run_id <> %(run_id)s
"""

# A run begins; begun again in another mode, it keeps its counters.
BEGIN_RUN = """
INSERT INTO integrations.run_log (run_id, connection, stream, mode, started_at, note)
VALUES (%(run_id)s, %(connection)s, %(stream)s, %(mode)s, %(started_at)s, %(note)s)
ON CONFLICT (run_id, connection, stream) DO UPDATE SET mode = excluded.mode, note = excluded.note
"""

# A run's end.
END_RUN = """
UPDATE integrations.run_log SET status = %(status)s, finished_at = now(), error = %(error)s, resume_at = %(resume_at)s,
    shaped = %(shaped)s, note = %(note)s,
    requests = requests + %(requests)s, waited_seconds = waited_seconds + %(waited_seconds)s,
    webhooks_told = %(told)s, webhooks_missed = %(missed)s, webhooks_delay_seconds = %(delay_seconds)s
WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s
RETURNING mode
"""

# What the stream remembers of it. A deferred run is no failure.
REMEMBER = """
UPDATE integrations.stream_state SET
    last_success = CASE %(status)s WHEN 'succeeded' THEN now() ELSE last_success END,
    error_count = CASE %(status)s WHEN 'succeeded' THEN 0 WHEN 'failed' THEN error_count + 1 ELSE error_count END,
    last_error = %(error)s, resume_at = %(resume_at)s, updated_at = now()
WHERE connection = %(connection)s AND stream = %(stream)s AND parent_key = ''
"""

# How far the stream's webhooks are judged, and what was found; where they aren't judged any more, it is forgotten.
JUDGED = """
UPDATE integrations.stream_state SET judged_to = %(judged_to)s,
    judged_missed = CASE WHEN %(judged_to)s::timestamptz IS NOT NULL THEN coalesce(%(missed)s, judged_missed) END
WHERE connection = %(connection)s AND stream = %(stream)s AND parent_key = ''
    AND (judged_to IS NOT NULL OR %(judged_to)s::timestamptz IS NOT NULL)
"""

DIED = {
    "class": "failed",
    "message": "the process ended without a word",
    "who": "nobody",
    "next": "the next run goes on from the last committed chunk",
}


@contextmanager
def take_lease(
    connect: Callable[[], psycopg.Connection[Any]], connection: str, stream: str, run_id: UUID
) -> Iterator[Lease]:
    """The right to write a stream until the block ends, on a session of its own (``connect`` gives it, in autocommit).

    Raises LeaseHeld, with the time to try again, while another session has it.
    """
    lease = Lease(connect, connection, stream, run_id)
    try:
        with destination_errors(lease.where):
            lease.acquire()
        yield lease
    finally:
        release(lease.session)


def release(session: psycopg.Connection[Any]) -> None:
    """Frees the lock before the session ends, so that the next holder needn't wait for the server to notice."""
    try:
        if not session.closed:
            session.execute("SELECT pg_advisory_unlock_all()")
    except psycopg.Error:
        pass  # a lost or broken session frees it by itself
    finally:
        session.close()


class Lease(Holder):
    """The one writer of a stream. Each method is one transaction; all that write raise LeaseHeld, with nothing written,
    once another process has taken the lease over, and DestinationError where the database is lost."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], connection: str, stream: str, run_id: UUID):
        super().__init__(connect(), connection, stream, run_id)
        self._connect = connect

    def acquire(self) -> None:
        names = (self.connection, self.stream)
        held = self.session.execute(LOCK, names).fetchone()
        if not held or not held[0]:
            raise lease_held("another process is syncing this stream", self.where)
        self.session.execute(SETTINGS)
        row = self.session.execute(RAISE_EPOCH, names).fetchone()
        assert row is not None
        self.epoch, self.first_stamp = row
        self.session.execute(BURY, {**self.names, "error": Jsonb({**DIED, "where": self.where})})

    @contextmanager
    def beside(self) -> Iterator[Holder]:
        """The same lease on a second session, to read or write beside this one."""
        with closing(self._connect()) as session, destination_errors(self.where):
            session.execute(SETTINGS)
            held = Holder(session, self.connection, self.stream, self.run_id)
            held.epoch, held.first_stamp, held.fenced_last = self.epoch, self.first_stamp, True
            held.quarantined = self.quarantined
            yield held

    def state(self, parent_key: str = "") -> StreamState:
        """What the stream, or a child stream below one parent, remembers."""
        with self.reading() as session:
            return read_state(session, self.connection, self.stream, parent_key)

    def start_run(
        self,
        mode: Literal["incremental", "full", "backfill", "events", "immediately", "push"],
        started_at: datetime,
        note: str | None = None,
    ) -> None:
        """Enters the run into the log; called again when it turns out to need another mode."""
        values = {**self.names, "mode": mode, "started_at": started_at, "note": note}
        self.write(lambda session: session.execute(BEGIN_RUN, values))

    def commit_chunk(self, chunk: Chunk) -> Counters:
        """Rows, quarantine, decisions, counters and state together, or nothing. Raises Failed if they don't add up."""
        return land(self, chunk)

    def complete_refresh(
        self, refresh_id: UUID, at_most_percent: float, state: StateChange, *, replaced: bool = False
    ) -> refreshing.Ended:
        """Tombstones what the full refresh has not seen, forgets its keys and applies the state.

        Where it met rows without a key that the refresh before hadn't, what is lacking is kept: it may be them.

        ``replaced``: the rows not seen are under keys of a former declaration, so that as many new ones must have come.
        Raises ContractError, nothing written, where they would be implausibly many.
        """
        return refreshing.complete(self, refresh_id, at_most_percent, state, replaced=replaced)

    def end_full_read(self, state: StateChange) -> None:
        """A full read that sets no tombstones has ended in the run it began in: applies the state, and closes the rows
        without a key that it didn't meet."""
        refreshing.end_read(self, state)

    def apply_state(self, state: StateChange) -> None:
        """A change of state without rows."""
        self.write(lambda session: write_state(session, self.connection, self.stream, state))

    def finish_run(
        self,
        status: Literal["succeeded", "deferred", "failed"],
        *,
        error: dict[str, Any] | None = None,
        resume_at: datetime | None = None,
        requests: int = 0,
        waited_seconds: float = 0.0,
        shaped: dict[str, Any] | None = None,
        note: str | None = None,
        judged: Judged | None = None,
    ) -> None:
        """The run's end, and what the stream remembers of it. ``requests`` and the wait are those no chunk counted.
        ``judged`` is what a poll found of the stream's webhooks; None leaves that as it is."""
        outcome = {
            **self.names,
            "status": status,
            "error": Jsonb(error) if error is not None else None,
            "resume_at": resume_at,
            "requests": requests,
            "waited_seconds": waited_seconds,
            "shaped": Jsonb(shaped) if shaped is not None else None,
            "note": note,
            **asdict(judged or Judged()),
        }

        def end(session: psycopg.Connection[Any]) -> None:
            row = session.execute(END_RUN, outcome).fetchone()
            mode = row[0] if row else None
            if mode in ("incremental", "full"):  # an old window, or an event, doesn't make a stale stream fresh
                session.execute(REMEMBER, outcome)
            if judged is not None:
                session.execute(JUDGED, outcome)

        self.write(end)
