"""What a stream forgets when the way it is read was edited: places in its lists, and versions of another order."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.state import StateChange, write_state
from integrations_pipeline.store.tables import raw_table

# Watermarks and bookmarks of the stream, and below each parent.
FORGET_PLACES = """
UPDATE integrations.stream_state
SET bookmark = NULL, watermark = NULL, highest = NULL, probe = NULL, round = NULL, refresh_id = NULL,
    updated_at = now()
WHERE connection = %(connection)s AND stream = %(stream)s
"""
FORGET_SEEN = "DELETE FROM integrations.seen WHERE connection = %(connection)s AND stream = %(stream)s"

# An empty version is older than every other one: the next row of the record counts, whatever it is ordered by.
FORGET_VERSIONS = "UPDATE {raw} SET version = '' WHERE version <> ''"


def renew(held: Holder, change: StateChange, *, versions: bool) -> None:
    """One transaction: places are forgotten, with ``versions`` also those of the rows, and the state changes."""

    def work(session: psycopg.Connection[Any]) -> None:
        session.execute(FORGET_PLACES, held.names)
        session.execute(FORGET_SEEN, held.names)
        if versions:
            session.execute(sql.SQL(FORGET_VERSIONS).format(raw=raw_table(held.connection, held.stream)))
        write_state(session, held.connection, held.stream, change)

    held.write(work)
