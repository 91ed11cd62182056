"""Raw records as they are stored, a few of them: to look at, and to try a mapping on."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from integrations_pipeline.store.tables import raw_table

LIVE = "SELECT external_id, payload::text FROM {raw} WHERE deleted_at IS NULL ORDER BY external_id LIMIT %s"


def live_records(session: psycopg.Connection[Any], connection: str, stream: str, limit: int) -> list[tuple[str, str]]:
    """External id and JSON text of the first living records in the order of their ids; none before the first sync."""
    if session.execute("SELECT to_regclass(%s)", [f"raw.{connection}__{stream}"]).fetchone() == (None,):
        return []
    return session.execute(sql.SQL(LIVE).format(raw=raw_table(connection, stream)), [limit]).fetchall()
