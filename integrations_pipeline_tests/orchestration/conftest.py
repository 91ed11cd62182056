"""A home with connections whose sources are simulated, and a Dagster instance on the same fresh database."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster
import psycopg
import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult
from dagster._core.instance import InstanceRef

from integrations_pipeline.orchestration.building import build
from integrations_pipeline.orchestration.storage import HouseStorage
from integrations_pipeline.simulator.server import Running, serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "template_dagster"

CRM = """
connection: crm
description: The sales team's CRM
every: 15m
off_peak: 22:00-06:00 Europe/Berlin
owner: team:sales
tags: [team=sales, demo]
api:
  url: URL
  retry: {attempts: 1}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 100}}
streams:
  contacts:
    description: People we talk to
    request: GET /contacts
    records: results
    primary_key: id
    cursor: {field: updated, send: since, order: asc}
    deletes: {snapshot: 7d}
    fields:
      id: {type: string, required: true}
      email: {type: string, format: email}
      name: {type: string, max_length: 80}
      updated: {type: timestamp, required: true}
    map:
      to: customer
      match: [email]
      fields: {email: {from: email, apply: [trim, lower]}, name: name}
  deals:
    every: 7m
    request: GET /deals
    records: results
    primary_key: id
    fields: {id: {type: string, required: true}, title: {type: string}}
"""


@pytest.fixture(scope="session")
def template(server: EmbeddedServer, template: str) -> str:
    """The migrated template with Dagster's tables, so that no test waits for them to be made."""
    with Path(os.environ["INTEGRATIONS_TEST_FOLDER"], "dagster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with psycopg.connect(server.url("postgres"), autocommit=True) as session:
            if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
                session.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE {template} STRATEGY FILE_COPY")
                with environment(server.url(TEMPLATE)):
                    HouseStorage.from_config_value(None, {})
    return TEMPLATE


@contextmanager
def environment(url: str) -> Iterator[None]:
    before = os.environ.get("INTEGRATIONS_DATABASE_URL")
    os.environ["INTEGRATIONS_DATABASE_URL"] = url
    try:
        yield
    finally:
        os.environ.pop("INTEGRATIONS_DATABASE_URL")
        if before is not None:
            os.environ["INTEGRATIONS_DATABASE_URL"] = before


@dataclass
class House:
    """A home, its sources and a Dagster instance, as `integrations up` has them, in this process."""

    home: Home
    url: str
    instance: DagsterInstance
    running: list[Running] = field(default_factory=list)
    simulations: dict[str, Simulation] = field(default_factory=dict)

    def write(self, text: str, file: str = "") -> None:
        name = text.split("connection: ", 1)[1].split("\n", 1)[0]
        (self.home.connections / (file or f"{name}.yaml")).write_text(text)

    def add(self, text: str, *, port: int = 0, **options: Any) -> Simulation:
        """A connection whose URL is that of its simulation."""
        options = {"records": 30, **options}
        self.write(text.replace("URL", "https://api.example.com/v3"))
        name = text.split("connection: ", 1)[1].split("\n", 1)[0]
        simulation = Simulation(load_connection(name, self.home), **options)
        self.running.append(serve([simulation], port=port))
        self.simulations[name] = simulation
        self.write(text.replace("URL", simulation.url(self.running[-1].port)))
        return simulation

    def definitions(self) -> Definitions:
        return build(self.home)

    def run(self, *keys: str, job: str = "sync", tags: dict[str, str] | None = None) -> ExecuteInProcessResult:
        """A run of the job, in this process; of the assets named like crm/contacts, else of all."""
        selection = [dagster.AssetKey(key.split("/")) for key in keys] or None
        found = self.definitions().resolve_job_def(job)
        return found.execute_in_process(
            instance=self.instance, asset_selection=selection, raise_on_error=False, tags=tags
        )

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as session:
            return session.execute(query, values).fetchall()


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", database_url)
    root = tmp_path / "home"
    (root / "connections").mkdir(parents=True)
    shutil.copytree(ROOT / "models", root / "models")
    monkeypatch.setenv("INTEGRATIONS_HOME", str(root))
    (tmp_path / "dagster").mkdir()
    reference = InstanceRef.from_dir(str(tmp_path / "dagster"), config_dir=str(ROOT))
    with DagsterInstance.from_ref(reference) as instance:
        found = House(Home(root), database_url, instance)
        yield found
        for one in found.running:
            one.stop()


@pytest.fixture
def crm(house: House) -> House:
    """The house with one connection of two streams."""
    house.add(CRM)
    return house
