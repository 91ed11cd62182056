"""Real parts for all tests: one PostgreSQL for the whole run, and a fresh database per test cloned from a template."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.store.migration import migrate
from integrations_pipeline.store.server import EmbeddedServer

FOLDER = "INTEGRATIONS_TEST_FOLDER"
TEMPLATE = "template_house"
ENOUGH_BYTES = 8 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """One folder for all workers: it is made before they start, and they inherit the variable."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="integrations-tests-", dir=memory())
        Path(folder).chmod(0o711)  # as root the server runs as another account, which must reach its data
        os.environ[FOLDER] = folder


def memory() -> Path | None:
    """Where files are kept in memory, if there is such a place with room: a database is cloned there in a tenth of the
    time. None for the usual place."""
    place = Path("/dev/shm")
    return place if place.is_dir() and shutil.disk_usage(place).free >= ENOUGH_BYTES else None


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The run's server, shared by its workers; the last one stops it. Nothing in it survives a power cut."""
    server = EmbeddedServer(Path(os.environ[FOLDER]) / "state", durable=False)
    server.acquire()
    yield server
    server.release()


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """A migrated database to clone."""
    with Path(os.environ[FOLDER], "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
                migrate(server.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """A fresh, migrated database; dropped afterwards with whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield server.url(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
