"""How long one change takes, on an idle system: in, from an event's first byte to the row in the canonical table; out,
from an edit's commit there until the source has taken it.

`python latency.py [--events 20] [--ways fast sensor out]` measures each way with processes and a durable PostgreSQL of
its own: the fast lane (`apply: immediately`, `integrations serve`), Dagster's sensor (`integrations up`: a tick, then a
run's start), and the sensor for edits made by plain SQL. The source is the simulator, in this process; changes come one
by one, each after a pause of no round length.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.signatures import sign
from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.store.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[1]
INTEGRATIONS = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()"]
SECRET, WAIT_SECONDS = "bench", 300.0
CONNECTION = """
connection: bench
secrets: {signing: {env: BENCH_SIGNING}}
every: 1d
api: {url: "URL", pagination: {type: cursor, read: next, send: after}}
streams:
  contacts:
    request: GET /contacts
    records: data
    primary_key: id
    cursor: {field: updated, send: since}
    fields: {id: {type: string, required: true}, updated: {type: timestamp, required: true}}
    map: {to: customer, fields: {email: email, name: name}}
    write: {fields: [name], update: PATCH /contacts/<external_id>}
webhook:
  verify:
    type: hmac
    signature: header X-Signature
    format: "t=<timestamp>,v1=<signature>"
    signed: <timestamp>.<body>
    secret: $signing
  event_type: type
  event_id: id
  apply: WAY
  events: {contact.*: {upsert: contacts, record: contact}}
"""


@contextmanager
def home(way: str) -> Iterator[tuple[Path, dict[str, str], Simulation]]:
    """A home with the one connection; the environment of its processes; its source, which is served."""
    with tempfile.TemporaryDirectory(prefix="integrations-latency-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "connections").mkdir()
        (root / "models").symlink_to(ROOT / "models")
        file = root / "connections" / "bench.yaml"
        file.write_text(CONNECTION.replace("WAY", way).replace("URL", "https://api.example.com/v1"))
        source = Simulation(load_connection("bench", Home(root)), records=10)
        with serve([source]) as running:
            file.write_text(CONNECTION.replace("WAY", way).replace("URL", source.url(running.port)))
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("INTEGRATIONS_", "DAGSTER_"))}
            yield root, {**kept, "INTEGRATIONS_HOME": str(root), "BENCH_SIGNING": SECRET}, source


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*INTEGRATIONS, *arguments], env=environment, stdout=2, cwd=ROOT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def until(true: Any) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.005)
    raise TimeoutError("nothing came of it")


def healthy(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/healthz", timeout=5).close()
    except OSError:
        return False
    return True


class Sender:
    """Sends events of contacts, each of a new one, and watches for it."""

    def __init__(self, root: Path, address: str, session: psycopg.Connection[Any]):
        hook = load_connection("bench", Home(root)).webhook
        assert hook is not None
        self.hook, self.session, self.url = hook, session, f"{address}/webhooks/bench"
        self.began = datetime.now(UTC) + timedelta(hours=1)

    def seconds(self, number: int) -> float:
        """From the first byte sent until the canonical row can be read."""
        email = f"latency{number}@example.org"
        updated = (self.began + timedelta(seconds=number)).isoformat()
        contact = {"id": f"latency{number}", "updated": updated, "email": email, "name": "Bench"}
        body = json.dumps({"id": f"evt_{number}", "type": "contact.created", "contact": contact}).encode()
        sent = sign(self.hook, [Secret(SECRET)], Delivery("POST", self.url, [], body), datetime.now(UTC))
        request = urllib.request.Request(self.url, sent.body, dict(sent.headers))
        began = time.perf_counter()
        urllib.request.urlopen(request, timeout=30).close()
        query = "SELECT 1 FROM canonical.customer WHERE email = %s"
        until(lambda: self.session.execute(query, [email]).fetchone())
        return time.perf_counter() - began


class Editor:
    """Edits the contacts that were read, one after the other, and looks for the edit at the source."""

    def __init__(self, source: Simulation, session: psycopg.Connection[Any]):
        self.source, self.session = source, session
        self.emails = [email for (email,) in session.execute("SELECT email FROM canonical.customer ORDER BY email")]

    def seconds(self, number: int) -> float:
        """From the edit's commit until the source holds it."""
        name, email = f"Edited {number}", self.emails[number % len(self.emails)]
        self.session.execute("UPDATE canonical.customer SET name = %s WHERE email = %s", [name, email])
        began = time.perf_counter()
        until(lambda: any(row["name"] == name for row in self.source.contents("contacts")))
        return time.perf_counter() - began


def measure(seconds: Callable[[int], float], events: int) -> dict[str, Any]:
    """The first one warms up and doesn't count."""
    dice, found = random.Random(1), []
    for number in range(events + 1):
        found.append(seconds(number))
        time.sleep(1 + 5 * dice.random())
    counted = sorted(found[1:])
    ends = {"fastest": counted[0], "slowest": counted[-1]}
    return {"events": events, "median_s": round(median(counted), 3), **{k: round(v, 3) for k, v in ends.items()}}


def fast_lane(events: int) -> dict[str, Any]:
    with home("immediately") as (root, environment, _):
        server = EmbeddedServer(root / ".integrations")
        url, port = server.acquire(), free_port()
        try:
            subprocess.run([*INTEGRATIONS, "sync", "bench"], env=environment, check=True, stdout=2)
            with running(environment, "serve", "--port", str(port)), psycopg.connect(url, autocommit=True) as session:
                until(lambda: healthy(f"http://127.0.0.1:{port}"))
                return measure(Sender(root, f"http://127.0.0.1:{port}", session).seconds, events)
        finally:
            server.release()


def sensor(events: int, *, outwards: bool) -> dict[str, Any]:
    with home("sensor") as (root, environment, source):
        port, ui = free_port(), free_port()
        with running(environment, "up", "--port", str(ui), "--gateway-port", str(port)) as up:
            until(lambda: healthy(f"http://127.0.0.1:{port}") or up.poll() is not None)
            server = EmbeddedServer(root / ".integrations")
            url = server.acquire()
            try:
                with psycopg.connect(url, autocommit=True) as session:
                    until(lambda: synced(session))
                    sender = Sender(root, f"http://127.0.0.1:{port}", session)
                    return measure(Editor(source, session).seconds if outwards else sender.seconds, events)
            finally:
                server.release()


def synced(session: psycopg.Connection[Any]) -> bool:
    """The first sync, which the sensor for new connections starts, is over."""
    query = "SELECT 1 FROM integrations.stream_state WHERE stream = 'contacts' AND last_success IS NOT NULL"
    return session.execute(query).fetchone() is not None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=("fast", "sensor", "out"), default=("fast", "sensor", "out"))
    given = parser.parse_args()
    load = re.split(r"\s", Path("/proc/loadavg").read_text()) if Path("/proc/loadavg").exists() else ["?"]
    print(json.dumps({"load average before": load[0]}))
    if "fast" in given.ways:
        print(json.dumps({"fast lane": fast_lane(given.events)}), flush=True)
    if "sensor" in given.ways:
        print(json.dumps({"sensor": sensor(given.events, outwards=False)}), flush=True)
    if "out" in given.ways:
        print(json.dumps({"sensor, out": sensor(given.events, outwards=True)}), flush=True)


if __name__ == "__main__":
    main()
