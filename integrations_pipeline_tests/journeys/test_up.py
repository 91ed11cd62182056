"""`integrations up` as a person meets it: everything starts, syncs, survives kills, and stops without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline_tests import patience
from integrations_pipeline_tests.client.source import Source
from integrations_pipeline_tests.gateway.test_pages import Visit

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300.0
"""How long a busy machine may take for what a quiet one does in seconds."""

SLOW = """
connection: slow
api:
  url: URL
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 10}}
streams:
  things: {request: GET /things, records: data, primary_key: id, fields: {id: {type: string, required: true}}}
"""

LAUNCH = """mutation($p: ExecutionParams!) {launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess {run {runId}}}}"""
RUNS = "{runsOrError {... on Runs {results {runId status jobName rootRunId tags {key value}}}}}"
ASSETS = """{assetNodes {assetKey {path} assetMaterializations(limit: 1) {runId}
  assetChecksOrError {... on AssetChecks {checks {name executionForLatestMaterialization {status}}}}}}"""
MAPPING = """query($k: AssetKeyInput!) {assetNodeOrError(assetKey: $k) {... on AssetNode {metadataEntries {
  label ... on TableMetadataEntry {table {records}}}}}}"""
EVENTS = (
    """query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {events {... on MessageEvent {message}}}}}"""
)


def until(true: Callable[[], Any]) -> Any:
    """What the call says once it is true."""
    return patience.until(true, PATIENCE_SECONDS, every=0.3)


class Up:
    """A running `integrations up` on a home of its own."""

    def __init__(self, root: Path, records: int = 100):
        self.root, self.log = root, root / "up.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.records = records
        self.start()

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("INTEGRATIONS_", "DAGSTER_"))}
        code = "from integrations_pipeline.cli import main; main()"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "up", "--port", str(self.port), "--records", str(self.records)],
                env={**environment, "INTEGRATIONS_HOME": str(self.root)}, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip
        until(lambda: "UI: http://" in self.said() or self.process.poll() is not None)

    def said(self) -> str:
        return self.log.read_text()

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)["data"]

    @property
    def gateway_port(self) -> int:
        address = re.search(r"webhooks: http://127.0.0.1:(\d+)/webhooks/", self.said())
        assert address is not None
        return int(address[1])

    def gateway_health(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway_port}/healthz", timeout=30) as answer:
            return int(answer.status)

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(RUNS)["runsOrError"]["results"]
        return found

    def status(self, run: str) -> str | None:
        return next((one["status"] for one in self.runs() if one["runId"] == run), None)

    def materialized(self) -> set[str]:
        nodes = self.ask(ASSETS)["assetNodes"]
        return {"/".join(node["assetKey"]["path"]) for node in nodes if node["assetMaterializations"]}

    def mapping(self, key: str) -> dict[str, dict[str, str]]:
        """The mapping table of an asset, by canonical field."""
        entries = self.ask(MAPPING, k={"path": key.split("/")})["assetNodeOrError"]["metadataEntries"]
        (table,) = [entry["table"]["records"] for entry in entries if entry["label"] == "mapping"]
        rows = [json.loads(row) for row in table]
        return {value: row for row in rows for name, value in row.items() if name.startswith("field of ")}

    def launch(self, *keys: str, job: str = "sync", tags: dict[str, str] | None = None) -> str:
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "integrations",
            "jobName": job,
            "assetSelection": [{"path": key.split("/")} for key in keys],
        }
        given = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": given}}
        run: str = self.ask(LAUNCH, p=params)["launchPipelineExecution"]["run"]["runId"]
        return run

    def process_of(self, run: str) -> int:
        """The pid that the run's own events name."""
        events = self.ask(EVENTS, id=run)["logsForRun"]["events"]
        text = "\n".join(event.get("message") or "" for event in events)
        named = re.search(r"Started process for run \(pid: (\d+)\)", text)
        assert named is not None
        return int(named[1])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the embedded database of this home says."""
        with psycopg.connect(EmbeddedServer(self.root / ".integrations").url(), autocommit=True) as session:
            return session.execute(query).fetchall()  # type: ignore[arg-type]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def left(self) -> list[str]:
        """Processes that belong to this home."""
        mark = f"INTEGRATIONS_HOME={self.root}\0".encode()
        found = [command_of(process) for process in Path("/proc").glob("[0-9]*")]
        return [command for environment, command in found if mark in environment]


def command_of(process: Path) -> tuple[bytes, str]:
    """Environment and command line of a process."""
    try:
        return (process / "environ").read_bytes(), (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return b"", ""


@pytest.fixture
def root() -> Iterator[Path]:
    """The checkout's demo connections in a home of their own, which PostgreSQL's account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="integrations-up-test-"))
    folder.chmod(0o755)
    for part in ("connections", "models"):
        shutil.copytree(ROOT / part, folder / part)
    yield folder
    shutil.rmtree(folder)


