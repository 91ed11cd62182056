"""The door beside its bare limit: a burst of signed events against the gateway, and against the same server committing
each event by itself.

`python webhooks.py [--json]` starts a durable PostgreSQL of its own, and for each of three servers a process and a
sender: the gateway; one session that inserts one row per request and commits; and eight such sessions at once, where
PostgreSQL itself lets waiting commits share a flush. `--serve SESSIONS` is one of those servers: 0 is the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg

from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.serving import run
from integrations_pipeline.gateway.writer import Writer
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.inbox import Event
from integrations_pipeline.store.migration import migrate
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import Store

EVENTS, CONNECTIONS, SECRET = 5_000, 64, "bench"
TURNS = 2
"""Of each server's bursts the best counts."""

SERVERS = {"gateway": 0, "one row, one commit": 1, "the same, 8 sessions": 8}
CONNECTION = """
connection: bench
secrets: {signing: {env: LOAD_SECRET}}
api: {url: "https://api.example.com", pagination: {type: single_page}}
streams: {orders: {request: GET /orders, records: data, primary_key: id}}
webhook:
  verify:
    type: hmac
    signature: header Stripe-Signature
    format: "t=<timestamp>,v1=<signature>"
    signed: <timestamp>.<body>
    secret: $signing
  event_type: type
  event_id: id
  order_by: created
  events: {order.*: {upsert: orders, record: data.object}}
"""


class OneByOne(Writer):
    """As a receiver is usually written: each request inserts its row and commits it."""

    def __init__(self, connect: Any, sessions: int):
        self.writers = [Writer(connect, batch_events=1) for _ in range(sessions)]
        self.turn = cycle(self.writers)

    def start(self) -> None:
        for one in self.writers:
            one.start()

    async def stop(self) -> None:
        await asyncio.gather(*(one.stop() for one in self.writers))

    async def store(self, events: Sequence[Event]) -> bool:
        return await next(self.turn).store(events)


def serve(sessions: int) -> None:
    connect = Store(os.environ["INTEGRATIONS_DATABASE_URL"]).connect
    gateway = Gateway(Doors(Home.from_environment()), connect)
    if sessions:
        gateway.writer = OneByOne(connect, sessions)
    run(gateway, socket.create_server(("127.0.0.1", int(os.environ["BENCH_PORT"])), backlog=1_024))


@contextmanager
def serving(sessions: int, environment: dict[str, str]) -> Iterator[str]:
    """A server in a process of its own; yields its address when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(sessions)]
    process = subprocess.Popen(command, env={**environment, "BENCH_PORT": str(port)}, stdout=2)
    try:
        address = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"{address}/webhooks/bench"
    finally:
        process.terminate()
        process.wait()


def burst(address: str, run: str, environment: dict[str, str], events: int) -> dict[str, Any]:
    load = [sys.executable, str(Path(__file__).parent / "load.py"), address, "--run", run, "--count"]
    command = [*load, str(events), "--connections", str(CONNECTIONS)]
    said = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def measure(folder: Path, events: int) -> dict[str, dict[str, Any]]:
    (folder / "connections").mkdir()
    (folder / "connections" / "bench.yaml").write_text(CONNECTION)
    server = EmbeddedServer(folder / "state")
    url = server.acquire()
    migrate(url)
    ours = {"INTEGRATIONS_HOME": str(folder), "INTEGRATIONS_DATABASE_URL": url, "LOAD_SECRET": SECRET}
    environment = {**os.environ, **ours}
    measured: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(serving(count, environment)) for name, count in SERVERS.items()}
        for turn in range(TURNS):  # by turns, since the machine may have other work meanwhile
            for name, address in addresses.items():
                found = one_burst(address, f"{turn}-{SERVERS[name]}", environment, events, url)
                if name not in measured or found["rate"] > measured[name]["rate"]:
                    measured[name] = found
    server.release()
    return measured


def one_burst(address: str, run: str, environment: dict[str, str], events: int, url: str) -> dict[str, Any]:
    """One burst, and how much of what was accepted is stored. Raises AssertionError where that is not all."""
    burst(address, f"warm{run}", environment, 200)
    found = burst(address, f"run{run}", environment, events)
    with psycopg.connect(url) as session:
        asked = "SELECT count(*) FROM integrations.inbox WHERE event_id LIKE %s"
        row = session.execute(asked, [f"evt\\_run{run}\\_%"]).fetchone()
    told = {key: found[key] for key in ("rate", "p50_ms", "p99_ms", "statuses")}
    told |= {"accepted": len(found["accepted"]), "stored": row[0] if row else 0}
    assert told["accepted"] == told["stored"] == events, told
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve)
        return
    with tempfile.TemporaryDirectory(prefix="integrations-bench-") as folder:
        Path(folder).chmod(0o711)
        measured = measure(Path(folder), given.events)
    if given.json:
        print(json.dumps(measured))
        return
    for name, one in measured.items():
        times = measured["gateway"]["rate"] / one["rate"]
        print(
            f"{name:22} {one['rate']:6.0f}/s  p50 {one['p50_ms']:4.0f} ms  p99 {one['p99_ms']:4.0f} ms  "
            f"stored {one['stored']} of {one['accepted']}  gateway: {times:.1f} times"
        )


if __name__ == "__main__":
    main()
