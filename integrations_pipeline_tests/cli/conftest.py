"""A home with one connection, synced against a scripted source, and the command line on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integrations_pipeline.cli import main
from integrations_pipeline_tests.client.source import Reply, Source
from integrations_pipeline_tests.sync.conftest import Bench

Command = Callable[..., Any]


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    with Source(lambda seen: Reply(status=500)) as source:
        yield Bench(database_url, source)


@pytest.fixture
def command(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command; its document, or its text, and the exit code where it isn't 0. ``acme`` is as the bench says."""
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", bench.database_url)
    (tmp_path / "connections").mkdir()

    def command(*words: str, expect: int = 0) -> Any:
        pages = {"type": "cursor", "read": "next", "send": "after"}
        api = {"url": bench.source.url, "pagination": pages, "retry": {"attempts": 1}}
        document = {"connection": "acme", "api": api, "streams": bench.streams}
        (tmp_path / "connections" / "acme.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        assert ended.value.code == expect, said
        return json.loads(said.out) if "--json" in words else said.out + said.err

    return command
