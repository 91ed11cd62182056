"""Keeps the embedded server for programs outside this project, after its URL was given to them.

``python -m integrations_pipeline.store.keeper STATE_FOLDER`` uses the server like any other process, and leaves when
nobody has been connected for KEEP_SECONDS; so a URL that was printed works, and no server stays for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.store.server import EmbeddedServer, open_lock, try_lock

KEEP_SECONDS = 1800.0
"""A person reads, a script sleeps: between two connections of theirs the server stays this long."""

LOOK_SECONDS = 5.0
READY = b"ready\n"

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


def keep(state: Path) -> None:
    """Called by a process that uses the server: returns when a keeper uses it too. A second one isn't started."""
    lock = state / "keeper.lock"
    lock.touch(mode=0o600)  # a keeper that is there counts from now
    keeper = subprocess.Popen(
        [sys.executable, "-m", __name__, str(state)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert keeper.stdout is not None
    with keeper.stdout:
        if keeper.stdout.readline() != READY:
            raise DestinationError("the embedded PostgreSQL can't be kept for other programs")
    keeper.returncode = 0  # it outlives us, so nobody waits for it


def stay(server: EmbeddedServer, keep_seconds: float = KEEP_SECONDS, look_seconds: float = LOOK_SECONDS) -> None:
    """Uses the server until nobody else has for so long, or it is gone."""
    lock = open_lock(server.state / "keeper.lock")
    if not try_lock(lock):
        _say_ready()
        return
    url = server.acquire()
    _say_ready()
    try:
        with psycopg.connect(url, autocommit=True, application_name="integrations keeper") as session:
            used = time.time()
            while time.time() - max(used, os.fstat(lock).st_mtime) < keep_seconds:
                row = session.execute(OTHERS).fetchone()
                used = time.time() if row and row[0] else used
                time.sleep(look_seconds)
    except psycopg.OperationalError:
        pass  # the server was killed; whoever needs it next starts it
    finally:
        server.release()
        os.close(lock)


def _say_ready() -> None:
    os.write(sys.stdout.fileno(), READY)


if __name__ == "__main__":
    stay(EmbeddedServer(Path(sys.argv[1])))
