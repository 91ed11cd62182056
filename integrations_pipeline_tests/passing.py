"""Time that passes: what is known is made as much older, so that no test waits."""

from __future__ import annotations

import psycopg

TIMES = {
    "decision": ["at"],
    "run_log": ["started_at", "finished_at"],
    "inbox": ["received_at", "finished_at"],
    "stream_state": ["judged_to", "last_success", "last_full_refresh"],
}


def minutes_pass(database_url: str, minutes: int) -> None:
    with psycopg.connect(database_url) as session:
        for table, columns in TIMES.items():
            moved = ", ".join(f"{column} = {column} - interval '{minutes} minutes'" for column in columns)
            session.execute(f"UPDATE integrations.{table} SET {moved}")  # type: ignore[arg-type]
