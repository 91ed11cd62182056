"""A connection with two streams, its tables, and leases on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from integrations_pipeline.store.preparing import prepare
from integrations_pipeline_tests.store.parts import CUSTOMER, crm, shop

Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def connect(database_url: str) -> Connect:
    """Sessions in autocommit, on a database that has the tables of ``crm`` and ``shop``."""

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(database_url, autocommit=True)

    with connect() as session:
        for connection in (crm(), shop()):
            prepare(session, connection, {"customer": CUSTOMER})
    return connect


@pytest.fixture
def look(connect: Connect) -> Iterator[Callable[..., list[Any]]]:
    """Asks the database from outside of any lease."""
    with connect() as session:
        yield lambda query, *values: session.execute(query, values).fetchall()
