"""The door to the database: connections, and what the rooms above ask of it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, DestinationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.lines import logger
from integrations_pipeline.store.breaker import BreakerState, SharedBreaker, read_breakers
from integrations_pipeline.store.calls import HttpLog
from integrations_pipeline.store.deliveries import Deliveries
from integrations_pipeline.store.disconnecting import activate, drop, is_stopped, refuse_stopped
from integrations_pipeline.store.failures import LOST, destination_errors, one_line
from integrations_pipeline.store.limiter import SharedLimiter, ask_anew
from integrations_pipeline.store.migration import migrate
from integrations_pipeline.store.preparing import prepare, prepare_kind
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.status import StreamStatus, known_streams, read_status
from integrations_pipeline.store.subscriptions import Subscriptions
from integrations_pipeline.store.tokens import SharedTokens

URL_VARIABLE = "INTEGRATIONS_DATABASE_URL"
OLDEST_SERVER = 14
IDLE_CONNECTIONS = 4
"""Kept open for the next use; more are made on demand and closed after it."""

CONNECTION_SETTINGS: dict[str, Any] = {
    "application_name": "integrations",
    "connect_timeout": 10,
    "keepalives_idle": 30,  # a vanished host is noticed within a minute
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # enable_material: without statistics the planner takes a new table for one row and compares each of a chunk's rows
    # with all of them (25 million comparisons per chunk, seconds); without it, it looks each one up in the index.
    "options": "-c timezone=UTC -c lock_timeout=60s -c statement_timeout=15min -c enable_material=off"
    " -c idle_in_transaction_session_timeout=5min",  # a stopped process must not keep its row locks
}


class Store:
    """One process's use of one database. A context manager; ``close`` also leaves the embedded server."""

    def __init__(self, url: str, server: EmbeddedServer | None = None, state: Path | None = None):
        """``state``: the folder of the key that encrypts tokens; the home's unless given."""
        self.url = url
        self.state = state or Home.from_environment().state
        self.calls = HttpLog(self.borrow)
        self.deliveries = Deliveries(self.borrow)
        self.subscriptions = Subscriptions(self.borrow, self.state)
        self._server = server
        self._idle: list[psycopg.Connection[Any]] = []
        self._limiters: list[SharedLimiter] = []
        self._guard = threading.Lock()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the caller's own, in autocommit. Raises DestinationError."""
        try:
            return psycopg.connect(self.url, autocommit=True, **CONNECTION_SETTINGS)
        except psycopg.OperationalError as error:
            raise DestinationError(f"the database can't be reached: {one_line(error)}", next=LOST) from None

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit from the pool; ``with connection.transaction()`` for more than one statement.

        Raises DestinationError where the database is lost or refuses to write.
        """
        connection = self._take() or self.connect()
        connection.prepare_threshold = None  # DISCARD ALL drops prepared statements, which psycopg doesn't notice
        try:
            with destination_errors():
                yield connection
        finally:
            self._give_back(connection)

    def _take(self) -> psycopg.Connection[Any] | None:
        while True:
            with self._guard:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if _usable(connection):
                return connection
            connection.close()

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        clean = _usable(connection) and _cleaned(connection)
        with self._guard:
            if clean and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def prepare(self, connection: Connection, kinds: Mapping[str, Kind]) -> None:
        """Makes or widens the connection's tables. Raises ConfigError where a field's type changed."""
        with self.borrow() as session:
            prepare(session, connection, kinds)

    def prepare_kind(self, kind: Kind) -> None:
        """Makes or widens the kind's table. Raises ConfigError where a field's type changed."""
        with self.borrow() as session:
            prepare_kind(session, kind)

    def limiter(self, connection: Connection, clock: Clock | None = None) -> SharedLimiter:
        """The connection's rate limiter, shared by all processes that use this database; closed with the store."""
        self._limiters.append(SharedLimiter(self.connect, connection.name, clock))
        return self._limiters[-1]

    def ask_anew(self, connection: Connection) -> None:
        """Ends a wait that the source told: a person asks. What was deferred for it is due."""
        with self.borrow() as session:
            ask_anew(session, connection.name)

    def breaker(self, connection: Connection, *, at_once: bool = False) -> SharedBreaker:
        """The connection's circuit breaker, shared as its limiter is. ``at_once``: a person asks."""
        return SharedBreaker(self.borrow, connection, at_once=at_once)

    def breakers(self, connections: Iterable[Connection]) -> dict[str, BreakerState]:
        """How each connection's breaker stands, by its name."""
        with self.borrow() as session:
            return read_breakers(session, [one.name for one in connections])

    def tokens(self, connection: Connection) -> SharedTokens:
        """Where the connection's tokens live, shared by all processes that use this database."""
        return SharedTokens(self.borrow, connection.name, self.state)

    def status(self, connections: Iterable[Connection]) -> list[StreamStatus]:
        """How each selected stream stands, parents before children."""
        wanted = [(connection.name, stream) for connection in connections for stream in connection.selected]
        with self.borrow() as session:
            return read_status(session, wanted)

    def known_streams(self) -> dict[str, list[str]]:
        """The streams held, by connection, less those disconnected; also of connections without a file."""
        with self.borrow() as session:
            return known_streams(session)

    def status_of(self, streams: Mapping[str, Iterable[str]]) -> list[StreamStatus]:
        """How the streams stand of connections that may have no file any more."""
        wanted = [(connection, stream) for connection, names in streams.items() for stream in names]
        with self.borrow() as session:
            return read_status(session, wanted) if wanted else []

    def refuse_stopped(self, connection: Connection) -> None:
        """Raises ConfigError where the connection was stopped by ``drop`` and not activated since."""
        with self.borrow() as session:
            refuse_stopped(session, connection.name)

    def is_stopped(self, connection: str) -> bool:
        """Whether the connection of that name was stopped by ``drop`` and not activated since."""
        with self.borrow() as session:
            return is_stopped(session, connection)

    def activate(self, connection: Connection) -> None:
        """Lets a stopped connection sync again."""
        with self.borrow() as session:
            activate(session, connection.name)

    def drop(self, connection: str, *, keep_data: bool) -> None:
        """Stops the connection of that name; without ``keep_data`` removes what it brought."""
        with self.borrow() as session:
            drop(session, connection, keep_data=keep_data)

    def close(self) -> None:
        self.calls.flush()
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for limiter in self._limiters:
            limiter.close()
        if self._server is not None:
            self._server.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str | None = None, home: Home | None = None) -> Store:
    """Opens and migrates the database: the one given, else INTEGRATIONS_DATABASE_URL's, else the embedded one.

    Raises ConfigError (wrong URL, password, version or encoding, a wrong INTEGRATIONS_LOG) or DestinationError (can't
    be reached).
    """
    logger()  # a wrong INTEGRATIONS_LOG is said before anything is begun
    url = url or os.environ.get(URL_VARIABLE)
    state = (home or Home.from_environment()).state
    if url:
        check_server(url)
        migrate(url)
        return Store(url, state=state)
    server = EmbeddedServer(state)
    url = server.acquire()
    try:
        migrate(url)
    except BaseException:
        server.release()
        raise
    return Store(url, server, state)


