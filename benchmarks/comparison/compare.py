"""The same hostile source read by this project and by other tools; writes the tables of docs/comparison.md.

    python benchmarks/comparison/compare.py            all cases, all tools (about 20 minutes)
    python benchmarks/comparison/compare.py --case html --tool dlt

The source is our simulator with one of its faults (docs/faults.md). Each tool is configured as its own documentation
does it for such an API, in a virtual environment of its own that is made on the first run, and gets two syncs: one
while the source misbehaves, one when it has healed. After each, what it holds is compared with what the source holds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.server import EmbeddedServer

HERE = Path(__file__).resolve().parent
TOKEN = "not-a-secret-of-anybody"  # of the simulated source
RECORDS, PAGE_RECORDS, LIMIT_SECONDS, LIMIT_REQUESTS = 300, 20, 60, 400
TOOLS = {"dlt": "dlt[duckdb]==1.31.0", "airbyte-cdk": "airbyte-cdk==7.39.1", "singer-sdk": "singer-sdk==0.54.9"}
RUNNERS = {"dlt": "run_dlt.py", "airbyte-cdk": "run_airbyte.py", "singer-sdk": "run_singer.py"}
OURS = "this project"
COMPARED = ["id", "name"]

CONNECTION = """
connection: compared
secrets: {{token: {{env: COMPARED_TOKEN}}}}
api:
  url: {url}
  auth: {{type: bearer, token: $token}}
  pagination: {pagination}
streams:
  things:
    request: GET /things
    records: data
    primary_key: id
    cursor: {{field: updated_at, send: since}}
    fields:
      id: {{type: string, required: true}}
      name: {{type: string}}
      updated_at: {{type: timestamp, required: true}}
