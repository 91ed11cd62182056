"""An edit through the gateway is at its source without anybody's help, and can be followed there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.data import Data
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.conftest import LocalLimiter
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.gateway.conftest import Door, serving, until
from integrations_pipeline_tests.gateway.test_data import Answer, call

EDITS = 12
THING = {"kind": "thing", "fields": {"name": {"type": "string"}, "count": {"type": "integer"}}}
STREAM = {
    "request": "GET /things",
    "records": "items",
    "primary_key": "id",
    "map": {"to": "thing", "fields": {"name": "name", "count": "count"}},
    "write": {
        "fields": ["name", "count"],
        "create": "POST /things",
        "update": "PATCH /things/<external_id>",
        "delete": "DELETE /things/<external_id>",
        "create_when": {"name": {"present": True}},
    },
}


class Hub:
    """Sources that hold things, and the gateway before their hub."""

    def __init__(self, door: Door, store: Store):
        self.door, self.store = door, store
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.held: dict[str, threading.Event] = {}

    def add(self, name: str, source: Source) -> None:
        """A connection whose things were read once."""
        self.rows[name] = {}
        source.answer = lambda seen: self.answer(name, seen)
        api = {"url": source.url, "pagination": {"type": "single_page"}, "retry": {"attempts": 1}}
        self.door.write(name, json.dumps({"connection": name, "api": api, "streams": {"things": STREAM}}))
        connection, kinds = load_connection_and_kinds(name, Home(self.door.home))
        client = Client(connection, limiter=LocalLimiter(), secrets={})
        assert sync(connection, client, self.store, kinds).status == "succeeded"
        client.close()

    def answer(self, name: str, seen: Seen) -> Any:
        rows, key = self.rows[name], seen.path.split("/")[-1]
        if seen.method == "GET":
            return {"items": list(rows.values())}
        if name in self.held:
            self.held[name].wait(60)
        if seen.method == "DELETE":
            return Reply({}) if rows.pop(key, None) else Reply(status=404)
        key = f"{name}{len(rows)}" if seen.method == "POST" else key
        rows[key] = {"id": key, **rows.get(key, {}), **seen.json}
        return rows[key]

    def call(self, method: str, path: str, document: Any = None) -> Answer:
        found = call(self.door.port, method, path, document)
        assert found.status < 300, found.body
        return found

    def counts(self) -> list[int]:
        return [row["count"] for rows in self.rows.values() for row in list(rows.values())]

    def names(self, source: str) -> list[str]:
        return [row["name"] for row in list(self.rows[source].values())]

    def became(self, answer: Answer) -> str:
        return str(self.call("GET", answer.body["change"]["url"]).body["status"])


@pytest.fixture
def sources() -> Iterator[list[Source]]:
    with Source(lambda seen: Reply(status=500)) as one, Source(lambda seen: Reply(status=500)) as other:
        yield [one, other]


@pytest.fixture
def hub(tmp_path: Path, database_url: str, sources: list[Source]) -> Iterator[Hub]:
    for name in ("connections", "models"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "thing.yaml").write_text(json.dumps(THING))
    door = Door(tmp_path, database_url)
    with Store(database_url) as store:
        made = Hub(door, store)
        made.add("a", sources[0])
        made.add("b", sources[1])
        doors = Doors(Home(tmp_path))
        data = Data(doors, store, Access(None, ""), PushLane(doors, store))
        with serving(door, Gateway(doors, store.connect, data=data)):
            yield made


def test_an_edit_is_at_its_sources_at_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    """The figure that is printed is what an idle machine is judged by; the bound here holds on a busy one."""
    made = hub.call("POST", "/data/thing", {"name": "new", "count": 0})
    until(lambda: hub.became(made) == "done")
    seconds = []
    for count in range(1, EDITS):
        began = time.monotonic()
        changed = hub.call("PATCH", f"/data/thing/{made.body['data']['id']}", {"count": count})
        until(lambda expected=count: hub.counts() == [expected] * 2)
        seconds.append(time.monotonic() - began)
    with capsys.disabled():
        print(f"\npush lane: median {median(seconds):.3f} s, slowest {max(seconds):.3f} s of {len(seconds)} edits")
    assert median(seconds) < 10
    until(lambda: hub.became(changed) == "done")
    gone = hub.call("DELETE", f"/data/thing/{made.body['data']['id']}")
    until(lambda: hub.became(gone) == "done")
    assert hub.rows == {"a": {}, "b": {}}


def test_a_source_that_does_not_answer_holds_up_its_own_only(hub: Hub) -> None:
    """What is edited meanwhile goes out after it."""
    hub.held["a"] = threading.Event()
    first = hub.call("POST", "/data/thing", {"name": "one"})
    until(lambda: hub.names("b") == ["one"])
    hub.call("PATCH", f"/data/thing/{first.body['data']['id']}", {"name": "two"})
    until(lambda: hub.names("b") == ["two"])
    assert hub.rows["a"] == {}
    assert hub.became(first) == "pending"
    hub.held["a"].set()
    until(lambda: hub.names("a") == ["two"])
    until(lambda: hub.became(first) == "done")
