"""The door to the database: what a person is told where it doesn't open, and connections that come back."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.spec.errors import ConfigError, DestinationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import IDLE_CONNECTIONS, Store, open_store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as store:
        yield store


@pytest.fixture
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="integrations-home-"))
    folder.chmod(0o711)
    yield Home(folder)
    shutil.rmtree(folder)


def test_the_variable_names_the_database(database_url: str, monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", database_url)
    with open_store(home=home) as store:
        assert store.url == database_url
    assert not home.state.exists()


def test_without_it_the_embedded_server_is_started_migrated_and_stopped(
    monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    monkeypatch.delenv("INTEGRATIONS_DATABASE_URL", raising=False)
    with open_store(home=home) as store, open_store(home=home) as other:
        for one in (store, other):
            with one.borrow() as session:
                assert session.execute("SELECT count(*) FROM integrations.stream_state").fetchone() == (0,)
    with pytest.raises(DestinationError):
        store.connect()


def test_a_killed_server_is_said_and_the_next_open_works(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.delenv("INTEGRATIONS_DATABASE_URL", raising=False)
    with open_store(home=home) as store:
        with store.borrow() as session:
            session.execute("CREATE TABLE public.kept AS SELECT 7 AS number")
        os.kill(int((EmbeddedServer(home.state).data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        with pytest.raises(DestinationError, match="database"):
            for _ in range(3000):
                time.sleep(0.02)
                with store.borrow() as session:
                    session.execute("SELECT 1")
        with open_store(home=home) as again, again.borrow() as session:
            assert session.execute("SELECT number FROM public.kept").fetchone() == (7,)
        with store.borrow() as session:
            assert session.execute("SELECT number FROM public.kept").fetchone() == (7,), "on the same port as before"


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("postgresql://u:hidden@127.0.0.1:1/none", DestinationError, "can't be reached"),
        ("postgres:/u:hidden@127.0.0.1/none", ConfigError, "postgresql://USER:PASSWORD@HOST"),
        ("mysql://u:hidden@127.0.0.1/none", ConfigError, "postgresql://USER:PASSWORD@HOST"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as refused:
        open_store(url)
    assert "hidden" not in str(refused.value)


def test_a_wrong_password_or_database_is_a_setting_to_mend(server: EmbeddedServer) -> None:
    for url in (server.url().replace("integrations:", "stranger:"), server.url("nowhere")):
        with pytest.raises(ConfigError, match="INTEGRATIONS_DATABASE_URL") as refused:
            open_store(url)
        assert server.url().split(":")[2].split("@")[0] not in str(refused.value)


def test_a_database_in_another_encoding_is_refused(server: EmbeddedServer) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE test_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            with pytest.raises(ConfigError, match="UTF8"):
                open_store(server.url("test_ascii"))
        finally:
            admin.execute("DROP DATABASE test_ascii")


def test_a_user_without_rights_is_told_what_to_grant(store: Store, database_url: str) -> None:
    with store.borrow() as session:
        session.execute("SET ROLE pg_monitor")
        with pytest.raises(DestinationError, match="permission denied") as refused, store.borrow() as other:
            other.execute("SET ROLE pg_monitor")
            other.execute("INSERT INTO integrations.rate_limit VALUES ('a', 'b', 0)")
        session.execute("RESET ROLE")
    assert "grant" in refused.value.next


def test_a_read_only_database_is_told(store: Store) -> None:
    with pytest.raises(DestinationError, match="read-only") as refused, store.borrow() as session:
        session.execute("SET default_transaction_read_only = on")
        session.execute("INSERT INTO integrations.rate_limit VALUES ('a', 'b', 0)")
    assert "primary" in refused.value.next


def test_programming_errors_are_not_dressed_up(store: Store) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), store.borrow() as session:
        session.execute("SELECT * FROM nowhere")


def test_connections_are_kept_named_and_in_utc(store: Store) -> None:
    with store.borrow() as session:
        first = session
        assert session.execute("SHOW application_name").fetchone() == ("integrations",)
        assert session.execute("SHOW timezone").fetchone() == ("UTC",)
    with store.borrow() as session:
        assert session is first


def test_a_connection_left_in_a_transaction_or_cut_off_is_not_used_again(store: Store) -> None:
    with store.borrow() as session:
        session.execute("BEGIN")
    with store.borrow() as session:
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        pid = session.info.backend_pid
    with store.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 60000)", [pid])
    with store.borrow() as session:
        assert session.info.backend_pid != pid


def test_settings_of_one_borrower_do_not_reach_the_next(store: Store) -> None:
    with store.borrow() as session:
        session.execute("SET integrations.purge = 'on'")
    with store.borrow() as session:
        assert session.execute("SELECT current_setting('integrations.purge', true)").fetchone() in ((None,), ("",))


def test_many_threads_share_few_idle_connections(store: Store) -> None:
    barrier = threading.Barrier(IDLE_CONNECTIONS + 3)

    def use() -> None:
        with store.borrow() as session:
            session.execute("SELECT 1")
            barrier.wait(60)

    threads = [threading.Thread(target=use) for _ in range(barrier.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store._idle) == IDLE_CONNECTIONS