def check_server(url: str) -> None:
    """Raises ConfigError or DestinationError unless it is a reachable PostgreSQL we can work with."""
    try:
        connection = psycopg.connect(url, **CONNECTION_SETTINGS)
    except psycopg.ProgrammingError:  # its text may quote a part of the password
        raise _wrong_url("a URL like postgresql://USER:PASSWORD@HOST:5432/DATABASE was expected") from None
    except psycopg.OperationalError as error:
        if "authentication failed" in str(error) or "does not exist" in str(error):
            raise _wrong_url(one_line(error)) from None
        raise DestinationError(f"the database can't be reached: {one_line(error)}", next=LOST) from None
    with connection:
        version, encoding = (
            connection.info.server_version // 10_000,
            connection.info.parameter_status("server_encoding"),
        )
    if version < OLDEST_SERVER:
        raise _wrong_url(f"PostgreSQL {OLDEST_SERVER} or newer was expected, it is {version}")
    if encoding != "UTF8":
        raise _wrong_url(f"a database in UTF8 was expected, it is in {encoding}")


def _wrong_url(what: str) -> ConfigError:
    return ConfigError(
        f"{URL_VARIABLE}: {what}", who="whoever runs the database", next=f"correct {URL_VARIABLE}, then try again"
    )


def _usable(connection: psycopg.Connection[Any]) -> bool:
    """Idle and not closed by the server: what an idle connection could read now is only a farewell."""
    if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


def _cleaned(connection: psycopg.Connection[Any]) -> bool:
    """Settings, locks and temporary tables of one borrower don't reach the next."""
    try:
        connection.execute("DISCARD ALL")
    except psycopg.Error:
        return False
    return True
