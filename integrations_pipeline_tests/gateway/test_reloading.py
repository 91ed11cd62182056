"""Files that are saved, by whomever, and Dagster's web server, which is asked to read them anew."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.gateway import reloading
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.reloading import Reloading
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.gateway.conftest import Door, connection, serving, until

RELOADED = {"data": {"reloadWorkspace": {"__typename": "Workspace"}}}
REFUSED = {"data": {"reloadWorkspace": {"__typename": "PythonError", "message": "not now"}}}


class Dagster:
    """Answers as its web server does; ``ready`` holds answers back, ``answers`` are given first."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()
        self.answers: list[Any] = []

    def __call__(self, seen: Seen) -> Any:
        assert seen.path == "/graphql" and "reloadWorkspace" in seen.json["query"]
        self.ready.wait(60)
        return self.answers.pop(0) if self.answers else RELOADED


@pytest.fixture
def dagster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Dagster, Source]]:
    script = Dagster()
    with Source(script) as source:
        monkeypatch.setenv("INTEGRATIONS_UI_URL", source.url + "/")
        yield script, source
        script.ready.set()


def test_a_file_saved_by_anybody_is_read_by_dagster(
    tmp_path: Path, database_url: str, dagster: tuple[Dagster, Source]
) -> None:
    (tmp_path / "connections").mkdir()
    door, (script, source) = Door(tmp_path, database_url), dagster
    door.write("first", connection("first", {"verify": {"type": "none"}}))
    doors = Doors(Home(tmp_path), saved=Reloading().want)
    with serving(door, Gateway(doors, Store(database_url).connect)):
        assert source.seen == [], "what was there at the start is known to both"
        script.ready.clear()
        door.write("second", connection("second", {"verify": {"type": "none"}}))
        until(lambda: len(source.seen) == 1)
        for name in ("third", "fourth"):  # while Dagster reads
            door.write(name, connection(name, {"verify": {"type": "none"}}))
            until(lambda name=name: door.send(name, b"{}")[0] == 202)
        script.ready.set()
        until(lambda: len(source.seen) == 2)
        door.write("second", "connection: second\nnonsense: [")
        until(lambda: len(source.seen) == 3)  # Dagster shows it as broken


def test_a_dagster_that_is_just_starting_is_asked_again(
    dagster: tuple[Dagster, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    script, source = dagster
    monkeypatch.setattr(reloading, "WAIT_SECONDS", 0.01)
    script.answers = [Reply("starting", 503), Reply("<html>", 200), REFUSED]
    Reloading().want()
    until(lambda: len(source.seen) == 4)


def test_without_an_address_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTEGRATIONS_UI_URL", raising=False)
    monkeypatch.setattr(reloading, "reload_at", lambda url: pytest.fail(url))
    wanted = Reloading()
    wanted.want()
    until(lambda: not wanted._asking)
