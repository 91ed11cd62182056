"""The house of the journeys, for the catalogue's connectors; quicker, since they ask the same of every connector."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from integrations_pipeline.cli.app import app
from integrations_pipeline_tests.journeys.conftest import House


class HouseInside(House):
    """Gives its commands inside this process: a new one would spend most of its time on imports."""

    def run(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, arguments, env=self.variables, catch_exceptions=False)
        return subprocess.CompletedProcess(list(arguments), done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    built = HouseInside(tmp_path, database_url)
    (tmp_path / "connections").mkdir()
    yield built
    built.close()
