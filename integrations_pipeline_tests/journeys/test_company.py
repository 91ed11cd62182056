"""Crashes and company: the run, the database or both are killed, paused, restarted or out of space; nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import open_store
from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.patience import until

SOURCE = """
connection: shop
api:
  url: {url}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 100}}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    deletes: {snapshot: 7d}
    fields:
      id: {type: string, required: true}
      email: {type: string, format: email}
      amount: {type: decimal, min: 0}
      updated_at: {type: timestamp, required: true}
    map: {to: order, fields: {email: {from: email, apply: [trim, lower]}, amount: amount}}
"""
ORDER = "kind: order\nfields: {email: {type: string}, amount: {type: decimal}}\n"


def shop(house: House, records: int, latency_ms: int = 4) -> None:
    house.write("models/order.yaml", ORDER)
    house.connect_to("shop", SOURCE, records=records, latency_ms=latency_ms)


def requests_made(house: House) -> int:
    return len(house.sources["shop"].requests())


def assert_whole(house: House) -> None:
    """Source and raw agree record by record, canonical and links too, and the log balances with no run left open."""
    house.assert_whole("shop", "orders")
    held = sum(1 for _ in house.sources["shop"].contents("orders"))
    assert house.value("SELECT count(*) FROM canonical.order WHERE deleted_at IS NULL") == held
    assert house.value("SELECT count(*) FROM integrations.link") == held
    assert house.value("SELECT count(*) FROM integrations.run_log WHERE status = 'running'") == 0
    assert house.value("SELECT count(*) FROM integrations.quarantine WHERE status = 'open'") == 0
    assert house.rows("SELECT bookmark, error_count FROM integrations.stream_state") == [(None, 0)]


class OwnServer(House):
    """A house with the embedded server of its own, which may be killed."""

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(Home(self.home).state)

    @property
    def variables(self) -> dict[str, str]:
        return {name: value for name, value in super().variables.items() if name != "INTEGRATIONS_DATABASE_URL"}

    def postmaster(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.server.data / "postmaster.pid").read_text().split()[0])
        return None

    def signal_server(self, number: signal.Signals) -> None:
        pid = self.postmaster()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The server is up, and may be asked."""
        with open_store(home=Home(self.home)) as store:
            self.database_url = store.url
            yield


@pytest.fixture
def own() -> Iterator[OwnServer]:
    """In a folder that PostgreSQL's account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="integrations-company-"))
    folder.chmod(0o755)
    (folder / "connections").mkdir()
    house = OwnServer(folder, "")
    before = os.environ.pop("INTEGRATIONS_DATABASE_URL", None)
    yield house
    house.close()
    house.signal_server(signal.SIGINT)
    until(lambda: house.postmaster() is None)
    shutil.rmtree(folder)
    if before is not None:
        os.environ["INTEGRATIONS_DATABASE_URL"] = before


def kill(house: OwnServer, victim: str, run: subprocess.Popen[str]) -> None:
    if victim in ("run", "both"):
        run.kill()
    if victim in ("database", "both"):
        house.signal_server(signal.SIGKILL)


def journey(house: OwnServer, victims: list[str], *, records: int, spread: int) -> None:
    """A sync per victim, which is killed at a random request of it; then one to the end."""
    shop(house, records)
    assert house.run("status").returncode == 0, "the server was made and migrated"
    dice = random.Random(len(victims))
    for victim in victims:
        goal = requests_made(house) + dice.randrange(1, spread)
        run = house.start("sync", "shop", "--json")
        until(lambda run=run, goal=goal: requests_made(house) >= goal or run.poll() is not None)
        kill(house, victim, run)
        said = run.communicate(timeout=120)
        if victim == "database" and run.returncode != 0:
            assert run.returncode == 1, said
            assert "destination" in said[0], "the database's end is told as such"
    assert house.sync("shop")["orders"]["status"] == "succeeded"
    with house.opened():
        assert_whole(house)


def test_run_database_and_both_are_killed(own: OwnServer) -> None:
    journey(own, ["run", "database", "both"], records=6_000, spread=50)


@pytest.mark.long
def test_fifteen_kills_at_random_points(own: OwnServer) -> None:
    journey(own, ["run", "database", "both"] * 5, records=60_000, spread=150)


def test_the_database_restarts_in_the_middle_of_a_transaction(own: OwnServer) -> None:
    shop(own, 12_000)
    with own.opened():
        run = own.start("sync", "shop", "--json")
        until(lambda: own.value("SELECT count(*) FROM integrations.run_log WHERE fetched > 0"))
        with closing(psycopg.connect(own.database_url)) as blocker:
            blocker.execute("LOCK TABLE raw.shop__orders IN SHARE MODE")
            until(lambda: own.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            own.signal_server(signal.SIGINT)  # a fast shutdown: transactions under way are rolled back
            said = run.communicate(timeout=120)[0]
    (stream,) = json.loads(said)["streams"]
    assert (run.returncode, stream["error"]["class"]) == (1, "destination"), said
    assert "run the command again" in stream["error"]["next"]
    assert own.sync("shop")["orders"]["status"] == "succeeded"
    with own.opened():
        assert_whole(own)


class Managed(House):
    """A house whose database is a server of somebody else's: we may use it, not start it."""

    server: EmbeddedServer

    def stop_server(self) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGINT)
        until(lambda: self.server.pid is None)

    def start_server(self) -> None:
        self.server = EmbeddedServer(self.server.state)
        assert self.server.acquire().rsplit("/", 1)[0] == self.database_url.rsplit("/", 1)[0], "the same address"


