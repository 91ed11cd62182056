"""Brings a database to the schema of this code, with Alembic, by the SQL files beside it.

Alembic and SQLAlchemy are imported only where a database is behind: a warm start asks one question by psycopg.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.failures import destination_errors

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

FOLDER = Path(__file__).parent / "migrations"
LOCK = 7_203_515_941_000_001
"""An advisory lock's number, ours in any database: concurrent starts migrate one after the other."""


def known_versions() -> list[str]:
    """The revisions this code can read, oldest first, by their files' numbers."""
    return sorted(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def migrate(url: str) -> None:
    """Upgrades the database where it is behind.

    Raises ConfigError where it is newer than this code, DestinationError where the account may not change it.
    """
    with destination_errors(), psycopg.connect(url, autocommit=True) as connection:
        if version_of(connection) == known_versions()[-1]:
            return
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # freed with the connection
        version = version_of(connection)
        if version is not None and version not in known_versions():
            raise ConfigError(
                f"the database has schema version {version}, this code knows up to {known_versions()[-1]}",
                who="whoever installs this project",
                next="install the newer version, or use another database",
            )
        if version != known_versions()[-1]:
            _upgrade(url)


def version_of(connection: psycopg.Connection[Any]) -> str | None:
    """The schema's version, None where there is none yet."""
    found = connection.execute("SELECT to_regclass('integrations.schema_version') IS NOT NULL").fetchone()
    if not found or not found[0]:
        return None
    row = connection.execute("SELECT version_num FROM integrations.schema_version").fetchone()
    return str(row[0]) if row else None


def _upgrade(url: str) -> None:
    """All missing revisions in one transaction."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import NullPool, create_engine

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.begin() as connection, EnvironmentContext(config, scripts, fn=_to_head(scripts)) as context:
        # by the driver itself, whose errors the caller knows
        connection.connection.driver_connection.execute("CREATE SCHEMA IF NOT EXISTS integrations")  # type: ignore[union-attr]
        context.configure(connection, version_table="schema_version", version_table_schema="integrations")
        context.run_migrations()


def _to_head(scripts: ScriptDirectory) -> Any:
    return lambda revision, context: scripts._upgrade_revs(
        "head", revision
    )  # what alembic's own `upgrade` command does


def run_file(name: str) -> None:
    """For revisions: executes one of the SQL files, as it stands."""
    from alembic import op

    connection = op.get_bind().connection.driver_connection
    connection.execute((FOLDER / name).read_text(encoding="utf-8"))  # type: ignore[union-attr]
