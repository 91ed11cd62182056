"""A database is brought to the code's schema, once, and a newer one is refused."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.migration import known_versions, migrate, version_of
from integrations_pipeline.store.server import EmbeddedServer


def test_template_is_at_the_newest_version(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert version_of(connection) == known_versions()[-1]
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'integrations'").fetchone()
        assert tables and tables[0] >= 8


def test_concurrent_starts_migrate_once(server: EmbeddedServer) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE test_concurrent_migration")
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(migrate, [server.url("test_concurrent_migration")] * 4))
            with psycopg.connect(server.url("test_concurrent_migration")) as connection:
                assert version_of(connection) == known_versions()[-1]
        finally:
            admin.execute("DROP DATABASE test_concurrent_migration WITH (FORCE)")


def test_newer_database_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE integrations.schema_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="9999"):
        migrate(database_url)


def test_warm_start_imports_no_sqlalchemy(database_url: str) -> None:
    code = (
        "import sys; from integrations_pipeline.store.migration import migrate; migrate(sys.stdin.read());"
        "assert not {'sqlalchemy', 'alembic'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], input=database_url, text=True, check=True, cwd=root)
