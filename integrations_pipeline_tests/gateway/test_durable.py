"""What a sender was told is accepted is there, exactly once: whatever is killed or stopped meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.migration import migrate
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.gateway.conftest import Door, scheme, serving, until

ROOT = Path(__file__).resolve().parents[2]
SERVE = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()", "serve"]
SECRET = "k"


class Sender:
    """`benchmarks/load.py`, sending until it is told to end."""

    def __init__(self, port: int, *, count: int = 0, connections: int = 8):
        command = [sys.executable, str(ROOT / "benchmarks" / "load.py"), f"http://127.0.0.1:{port}/webhooks/stripe"]
        self.process = subprocess.Popen(
            [*command, "--count", str(count), "--connections", str(connections)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "LOAD_SECRET": SECRET},
        )  # fmt: skip

    def end(self) -> dict[str, Any]:
        said, _ = self.process.communicate()
        found: dict[str, Any] = json.loads(said)
        return found


def stored(door: Door) -> int:
    count: int = door.rows("SELECT count(*) AS count FROM integrations.inbox")[0]["count"]
    return count


def assert_nothing_is_lost(door: Door, sent: dict[str, Any]) -> None:
    """Each acknowledged event has one row, however often it was sent."""
    rows = door.rows("SELECT event_id, count(*) AS count FROM integrations.inbox GROUP BY event_id")
    found = {row["event_id"]: row["count"] for row in rows}
    assert len(sent["accepted"]) == len(set(sent["accepted"])) > 0
    assert {one: found.get(one) for one in sent["accepted"]} == dict.fromkeys(sent["accepted"], 1)


def serve(door: Door) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "INTEGRATIONS_HOME": str(door.home), "INTEGRATIONS_DATABASE_URL": door.database_url}
    return subprocess.Popen(
        [*SERVE, "--port", str(door.port)], env={**environment, "SIGNING_STRIPE": SECRET},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def killed_under_load(door: Door, kills: int) -> dict[str, Any]:
    """So many gateways killed while they were accepting; the sender goes on with the next one."""
    dice = random.Random(kills)
    gateway = serve(door)
    sender = Sender(door.port)
    try:
        for _ in range(kills):
            more = stored(door) + dice.randrange(20, 200)
            until(lambda more=more: stored(door) >= more, 120)
            gateway.kill()
            gateway.wait()
            gateway = serve(door)
        more = stored(door) + 50
        until(lambda: stored(door) >= more, 120)
        return sender.end()
    finally:
        gateway.terminate()
        gateway.wait(60)
        sender.process.kill()


@pytest.fixture
def home(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setenv("SIGNING_STRIPE", SECRET)
    (tmp_path / "connections").mkdir()
    door = Door(tmp_path, database_url)
    door.write("stripe", scheme("stripe"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        door.port = probe.getsockname()[1]
    return door


def test_what_was_acknowledged_survives_kill_9(home: Door) -> None:
    assert_nothing_is_lost(home, killed_under_load(home, 3))


@pytest.mark.long
def test_what_was_acknowledged_survives_twenty_kills(home: Door) -> None:
    assert_nothing_is_lost(home, killed_under_load(home, 20))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that may be stopped."""
    server = EmbeddedServer(tmp_path / "state", durable=False)
    yield server
    server.release()


def stop(server: EmbeddedServer) -> None:
    """As an administrator does: open sessions are ended."""
    pid = int((server.data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGINT)
    until(lambda: not (server.data / "postmaster.pid").exists(), 60)


def stopped_under_load(home: Door, server: EmbeddedServer, seconds: float) -> dict[str, Any]:
    home.database_url = server.acquire()
    migrate(home.database_url)
    with serving(home, Gateway(Doors(Home(home.home)), Store(home.database_url).connect)):
        sender = Sender(home.port)
        until(lambda: stored(home) >= 100)
        stop(server)
        assert home.health() == 503
        threading.Event().wait(seconds)
        server.acquire()
        more = stored(home) + 100
        until(lambda: stored(home) >= more, 120)
        assert home.health() == 200
        return sender.end()


def test_a_database_that_stops_under_load_costs_nothing(home: Door, own_server: EmbeddedServer) -> None:
    sent = stopped_under_load(home, own_server, 3)
    assert_nothing_is_lost(home, sent)
    assert sent["statuses"]["503"] > 0 and set(sent["statuses"]) == {"202", "503"}


@pytest.mark.long
def test_a_database_that_stops_for_long_under_load_costs_nothing(home: Door, own_server: EmbeddedServer) -> None:
    sent = stopped_under_load(home, own_server, 20)
    assert_nothing_is_lost(home, sent)
    assert sent["statuses"]["503"] > 0 and set(sent["statuses"]) == {"202", "503"}


def test_a_burst_is_accepted_whole(home: Door) -> None:
    with serving(home, Gateway(Doors(Home(home.home)), Store(home.database_url).connect)):
        sent = Sender(home.port, count=5_000, connections=64).end()
    assert len(sent["accepted"]) == 5_000
    assert_nothing_is_lost(home, sent)
    print(
        f"accepted {sent['rate']:.0f}/s, p50 {sent['p50_ms']:.0f} ms, p99 {sent['p99_ms']:.0f} ms, {sent['statuses']}"
    )


@pytest.mark.long
def test_sharing_commits_accepts_at_least_three_times_as_much_as_a_commit_each() -> None:
    """The bare limit of the benchmark: the same server, one row per request and a commit for it."""
    command = [sys.executable, str(ROOT / "benchmarks" / "webhooks.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout.splitlines()[-1])
    print(done.stdout)
    assert {one["stored"] for one in measured.values()} == {one["accepted"] for one in measured.values()} == {5_000}
    assert measured["gateway"]["rate"] >= 3 * measured["one row, one commit"]["rate"]