def keep(root: Path, *demos: str) -> None:
    """Takes the other demos away: each costs a process per sync, and `make pictures` waits for all of them."""
    for demo in (root / "connections").iterdir():
        if demo.stem not in demos:
            demo.unlink()


@pytest.fixture
def up(root: Path) -> Iterator[Up]:
    found = Up(root)
    yield found
    found.stop()


@pytest.fixture
def few(root: Path) -> None:
    keep(root, "demo_rates", "demo_shop")


@pytest.mark.usefixtures("few")
def test_up_shows_the_demo_runs_what_it_is_told_and_leaves_nothing(up: Up) -> None:
    demo = {"demo_rates/rates", "demo_rates/currencies", "canonical/exchange_rate", "demo_shop/products"}
    until(lambda: demo <= up.materialized())
    assert until(up.gateway_health) == 200
    run = up.launch("demo_rates/rates", "canonical/exchange_rate")
    until(lambda: up.status(run) == "SUCCESS")
    file = up.root / "connections" / "demo_rates.yaml"
    (up.root / "connections" / "second.yaml").write_text(file.read_text().replace("demo_rates", "second"))
    until(lambda: "second" in {n["assetKey"]["path"][0] for n in up.ask(ASSETS)["assetNodes"]})
    began = time.monotonic()
    up.stop()
    assert up.process.returncode == 0 and time.monotonic() - began < 40
    assert up.left() == []
    assert not (up.root / ".integrations" / "postgres" / "data" / "postmaster.pid").exists()


@pytest.fixture
def slow(root: Path) -> Iterator[Simulation]:
    """A further connection of the home, whose first sync takes minutes for as long as its source is slow."""
    file = root / "connections" / "slow.yaml"
    file.write_text(SLOW.replace("URL", "https://api.example.com/v1"))
    source = Simulation(load_connection("slow", Home(root)), records=1000, latency_ms=2000)
    with serve([source]) as running:
        file.write_text(SLOW.replace("URL", source.url(running.port)))
        yield source


@pytest.mark.long
def test_a_killed_run_is_tried_again_and_goes_on_at_its_bookmark(slow: Simulation, up: Up) -> None:
    committed = "SELECT 1 FROM integrations.stream_state WHERE connection = 'slow' AND bookmark IS NOT NULL"
    until(lambda: up.rows(committed))
    (run,) = [one["runId"] for one in up.runs() if {"key": "integrations/connection", "value": "slow"} in one["tags"]]
    os.kill(up.process_of(run), signal.SIGKILL)
    slow.latency_ms = 0
    until(lambda: any(one["rootRunId"] == run and one["status"] == "SUCCESS" for one in up.runs()))
    held = up.rows("SELECT external_id FROM raw.slow__things")
    assert sorted(key for (key,) in held) == sorted(row["id"] for row in slow.contents("things"))
    ((fetched,),) = up.rows(
        "SELECT fetched FROM integrations.run_log WHERE connection = 'slow' AND status = 'succeeded'"
    )
    assert 0 < fetched < 1000


WRITTEN = """
connection: slow
api:
  url: URL
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 100}}
streams:
  things:
    request: GET /things
    records: data
    primary_key: id
    fields: {id: {type: string, required: true}, name: {type: string}}
    map: {to: thing, fields: {name: name}}
    write: {fields: [name], update: "PATCH /things/<external_id>", answer: .}
"""


