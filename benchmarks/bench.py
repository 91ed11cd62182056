"""`make bench`: what the promises cost, measured on this machine in one run. Prints a section for docs/performance.md.

Three questions, each with its bound from the plan:

- the whole path beside the bare limit, 100,000 records in pages of 1,000 (at most 3.5 times its wall time; goal 2.5)
- the peak memory of the syncing process at 100,000 and at 1,000,000 records (under 300 MB, and flat)
- 10,000 records, 50 ms latency per page of 100, eight pages at once (at most a third of the serial time)

Source and measured program are processes of their own; the two sides take turns; each round gets a fresh database.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from integrations_pipeline.store.server import EmbeddedServer

HERE = Path(__file__).resolve().parent
ROUNDS = 3
RECORDS, PAGE_RECORDS = 100_000, 1_000
MANY_RECORDS = 1_000_000
SLOW_RECORDS, SLOW_PAGE_RECORDS, LATENCY_SECONDS, CONCURRENCY = 10_000, 100, 0.05, 8

CONNECTION = """
connection: bench
api:
  url: {url}
  concurrency: {concurrency}
  pagination: {pagination}
streams:
  contacts:
    request: GET /contacts
    records: data
    primary_key: id
    cursor: {{field: updated_at, send: since}}
    fields:
      id: {{type: string, required: true}}
      email: {{type: string}}
      active: {{type: boolean}}
      score: {{type: integer, min: 0}}
      balance: {{type: decimal}}
      updated_at: {{type: timestamp, required: true}}
    map:
      to: customer
      match: [email]
      fields:
        email: {{from: email, apply: [trim, lower], required: true}}
        name: {{join: [first, last], with: " "}}
        phone: {{from: phone, apply: [phone]}}
        country: country
        stage: {{from: stage, values: {{lead: prospect, customer: active}}, else: unknown}}
        balance: balance
        changed_at: updated_at
"""
KIND = """
kind: customer
fields:
  email: {type: string, format: email}
  name: {type: string}
  phone: {type: string}
  country: {type: string, format: country}
  stage: {type: string}
  balance: {type: decimal}
  changed_at: {type: timestamp}
