"""A session that says by its name that a run's process is alive. The server drops it with the process."""

from __future__ import annotations

from typing import Any

import psycopg

from integrations_pipeline.store.failures import destination_errors

NAME = "integrations run {}"
LIT = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s)"


def light(url: str, run_id: str) -> psycopg.Connection[Any]:
    """Opens the session; closing it puts the beacon out. Raises DestinationError."""
    with destination_errors():
        return psycopg.connect(url, autocommit=True, application_name=NAME.format(run_id), connect_timeout=10)


def is_lit(url: str, run_id: str) -> bool:
    """Whether a process of that run is there. Raises DestinationError where the database can't tell."""
    with destination_errors(), psycopg.connect(url, autocommit=True, connect_timeout=10) as session:
        row = session.execute(LIT, [NAME.format(run_id)]).fetchone()
        return bool(row and row[0])