@pytest.mark.long
@pytest.mark.usefixtures("few")
def test_a_stop_while_changes_leave_alarms_nobody_and_they_leave_after_the_next_start(root: Path) -> None:
    (root / "models" / "thing.yaml").write_text("kind: thing\nfields: {name: {type: string}}\n")
    file = root / "connections" / "slow.yaml"
    file.write_text(WRITTEN.replace("URL", "https://api.example.com/v1"))
    source = Simulation(load_connection("slow", Home(root)), records=100)
    with serve([source]) as running:
        file.write_text(WRITTEN.replace("URL", source.url(running.port)))
        up = Up(root)
        try:
            until(lambda: up.rows("SELECT 1 FROM integrations.run_log WHERE connection = 'slow' AND mode <> 'push'"))
            until(lambda: up.rows("SELECT count(*) FROM canonical.thing") == [(100,)])
            source.latency_ms = 1000
            up.rows("UPDATE canonical.thing SET name = 'edited here' RETURNING 1")
            until(lambda: up.rows("SELECT 1 FROM integrations.outbox WHERE outcome = 'sent'"))
            up.stop()
            source.latency_ms = 0
            left = [row for row in source.contents("things") if row["name"] != "edited here"]
            assert left, "all had left before the stop"
            up.start()
            until(lambda: all(row["name"] == "edited here" for row in source.contents("things")))
            assert "FAILURE" in {one["status"] for one in up.runs() if one["jobName"] == "push"}
            time.sleep(70)  # the sensor that tells people looks each half minute
            assert up.rows("SELECT connection, what FROM integrations.alert WHERE condition LIKE 'run_failure%'") == []
        finally:
            up.stop()


BRANCH = """
connector: branches
settings: {branch: null}
api: {url: "http://127.0.0.1:8765/<branch>/v1", pagination: {type: single_page}}
streams:
  things: {request: GET /things, records: data, primary_key: id, fields: {id: {type: string, required: true}}}
"""


@pytest.fixture
def branches(root: Path) -> None:
    """A home with one of the demos, and a connector of the team's own."""
    keep(root, "demo_rates")
    (root / "connectors").mkdir()
    (root / "connectors" / "branches.yaml").write_text(BRANCH)


@pytest.mark.long
def test_what_is_saved_on_the_pages_is_live_in_dagster_without_a_restart(
    branches: None, slow: Simulation, up: Up
) -> None:
    until(lambda: "demo_rates/rates" in up.materialized())
    until(lambda: up.rows("SELECT 1 FROM integrations.stream_state WHERE connection = 'slow' AND bookmark IS NOT NULL"))
    (run,) = [one["runId"] for one in up.runs() if {"key": "integrations/connection", "value": "slow"} in one["tags"]]
    locks = [up.root / ".integrations" / "dagster" / f"{name}.lock" for name in ("webserver", "daemon", "code")]
    processes = [lock.read_text() for lock in locks]
    visit = Visit(up.gateway_port)

    text = visit.get("/mapping/demo_rates/rates").html
    block = unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", text, re.DOTALL)[0])
    known = re.findall(r'name="known" value="([^"]+)"', text)[0]
    assert "quote: currency" in block
    edited = block.replace("quote: currency", "quote: {from: currency, apply: [trim, upper]}")
    visit.post("/mapping/demo_rates/rates", {"block": edited, "known": known, "do": "save"})
    assert "Saved" in visit.follow().text
    until(lambda: up.mapping("demo_rates/rates")["quote"]["steps"] == "trim → upper")

    visit.get("/connections/new?uses=branches")
    visit.post("/connections/new", {"uses": "branches", "name": "berlin", "every": "15m", "setting.branch": "berlin"})
    assert "connections/berlin.yaml is written" in visit.follow().text
    until(lambda: "berlin/things" in up.materialized())  # the sensors go on, and know it
    assert len(up.rows("SELECT FROM raw.berlin__things")) == up.records

    assert up.status(run) == "STARTED", "a run under way goes on, by the file as it was"
    slow.latency_ms = 0
    until(lambda: up.status(run) == "SUCCESS")
    assert len(up.rows("SELECT FROM raw.slow__things")) == 1000
    assert [lock.read_text() for lock in locks] == processes, "nothing was restarted"


@pytest.mark.long
def test_a_killed_database_comes_back(up: Up) -> None:
    until(lambda: {"demo_rates/rates", "demo_calendar/events", "demo_shop/products"} <= up.materialized())
    pid = EmbeddedServer(up.root / ".integrations").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: "it was gone, and is back" in up.said())
    (up.root / "connections" / "third.yaml").write_text(
        (up.root / "connections" / "demo_rates.yaml").read_text().replace("demo_rates", "third")
    )
    until(lambda: "third/rates" in up.materialized())  # a new source, and its first sync, without a hand