"""
BY_TOKEN = "{type: cursor, read: next, send: page}"
BY_NUMBER = "{type: page_number, send: page, pages: pages}"


@contextmanager
def source(records: int, page_records: int, latency_seconds: float = 0.0) -> Iterator[str]:
    """The source's URL, for as long as the block lasts."""
    arguments = [sys.executable, str(HERE / "source.py"), str(records), str(page_records), str(latency_seconds)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


@contextmanager
def database(server: EmbeddedServer) -> Iterator[str]:
    """A fresh database's URL; dropped afterwards, with a checkpoint so that the next round doesn't pay for this one."""
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute("CHECKPOINT")


def run(script: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """One measured process; its last line is its result."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def bare(server: EmbeddedServer, url: str, records: int, library: str) -> float:
    """The wall time of the bare limit, in seconds."""
    with database(server) as place:
        found = run("bare.py", url, place, library)
    assert found["records"] == records
    return found["seconds"]


def whole(server: EmbeddedServer, url: str, records: int, pagination: str, concurrency: int = 1) -> dict[str, Any]:
    """One sync of everything into an empty database. Refuses a result that isn't complete."""
    with tempfile.TemporaryDirectory() as folder, database(server) as place:
        for part, text in (
            ("connections/bench.yaml", CONNECTION.format(url=url, pagination=pagination, concurrency=concurrency)),
            ("models/customer.yaml", KIND),
        ):
            file = Path(folder, part)
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
        found = run("whole.py", "bench", INTEGRATIONS_HOME=folder, INTEGRATIONS_DATABASE_URL=place)
        with psycopg.connect(place) as connection:
            counted = connection.execute(
                "SELECT (SELECT count(*) FROM raw.bench__contacts), (SELECT count(*) FROM canonical.customer)"
            ).fetchone()
    (stream,) = found["streams"]
    assert stream["status"] == "succeeded", stream
    assert counted == (records, records), counted
    return found


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def machine(server: EmbeddedServer) -> str:
    with psycopg.connect(server.url("postgres")) as connection:
        version = connection.info.server_version // 10000
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {version}, {platform.system()}"


def compare(server: EmbeddedServer) -> list[str]:
    """The whole path beside the bare limit, in turns."""
    limits, fastest, wholes = [], [], []
    with source(RECORDS, PAGE_RECORDS) as url:
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            limits.append(bare(server, url, RECORDS, "json"))
            fastest.append(bare(server, url, RECORDS, "orjson"))
            wholes.append(whole(server, url, RECORDS, BY_TOKEN))
    seconds = [one["seconds"] for one in wholes]
    with_start = [one["seconds"] + one["open_seconds"] + one["import_seconds"] for one in wholes]
    limit, path = statistics.median(limits), statistics.median(seconds)
    return [
        f"| {RECORDS:,} records, pages of {PAGE_RECORDS:,} | median of {ROUNDS} (range) | records/s | ratio |",
        "|---|---|---|---|",
        f"| bare limit: requests, `json`, COPY | {spread(limits)} | {RECORDS / limit:,.0f} | 1 |",
        f"| the same with `orjson` | {spread(fastest)} | {RECORDS / statistics.median(fastest):,.0f} | "
        f"{statistics.median(fastest) / limit:.2f} |",
        f"| whole path: fetch to canonical | {spread(seconds)} | {RECORDS / path:,.0f} | **{path / limit:.2f}** |",
        f"| the same with imports and opening the database | {spread(with_start)} | "
        f"{RECORDS / statistics.median(with_start):,.0f} | {statistics.median(with_start) / limit:.2f} |",
        "",
        "| peak memory of the syncing process | MB |",
        "|---|---|",
        f"| {RECORDS:,} records | {max(one['peak_mb'] for one in wholes):.0f} |",
    ]


def grow(server: EmbeddedServer) -> list[str]:
    """Ten times as many records: memory must not grow with them."""
    say(f"{MANY_RECORDS:,} records")
    with source(MANY_RECORDS, PAGE_RECORDS) as url:
        found = whole(server, url, MANY_RECORDS, BY_TOKEN)
    rate = MANY_RECORDS / found["seconds"]
    return [f"| {MANY_RECORDS:,} records ({found['seconds']:.0f} s, {rate:,.0f} records/s) | {found['peak_mb']:.0f} |"]


def overlap(server: EmbeddedServer) -> list[str]:
    """A slow source, one page at a time and several at once."""
    say("a slow source")
    with source(SLOW_RECORDS, SLOW_PAGE_RECORDS, LATENCY_SECONDS) as url:
        serial = [whole(server, url, SLOW_RECORDS, BY_NUMBER)["seconds"] for _ in range(3)]
        several = [whole(server, url, SLOW_RECORDS, BY_NUMBER, CONCURRENCY)["seconds"] for _ in range(3)]
    share = statistics.median(several) / statistics.median(serial)
    return [
        "",
        f"| {SLOW_RECORDS:,} records, {LATENCY_SECONDS * 1000:.0f} ms per page of {SLOW_PAGE_RECORDS} "
        "| median of 3 (range) | share |",
        "|---|---|---|",
        f"| one page at a time | {spread(serial)} | 1 |",
        f"| `concurrency: {CONCURRENCY}` | {spread(several)} | **{share:.2f}** |",
    ]


def say(text: str) -> None:
    """Progress, beside the report on stdout."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="integrations-bench-") as folder:
        Path(folder).chmod(0o711)  # as root the server runs as another account, which must reach its data
        server = EmbeddedServer(Path(folder) / "state")
        server.acquire()
        try:
            lines = [f"{datetime.now(UTC):%Y-%m-%d}, {machine(server)}.", "", *compare(server)]
            lines += grow(server) + overlap(server)
        finally:
            server.release()
    print("\n".join(lines))
    say(f"took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