"""
PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "cursor": (
        f"{{type: cursor, read: next, send: page, size: {{send: limit, value: {PAGE_RECORDS}}}}}",
        {"type": "cursor", "read": "next", "send": "page"},
    ),
    "offset": (
        f"{{type: offset, send: offset, total: total, more: more, size: {{send: limit, value: {PAGE_RECORDS}}}}}",
        {"type": "offset", "send": "offset", "limit": "limit", "total": "total", "size": PAGE_RECORDS},
    ),
    "link_body": (
        f"{{type: link_body, read: next, size: {{send: limit, value: {PAGE_RECORDS}}}}}",
        {"type": "link_body", "read": "next"},
    ),
}


@dataclass(frozen=True)
class Case:
    """A way to misbehave. ``changes``: what happens at the source once it has healed."""

    name: str
    what: str
    faults: list[str]
    pages: str = "cursor"
    changes: str = ""


CASES = [
    Case("healthy", "a healthy source", []),
    Case("empty-page", "an empty page in the middle of the list", ["empty page 4"]),
    Case("empty-page-offset", "the same, pages by offset", ["empty page 4"], "offset"),
    Case("smaller-pages", "pages smaller than asked for, by offset", ["smaller pages 7"], "offset"),
    Case("lie-total", "a total that is too small, by offset", ["lie total 100"], "offset"),
    Case("same-token", "a token that repeats itself", ["repeat token after 3"]),
    Case("token-cycle", "tokens that go round in a circle", ["cycle tokens 4"]),
    Case("endless", "fresh tokens for ever", ["endless tokens"]),
    Case("expired", "the page token expires in mid-list (410)", ["expire cursor 410 after 5"]),
    Case("html", "one HTML maintenance page with status 200", ["html after 4 once"]),
    Case("empty-body", "one empty body with status 200", ["empty body after 4 once"]),
    Case("throttled-200", "429 without a word how long, every 4th request", ["429 every 4th"]),
    Case("retry-after", "429 with Retry-After 3, every 5th request", ["429 retry-after 3 every 5th"]),
    Case("5xx", "503 for six requests", ["503 after 3 for 6 requests"]),
    Case("truncated", "one answer cut in its middle", ["truncate after 4 once"]),
    Case("reset", "connections reset, every 5th request", ["reset every 5th"]),
    Case(
        "deleted-while-read",
        "records deleted while the list is read, by offset",
        ["delete while reading 1 every 2nd"],
        "offset",
    ),
    Case("null-id", "a record in a hundred without an id", ["bad row null_id 1%"]),
    Case("bad-date", "a record in a hundred with the date 0000-00-00", ["bad row zero_date in updated_at 1%"]),
    Case("future", "a record stamped three days ahead, changes after it", ["future row 3d once"], changes="insert"),
    Case("elsewhere", "next links that lead to another host", ["next elsewhere"], "link_body"),
    Case("redirect", "a redirect to another host", ["redirect elsewhere after 3 once"], "link_body"),
]


@dataclass
class Outcome:
    """What a tool said after each sync, what it held, how often it asked, and whether its token went elsewhere."""

    told: list[str] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    quarantined: list[int] = field(default_factory=list)
    leaked: int = 0


def environment_of(tool: str, folder: Path) -> Path:
    """The tool's own virtual environment; made where it isn't there yet."""
    place = folder / tool
    python = place / "bin" / "python"
    if not python.exists():
        print(f"making an environment for {TOOLS[tool]}", file=sys.stderr)
        venv.create(place, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TOOLS[tool]], check=True)
    return python


class Watched:
    """The source, with a count of its requests and of tokens that came under another host's name."""

    def __init__(self, case: Case, home: Path):
        file = home / "connections" / "compared.yaml"
        file.parent.mkdir()
        pagination, self.pages = PAGES[case.pages]
        file.write_text(CONNECTION.format(url="http://127.0.0.1:1/v1", pagination=pagination), encoding="utf-8")
        connection = load_connection("compared", Home(home))
        self.source = Simulation(connection, records=RECORDS, secrets={"token": TOKEN}, faults=case.faults)
        self.answer, self.source.answer = self.source.answer, self.watch  # type: ignore[method-assign]
        self.requests = self.leaked = 0
        self.running = serve([self.source])
        self.url = self.source.url(self.running.port)
        file.write_text(CONNECTION.format(url=self.url, pagination=pagination), encoding="utf-8")

    def watch(self, request: Any) -> Any:
        self.requests += 1
        if "//localhost" in request.origin and TOKEN in request.headers.get("authorization", ""):
            self.leaked += 1
        return self.answer(request)

    def heal(self, case: Case) -> None:
        self.source.faults.switch([])
        if case.changes == "insert":
            self.source.insert("things", 5)

    def truth(self) -> dict[str, dict[str, str]]:
        return {row["id"]: {name: str(row.get(name)) for name in COMPARED} for row in self.source.contents("things")}


def run(command: list[str], environment: dict[str, str], watched: Watched) -> tuple[str, str]:
    """What it prints, and how it ended: by itself, or stopped as one that never ends."""
    began, asked = time.monotonic(), watched.requests
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors, text=True)
        how = "ended"
        while process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - began > LIMIT_SECONDS or watched.requests - asked > LIMIT_REQUESTS:
                process.kill()
                process.wait()
                how = "never ends" if watched.requests - asked > LIMIT_REQUESTS else "still waiting"
        output.seek(0)
        return output.read(), how


def sync_by_tool(python: Path, tool: str, watched: Watched, folder: Path) -> tuple[str, dict[str, Any]]:
    job = {
        "url": watched.url, "path": "/things", "records": "data", "primary_key": "id", "cursor_field": "updated_at",
        "cursor_send": "since", "start": "2000-01-01T00:00:00Z", "token": TOKEN, "pagination": watched.pages,
        "compared": COMPARED, "folder": str(folder),
    }  # fmt: skip
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    text, how = run([str(python), str(HERE / RUNNERS[tool]), str(file)], dict(os.environ), watched)
    if how != "ended" or not text.strip():
        kept = folder / "held.json"
        return how, json.loads(kept.read_text()) if kept.exists() else {}
    result = json.loads(text.strip().splitlines()[-1])
    return "success" if result["succeeded"] else "error", result["rows"]