@pytest.fixture
def managed() -> Iterator[Managed]:
    folder = Path(tempfile.mkdtemp(prefix="integrations-managed-"))
    folder.chmod(0o755)
    server = EmbeddedServer(folder / "server")
    (folder / "home" / "connections").mkdir(parents=True)
    house = Managed(folder / "home", server.acquire())
    house.server = server
    yield house
    house.close()
    if server.pid is not None:
        os.kill(server.pid, signal.SIGINT)
        until(lambda: server.pid is None)
    shutil.rmtree(folder)


@pytest.mark.parametrize("back", ["at once", "after the run"])
def test_a_managed_database_goes_away_in_the_middle_and_comes_back(managed: Managed, back: str) -> None:
    shop(managed, 8_000, latency_ms=0)
    source = managed.sources["shop"]
    answer, asked = source.answer, 0

    def interrupted(request: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 50:  # of 80 pages: the first chunk is committed, the second is being read
            until(lambda: managed.value("SELECT count(*) FROM integrations.run_log WHERE fetched > 0"))
            managed.stop_server()
            if back == "at once":
                managed.start_server()
        return answer(request)

    source.answer = interrupted  # type: ignore[method-assign]
    done = managed.run("sync", "shop", "--json")
    if back == "after the run":
        assert managed.run("status").returncode == 1
        assert "can't be reached" in managed.run("status").stderr
        managed.start_server()
    (stream,) = json.loads(done.stdout)["streams"]
    assert (done.returncode, stream["error"]["class"]) == (1, "destination"), done.stdout
    assert stream["error"]["next"]
    held = managed.value("SELECT count(*) FROM raw.shop__orders")
    noted = managed.value("SELECT sum(fetched) FROM integrations.run_log")
    assert held == noted > 0, "what was committed is there, and counted"
    goes_on = managed.sync("shop")["orders"]
    assert (goes_on["status"], goes_on["fetched"]) == ("succeeded", 8_000 - held)
    assert_whole(managed)


def test_two_runs_of_one_stream_at_once_are_one(house: House) -> None:
    shop(house, 5_000)
    runs = [house.start("sync", "shop", "--json") for _ in range(2)]
    documents = [json.loads(run.communicate(timeout=180)[0])["streams"][0] for run in runs]
    refused = [one for one in documents if one["status"] == "deferred"]
    assert {one["error"]["class"] for one in refused} <= {"lease_held"}
    assert all(one["requests"] == 0 and one["resume_at"] for one in refused)
    assert len(refused) < 2 and {one["status"] for one in documents} <= {"succeeded", "deferred"}
    assert_whole(house)


LEASES = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_a_run_that_was_paused_and_wakes_up_late_writes_nothing(house: House) -> None:
    """Its session is lost while it sleeps (a failover, a pooler, a cut line), and another run reads on and ends."""
    shop(house, 6_000)
    paused = house.start("sync", "shop", "--json")
    until(lambda: requests_made(house) > 20)
    house.sources["shop"].latency_ms = 1_500  # it can't come to its end before it is paused
    until(lambda: house.rows("SELECT 1 FROM integrations.run_log WHERE fetched > 0"))
    paused.send_signal(signal.SIGSTOP)
    house.sources["shop"].latency_ms = 0
    try:
        assert house.sync("shop", expect=3)["orders"]["error"]["class"] == "lease_held"
        house.rows(LEASES)
        assert house.sync("shop")["orders"]["status"] == "succeeded"
        before = everything(house)
    finally:
        paused.send_signal(signal.SIGCONT)
    (late,) = json.loads(paused.communicate(timeout=120)[0])["streams"]
    assert late["error"]["class"] in ("destination", "lease_held")
    assert everything(house) == before
    assert_whole(house)


def everything(house: House) -> list[list[tuple[Any, ...]]]:
    """What a late writer could spoil."""
    tables = ("raw.shop__orders", "canonical.order", "integrations.link", "integrations.stream_state")
    return [house.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables]


@pytest.fixture
def tiny_disk(house: House) -> Iterator[Path]:
    """A disk of a few megabytes on which the house's tables will lie."""
    folder = Path(tempfile.mkdtemp(prefix="integrations-disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("this account may not mount a small disk")
    place, name = folder / "tables", f"tiny_{os.getpid()}"
    place.mkdir()
    try:
        with psycopg.connect(house.database_url, autocommit=True) as session:
            owner = Path(session.execute("SHOW data_directory").fetchone()[0]).stat()  # type: ignore[index]
            os.chown(place, owner.st_uid, owner.st_gid)
            folder.chmod(0o755)
            session.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
            session.execute(f"ALTER DATABASE {session.info.dbname} SET default_tablespace = {name}")
        yield folder
        with psycopg.connect(house.database_url, autocommit=True) as session:
            session.execute("SET client_min_messages = error")
            session.execute(f"ALTER DATABASE {session.info.dbname} RESET default_tablespace")
            session.execute("DROP SCHEMA raw, canonical CASCADE")
            session.execute(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_is_said_clearly_and_with_room_it_goes_on(house: House, tiny_disk: Path) -> None:
    shop(house, 12_000, latency_ms=0)
    streams = house.sync("shop", expect=1)
    error = streams["orders"]["error"]
    assert error["class"] == "destination" and "No space left on device" in error["message"]
    assert (error["where"], error["who"]) == ("shop/orders", "whoever runs the database")
    assert error["next"] == "free disk space where the database lives"
    said = house.run("status").stdout
    assert "No space left on device" in said
    subprocess.run(["mount", "-o", "remount,size=200m", str(tiny_disk)], check=True)
    assert house.sync("shop")["orders"]["status"] == "succeeded"
    assert_whole(house)
