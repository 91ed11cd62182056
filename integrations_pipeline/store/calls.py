"""The call log: HTTP calls are kept in memory and written in batches, beside the work and in no transaction of it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Condition, Lock, Thread
from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.limits import CALLS_BATCH, CALLS_HELD, CALLS_SECONDS
from integrations_pipeline.spec.lines import logger
from integrations_pipeline.spec.ports import HttpCall
from integrations_pipeline.store.failures import one_line
from integrations_pipeline.store.quarantine import storable_text
from integrations_pipeline.store.sealing import Borrow

COLUMNS = (
    "id", "at", "connection", "stream", "run_id", "method", "url", "attempt", "waited_seconds", "wait_reason", "status",
    "seconds", "sent_bytes", "received_bytes", "request_id", "rows", "outcome", "error", "request_body",
    "response_body",
)  # fmt: skip
TOLD = (
    "connection", "stream", "method", "url", "status", "outcome", "error", "attempt", "waited_seconds", "wait_reason",
    "seconds", "sent_bytes", "received_bytes", "rows", "request_id", "request_body", "response_body",
)  # fmt: skip
"""What a line of the log says of a call, where there is anything to say."""

WRITE = sql.SQL("COPY integrations.http_log ({}) FROM STDIN").format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)))

# Whoever holds the table up must not hold up a run's end.
PATIENCE = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'"


class HttpLog:
    """``ports.CallLog``, of one process and all its connections. A thread of its own writes what waits for a while."""

    def __init__(self, borrow: Borrow):
        self._borrow = borrow
        self._noted: list[HttpCall] = []
        self._changed = Condition()
        self._writing = Lock()
        self._serving = False
        self._dropped = 0

    def note(self, call: HttpCall) -> None:
        """Keeps it to be written soon, and tells it in a line. Neither waits nor raises."""
        tell(call)
        with self._changed:
            self._noted.append(call)
            self._drop_oldest()
            if not self._serving:
                self._serve_soon()
            elif len(self._noted) == CALLS_BATCH:
                self._changed.notify()

    def _serve_soon(self) -> None:
        try:
            Thread(target=self._serve, name="call log", daemon=True).start()
            self._serving = True
        except RuntimeError:
            pass  # no thread can be had: the flush at the run's end writes it

    def _serve(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._noted) >= CALLS_BATCH, CALLS_SECONDS)
            self._serving = False  # a call noted from now on starts another thread
        self._empty()

    def flush(self) -> str | None:
        """Writes what was noted. Never raises: what could not be written is kept for the next time, and told."""
        trouble = self._empty()
        if trouble is not None:
            return trouble
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        return f"missing from the call log: {dropped:,} HTTP calls, since it could not be written" if dropped else None

    def _empty(self) -> str | None:
        """Writes what was noted; in words for people what can't be."""
        with self._writing:
            with self._changed:
                noted, self._noted = self._noted, []
            try:
                if noted:
                    self._write(noted)
            except (IntegrationError, psycopg.Error) as error:
                return self._failed(noted, error)
        return None

    def _write(self, noted: list[HttpCall]) -> None:
        with self._borrow() as session, session.transaction():
            session.execute(PATIENCE)
            left_out = copied(session, noted)
        for call, why in left_out:
            logger().warning(
                "a call is not kept", connection=call.connection, stream=call.stream, url=call.url, reason=why
            )
        with self._changed:
            self._dropped += len(left_out)

    def _failed(self, noted: list[HttpCall], error: Exception) -> str:
        with self._changed:
            self._noted[:0] = noted
            self._drop_oldest()
            waiting, dropped = len(self._noted), self._dropped
        why = error.what if isinstance(error, IntegrationError) else one_line(error)
        logger().warning("the call log can't be written", calls=waiting, dropped=dropped, reason=why)
        lost = f", and {dropped:,} lost" if dropped else ""
        return f"HTTP calls not written to the call log yet: {waiting:,}{lost} ({why})"

    def _drop_oldest(self) -> None:
        over = len(self._noted) - CALLS_HELD
        if over > 0:
            del self._noted[:over]
            self._dropped += over


def copied(session: psycopg.Connection[Any], noted: Sequence[HttpCall]) -> list[tuple[HttpCall, str]]:
    """Writes them. Returns those that no column can hold, each with why: found by halves, so that one of them doesn't
    hold up all others for ever."""
    try:
        with session.transaction(), session.cursor() as cursor, cursor.copy(WRITE) as copy:
            for call in noted:
                copy.write_row([storable_value(getattr(call, name)) for name in COLUMNS])
    except psycopg.DataError as error:
        if len(noted) == 1:
            return [(noted[0], one_line(error))]
        middle = len(noted) // 2
        return [*copied(session, noted[:middle]), *copied(session, noted[middle:])]
    return []


def storable_value(value: Any) -> Any:
    return storable_text(value) if isinstance(value, str) else value


def tell(call: HttpCall) -> None:
    """The call as a line: a failure is a warning."""
    said = {name: value for name in TOLD if (value := getattr(call, name)) not in (None, 0, 0.0)}
    run = {"run_id": str(call.run_id)} if call.run_id else {}
    write = logger().warning if call.error is not None else logger().info
    write("request", **said, **run)