def sync_by_us(watched: Watched, home: Path, database: str) -> tuple[str, dict[str, Any], int]:
    environment = {
        **os.environ, "INTEGRATIONS_HOME": str(home), "INTEGRATIONS_DATABASE_URL": database, "COMPARED_TOKEN": TOKEN,
    }  # fmt: skip
    text, how = run(
        [str(Path(sys.executable).with_name("integrations")), "sync", "compared", "--json"], environment, watched
    )
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE integrations.rate_limit SET told_until = 0")
        rows = dict(
            connection.execute("SELECT external_id, payload FROM raw.compared__things WHERE deleted_at IS NULL")
        )
        rejected = connection.execute("SELECT count(*) FROM integrations.quarantine WHERE status = 'open'").fetchone()
    held = {key: {name: str(row.get(name)) for name in COMPARED} for key, row in rows.items()}
    aside = int(rejected[0]) if rejected else 0
    if how != "ended":
        return how, held, aside
    (stream,) = json.loads(text)["streams"]
    told = {"succeeded": "success", "deferred": "deferred", "failed": "error"}[stream["status"]]
    return told, held, aside


def measure(case: Case, tool: str, environments: Path, server: EmbeddedServer) -> Outcome:
    """Two syncs of one case by one tool, on a fresh source, folder and database."""
    outcome, database = Outcome(), f"compared_{os.urandom(4).hex()}"
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        watched = Watched(case, home)
        with psycopg.connect(server.url("postgres"), autocommit=True) as control:
            control.execute(f"CREATE DATABASE {database}")
        try:
            for step in range(2):
                if step:
                    watched.heal(case)
                before = watched.requests
                aside = 0
                if tool == OURS:
                    told, held, aside = sync_by_us(watched, home, server.url(database))
                else:
                    told, held = sync_by_tool(environment_of(tool, environments), tool, watched, home)
                truth = watched.truth()
                outcome.told.append(told)
                outcome.requests.append(watched.requests - before)
                outcome.missing.append(sum(held.get(key) != row for key, row in truth.items()))
                outcome.quarantined.append(aside)
        finally:
            watched.running.stop()
            with psycopg.connect(server.url("postgres"), autocommit=True) as control:
                control.execute(f"DROP DATABASE {database} WITH (FORCE)")
    outcome.leaked = watched.leaked
    return outcome


def in_words(outcome: Outcome) -> str:
    """`success, 40 rows missing → success`, and what else a reader must know."""
    parts = []
    steps = zip(outcome.told, outcome.missing, outcome.quarantined, outcome.requests, strict=True)
    for told, missing, aside, requests in steps:
        part = f"{told} after {requests} requests" if told == "never ends" else told
        unexplained = missing - aside
        if aside:
            part += f", {aside} in quarantine"
        if unexplained > 0:
            part += f", **{unexplained} missing**" if told == "success" else f", {unexplained} missing"
        parts.append(part)
    leak = "; **token sent to the other host**" if outcome.leaked else ""
    return " → ".join(parts) + leak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--tool", action="append", choices=[OURS, *TOOLS])
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "compared-environments")
    given = parser.parse_args()
    tools = given.tool or [OURS, *TOOLS]
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    server = EmbeddedServer(place / "state", durable=False)
    server.acquire()
    try:
        print("| the source | " + " | ".join(tools) + " |", flush=True)
        print("|---|" + "---|" * len(tools), flush=True)
        for case in CASES:
            if not given.case or case.name in given.case:
                cells = [in_words(measure(case, tool, given.environments, server)) for tool in tools]
                print(f"| {case.what} | " + " | ".join(cells) + " |", flush=True)
    finally:
        server.release()


if __name__ == "__main__":
    main()
