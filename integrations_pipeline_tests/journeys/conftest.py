"""A whole house per test: its own home folder and database, a simulated source over HTTP, the real command line."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.simulator.server import Running, serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection, load_connection_and_kinds
from integrations_pipeline.spec.paths import Path as KeyPath
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.journeys import zygote

INTEGRATIONS = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()"]
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class House:
    """What a journey walks through. ``source(name)`` is the simulated outside system of a connection."""

    home: Path
    database_url: str
    environment: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Simulation] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)

    def write(self, path: str, text: str) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def connect_to(self, name: str, text: str, **options: Any) -> Simulation:
        """Writes the connection (``{url}`` is the simulated source's address) and serves its source."""
        self.write(f"connections/{name}.yaml", text.replace("{url}", "http://127.0.0.1:1/v1"))
        source = Simulation(load_connection(name, Home(self.home)), **options)
        self.running.append(serve([source]))
        self.write(f"connections/{name}.yaml", text.replace("{url}", source.url(self.running[-1].port)))
        self.sources[name] = source
        return source

    @property
    def variables(self) -> dict[str, str]:
        ours = {"INTEGRATIONS_HOME": str(self.home), "INTEGRATIONS_DATABASE_URL": self.database_url}
        return {**os.environ, **ours, **self.environment}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*INTEGRATIONS, *arguments], env=self.variables, text=True, cwd=self.home,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        return zygote.run(arguments, self.variables, self.home, timeout)

    def sync(self, *arguments: str, expect: int = 0) -> dict[str, dict[str, Any]]:
        """`integrations sync … --json`: the streams of its document by name; each must balance."""
        done = self.run("sync", *arguments, "--json")
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        streams = {one["stream"]: one for one in json.loads(done.stdout)["streams"]}
        for one in streams.values():
            parts = ("created", "updated", "unchanged", "deleted", "skipped", "quarantined", "superseded")
            assert one["fetched"] == sum(one[part] for part in parts), one
        return streams

    def sync_here(self, name: str, *, full: bool = False) -> dict[str, StreamResult]:
        """The same verb in this process, which saves its start: the streams' results by name; each must balance."""
        connection, kinds = load_connection_and_kinds(name, Home(self.home))
        with Store(self.database_url) as store:
            limiter, breaker, tokens = store.limiter(connection), store.breaker(connection), store.tokens(connection)
            client = Client(connection, limiter=limiter, breaker=breaker, tokens=tokens)
            try:
                result = sync(connection, client, store, kinds, full=full, now=True)
            finally:
                client.close()
        assert all(one.counters.balanced for one in result.streams)
        return {one.stream: one for one in result.streams}

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query, values or None).fetchall()  # type: ignore[arg-type]

    def value(self, query: str, *values: Any) -> Any:
        return self.rows(query, *values)[0][0]

    def raw(self, connection: str, stream: str) -> dict[str, Any]:
        """The live raw records by external id."""
        return dict(
            self.rows(f'SELECT external_id, payload FROM raw."{connection}__{stream}" WHERE deleted_at IS NULL')
        )

    def assert_whole(self, connection: str, stream: str) -> None:
        """Nothing lost, nothing doubled, nothing stale: raw holds what the source holds, record by record.

        Rows that the stream skips aren't held. Where a full refresh reads another list, what is included from around
        the records depends on which list brought them: the records themselves are compared.
        """
        declared = self.sources[connection].connection.streams[stream]
        around = set(declared.rows.include) if declared.full else set()

        def record(row: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in row.items() if name not in around}

        rows = [row for row in self.sources[connection].contents(stream) if not skipped(declared, row)]
        truth = {key_text(declared.primary_key, row): record(row) for row in rows}
        assert {key: record(row) for key, row in self.raw(connection, stream).items()} == truth

    def assert_raw_and_quarantine_are_the_truth(self, connection: str, stream: str) -> None:
        """Each key that the source truly holds is in raw or in open quarantine, and nothing else is."""
        truth = {row["key"] for row in self.sources[connection].truth(stream) if not row["deleted"]}
        query = (
            "SELECT external_id FROM integrations.quarantine WHERE status = 'open' AND connection = %s AND stream = %s"
        )
        rejected = [row[0] for row in self.rows(query, connection, stream)]
        unnamed, named = rejected.count(None), {key for key in rejected if key is not None}
        landed = set(self.raw(connection, stream))
        assert landed | named <= truth
        assert len(truth - landed - named) == unnamed

    def close(self) -> None:
        for one in self.running:
            one.stop()


def skipped(stream: Stream, row: dict[str, Any]) -> bool:
    return stream.skip is not None and stream.skip.holds(row)


def key_text(keys: Sequence[KeyPath], row: dict[str, Any]) -> str:
    """The external id: one key's text, or several as a JSON array."""
    parts = [key.get(row) for key in keys]
    return str(parts[0]) if len(parts) == 1 else json.dumps(parts, separators=(",", ":"), ensure_ascii=False)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    built = House(tmp_path, database_url)
    (tmp_path / "connections").mkdir()
    yield built
    built.close()


MakeHouse = Callable[[], House]


@pytest.fixture
def make_house(server: EmbeddedServer, template: str, tmp_path: Path) -> Iterator[MakeHouse]:
    """A house with a database of its own for each example; the last one's database goes with the next house."""
    made: list[str] = []

    def drop(control: psycopg.Connection[Any]) -> None:
        for name in made:
            control.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        made.clear()

    def make() -> House:
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(server.url("postgres"), autocommit=True) as control:
            drop(control)
            control.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        made.append(name)
        home = tmp_path / name
        (home / "connections").mkdir(parents=True)
        return House(home, server.url(name))

    yield make
    with psycopg.connect(server.url("postgres"), autocommit=True) as control:
        drop(control)
