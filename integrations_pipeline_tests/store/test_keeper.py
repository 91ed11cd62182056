"""A URL given to another program works after the command that printed it, but not for ever."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.store.keeper import keep
from integrations_pipeline.store.server import EmbeddedServer, open_lock, try_lock
from integrations_pipeline_tests.patience import until

ROOT = Path(__file__).parents[2]
STAY = """
import sys
from pathlib import Path
from integrations_pipeline.store.keeper import stay
from integrations_pipeline.store.server import EmbeddedServer
stay(EmbeddedServer(Path(sys.argv[1])), keep_seconds=0.3, look_seconds=0.05)
"""


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="integrations-keeper-"))
    folder.chmod(0o711)
    server = EmbeddedServer(folder / "state", durable=False)
    server.acquire()
    yield server
    server.release()
    shutil.rmtree(folder)


def keepers(server: EmbeddedServer) -> list[int]:
    with psycopg.connect(server.url()) as session:
        rows = session.execute(
            "SELECT client_port FROM pg_stat_activity WHERE application_name = 'integrations keeper'"
        )
        return [row[0] for row in rows]


def stop_keeper(server: EmbeddedServer) -> None:
    """By its pid: the only process besides this one whose command names the state folder and the module."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        pid, _, command = line.strip().partition(" ")
        if "integrations_pipeline.store.keeper" in command and str(server.state) in command:
            os.kill(int(pid), signal.SIGKILL)


def test_one_keeper_holds_the_server_when_all_users_left(server: EmbeddedServer) -> None:
    try:
        keep(server.state)
        keep(server.state)
        server.release()
        until(lambda: len(keepers(server)) == 1)
    finally:
        stop_keeper(server)
        server.acquire()


def test_it_leaves_when_nobody_was_connected_for_long(server: EmbeddedServer) -> None:
    visitor = psycopg.connect(server.url())
    keeper = subprocess.Popen([sys.executable, "-c", STAY, str(server.state)], stdout=subprocess.PIPE, cwd=ROOT)
    assert keeper.stdout is not None and keeper.stdout.readline() == b"ready\n"
    time.sleep(0.8)
    assert keeper.poll() is None, "it stays while somebody is connected"
    visitor.close()
    assert keeper.wait(60) == 0
    lock = open_lock(server.state / "keeper.lock")
    assert try_lock(lock)
    os.close(lock)
    keeper.stdout.close()
