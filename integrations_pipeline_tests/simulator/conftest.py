"""Sources served over real HTTP, and the grammar's own examples as connections."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from integrations_pipeline.simulator.server import Running, serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.yaml_text import parse_document

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "integrations_pipeline_tests" / "spec" / "grammar_examples"


@dataclass
class Source:
    """A simulation that is being served."""

    simulation: Simulation
    port: int
    session: requests.Session

    @property
    def url(self) -> str:
        return self.simulation.url(self.port)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **arguments)

    def control(self, path: str, **arguments: Any) -> requests.Response:
        """A request to the control door; with ``json`` a POST."""
        url = f"http://127.0.0.1:{self.port}/_simulator/{self.simulation.name}/{path}"
        return self.session.request("POST" if "json" in arguments else "GET", url, timeout=30, **arguments)

    def truth(self, stream: str) -> list[dict[str, Any]]:
        return list(self.simulation.contents(stream))


Serve = Callable[..., Source]


@pytest.fixture
def served() -> Iterator[Serve]:
    """Serves a connection, given as YAML or as a value, for one test."""
    running: list[Running] = []

    def start(connection: str | Connection, **options: Any) -> Source:
        simulation = Simulation(parsed(connection), **options)
        running.append(serve([simulation]))
        session = requests.Session()
        session.trust_env = False
        return Source(simulation, running[-1].port, session)

    yield start
    for one in running:
        one.stop()


def parsed(connection: str | Connection) -> Connection:
    if isinstance(connection, Connection):
        return connection
    document = parse_document(connection, "test.yaml")
    assert not document.problems
    return Connection.model_validate(document.data)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The grammar's examples in a home of their own."""
    root = tmp_path_factory.mktemp("home")
    shutil.copytree(EXAMPLES, root, dirs_exist_ok=True)
    (root / "connections" / "fx.yaml").write_text("connection: fx\nuses: frankfurter\nsettings: {base: USD}\n")
    return Home(root)


@pytest.fixture
def example(home: Home) -> Callable[[str], Connection]:
    return lambda name: load_connection(name, home)
