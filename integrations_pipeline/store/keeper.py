"""Keeps the embedded server up for programs that aren't ours, after `integrations database-url` gave them its URL.

Without it the server would stop with the command that printed the URL, before anybody could connect.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg

from integrations_pipeline.store.server import EmbeddedServer

IDLE_SECONDS = 300.0
"""So long after the last foreign connection the server may stop: time to type a query, not to forget a process."""

LOOK_SECONDS = 5.0

# Connections of programs other than this one.
VISITORS = """
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def keep(state: Path) -> None:
    """Starts a keeper for this state folder and returns once it holds the server."""
    keeper = subprocess.Popen(
        [sys.executable, "-m", __name__, str(state)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert keeper.stdout is not None
    keeper.stdout.readline()
    keeper.stdout.close()


def stay(state: Path) -> None:
    """Uses the server until nobody has been connected to it for IDLE_SECONDS."""
    server = EmbeddedServer(state)
    url = server.acquire()
    sys.stdout.write("ready\n")
    sys.stdout.close()
    idle_since = time.monotonic()
    try:
        with psycopg.connect(url, autocommit=True, application_name="integrations keeper") as connection:
            while time.monotonic() - idle_since < IDLE_SECONDS:
                row = connection.execute(VISITORS).fetchone()
                if row and row[0]:
                    idle_since = time.monotonic()
                time.sleep(LOOK_SECONDS)
    except psycopg.OperationalError:
        return  # the server is gone: nothing is left to keep
    finally:
        server.release()


if __name__ == "__main__":
    stay(Path(sys.argv[1]))