@pytest.mark.long
def test_up_goes_on_after_each_of_its_processes_was_killed(up: Up) -> None:
    until(lambda: "demo_rates/rates" in up.materialized())
    for name in ("webserver", "daemon", "code"):
        os.kill(int((up.root / ".integrations" / "dagster" / f"{name}.lock").read_text()), signal.SIGKILL)
        until(lambda name=name: f"{name} ended" in up.said())
    time.sleep(5)
    run = until(lambda: up.launch("demo_rates/rates"))
    until(lambda: up.status(run) == "SUCCESS")


@pytest.mark.long
def test_what_a_killed_up_left_is_ended_by_the_next(up: Up) -> None:
    until(lambda: "demo_rates/rates" in up.materialized())
    up.process.kill()
    up.process.wait()
    left = up.left()
    assert left
    up.start()
    run = until(lambda: up.launch("demo_rates/rates"))
    until(lambda: up.status(run) == "SUCCESS")
    up.stop()
    assert up.left() == []


class Dev(Up):
    """A bare `dagster dev` in a checkout of its own, with nothing exported."""

    def start(self) -> None:
        ours = ("INTEGRATIONS_", "DAGSTER_", "PYTHON")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dagster", "dev", "--port", str(self.port)],
                env=environment, stdout=log, stderr=log, cwd=self.root, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """As Ctrl-C does: all of the terminal's processes are told."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(PATIENCE_SECONDS)

    def left(self) -> list[str]:
        """Processes that work in this checkout."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink().is_relative_to(self.root):
                    found.append(command_of(process)[1])
        return found


@pytest.fixture
def checkout(root: Path) -> Path:
    """The parts of a checkout that `dagster dev` reads, with one connection of its own."""
    for file in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / file, root)
    shutil.copytree(ROOT / "integrations_pipeline", root / "integrations_pipeline")
    keep(root)
    return root


@pytest.mark.long
def test_a_bare_dagster_dev_works_in_a_checkout_and_leaves_nothing(checkout: Path) -> None:
    file = checkout / "connections" / "quick.yaml"
    text = SLOW.replace("slow", "quick").replace("api:", "every: 1m\napi:", 1)
    file.write_text(text.replace("URL", "https://api.example.com/v1"))
    source = Simulation(load_connection("quick", Home(checkout)), records=20)
    with serve([source]) as running:
        file.write_text(text.replace("URL", source.url(running.port)))
        dev = Dev(checkout)
        try:
            until(lambda: "quick/things" in dev.materialized())  # by the sensor, as it was never read
            scheduled = {"key": "integrations/reason", "value": "schedule"}
            until(lambda: any(scheduled in run["tags"] and run["status"] == "SUCCESS" for run in dev.runs()))
            run = dev.launch("quick/things")
            until(lambda: dev.status(run) == "SUCCESS")
            assert len(dev.rows("SELECT FROM raw.quick__things")) == 20
            database = EmbeddedServer(checkout / ".integrations").pid
            assert database is not None
        finally:
            dev.stop()
    until(lambda: not dev.left())
    assert not list(checkout.glob(".tmp_dagster_home*"))
    assert EmbeddedServer(checkout / ".integrations").pid is None


@pytest.mark.long
def test_the_daemon_tells_people_what_broke_and_what_healed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is launched by hand while it is broken: the first sync fails by itself, and the sensor tells it."""
    keep(root)
    file = root / "connections" / "told.yaml"
    text = SLOW.replace("slow", "told") + "alerts: [{env: TOLD_ALERTS}]\n"
    file.write_text(text.replace("URL", "https://api.example.com/v1"))
    source = Simulation(load_connection("told", Home(root)), records=20)
    source.switch(["401"])
    with serve([source]) as running, Source(lambda seen: {}) as chat:
        monkeypatch.setenv("TOLD_ALERTS", chat.url.replace("http:", "json:"))
        file.write_text(text.replace("URL", source.url(running.port)))
        up = Up(root)
        try:
            until(lambda: chat.seen)
            (message,) = [seen.json for seen in chat.seen]
            assert message["title"] == "broken: told: credentials"
            assert re.search(rf"see: http://127.0.0.1:{up.port}/runs/[0-9a-f-]+", message["message"])
            source.switch([])
            until(lambda: up.launch("told/things"))
            until(lambda: len(chat.seen) > 1)
            assert [seen.json["title"] for seen in chat.seen[1:]] == ["healed: told: credentials"]
        finally:
            up.stop()


def test_one_up_per_home(root: Path) -> None:
    (root / ".integrations").mkdir()
    with (root / ".integrations" / "up.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = Up(root)
    assert second.process.wait(30) == 2
    assert "runs already" in second.said()
