"""The URL of the database in use, for programs that make their own connections to it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.server import EmbeddedServer

URL_VARIABLE = "INTEGRATIONS_DATABASE_URL"
LOCK = 7_203_515_941_000_003
"""An advisory lock's number: CREATE SCHEMA IF NOT EXISTS fails where two do it at once."""


def database_url(home: Home) -> str:
    """INTEGRATIONS_DATABASE_URL's, else the embedded server's, which this process then uses until it ends.

    With the password. Raises ConfigError or DestinationError where the embedded server can't be started.
    """
    return os.environ.get(URL_VARIABLE) or _embedded(home.state)


@cache
def _embedded(state: Path) -> str:
    return EmbeddedServer(state).acquire()


def with_schema(url: str, schema: str) -> str:
    """The same URL with a schema of its own, made where it is missing: unqualified names are looked up there."""
    with psycopg.connect(url, autocommit=True) as session:
        if session.execute("SELECT to_regnamespace(%s)", [schema]).fetchone() == (None,):
            with session.transaction():
                session.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    parts = urlsplit(url)
    option = f"options={quote(f'-csearch_path={schema}', safe='')}"
    return urlunsplit(parts._replace(query=f"{parts.query}&{option}" if parts.query else option))
