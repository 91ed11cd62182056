"""What `integrations up` watches: the demo's files, and the embedded database."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.cli.demo import Demo
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.cli.upping import WatchedDatabase
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.simulated import VARIABLE
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import URL_VARIABLE, Store

DEMO = """
connection: NAME
api: {url: http://127.0.0.1:8765/NAME/v1, pagination: {type: single_page}}
streams:
  things: {request: GET /things, records: data, primary_key: id, fields: {id: {type: string, required: true}}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "connections").mkdir()
    return Home(tmp_path)


def write(home: Home, name: str, text: str = DEMO) -> Path:
    file = home.connections / f"{name}.yaml"
    file.write_text(text.replace("NAME", name))
    return file


def ask(demo: Demo, path: str, method: str = "GET") -> Any:
    """The body of an answer, or its status where that is an error."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{demo.address}/{path}", method=method), timeout=30) as got:
            return json.load(got)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_demo_file_is_served_from_when_it_is_saved(home: Home) -> None:
    with Demo(home, records=5) as demo:
        assert demo.see() == []
        file = write(home, "first")
        assert demo.see()[0] == f"simulator: first on {demo.address}"
        assert len(ask(demo, "first/v1/things")["data"]) == 5
        write(home, "second")
        assert demo.see() == [f"simulator: second on {demo.address}"], "the first is as it was"
        file.write_text(file.read_text().replace("GET /things", "GET /thingummies"))
        assert demo.see() == [f"simulator: first on {demo.address}"]
        assert len(ask(demo, "first/v1/thingummies")["data"]) == 5
        assert ask(demo, "first/v1/things") == 404
        file.unlink()
        assert demo.see() == [] and ask(demo, "first/v1/thingummies") == 404
        assert len(ask(demo, "second/v1/things")["data"]) == 5


def test_an_edit_that_the_source_does_not_see_keeps_its_contents(home: Home) -> None:
    home.models.mkdir()
    (home.models / "x.yaml").write_text("kind: x\nfields: {y: {type: string}}\n")
    file = write(home, "first")
    with Demo(home, records=5) as demo:
        demo.see()
        ask(demo, "_simulator/first/things/insert", "POST")
        file.write_text(file.read_text() + "every: 15m\n")
        assert demo.see() == []
        file.write_text(file.read_text().replace("primary_key: id,", "primary_key: id, map: {to: x, fields: {y: id}},"))
        assert demo.see() == []
        file.write_text("connection: first\nevery: soon\n")
        said = "connections/first.yaml can't be used; `integrations check` says why (the others work)"
        assert demo.see() == [said], "and its source goes on"
        assert len(ask(demo, "first/v1/things")["data"]) == 6


def test_a_source_that_cannot_be_served_is_told_once(home: Home) -> None:
    write(
        home,
        "first",
        "secrets: {token: {env: NO_SUCH_VARIABLE}}\n" + DEMO.replace("v1,", "v1, auth: {type: bearer, token: $token},"),
    )
    write(home, "second")
    with Demo(home, records=5) as demo:
        told = demo.see()
        assert told[0] == f"simulator: second on {demo.address}"
        assert "first is not served" in told[-1] and "NO_SUCH_VARIABLE" in told[-1]
        assert demo.see() == []
        second = write(home, "second", DEMO.replace("v1,", "v1, auth: {type: bearer, token: $t},"))
        second.write_text(second.read_text() + "secrets: {t: {env: NO_SUCH_VARIABLE}}\n")
        assert "second is not served" in demo.see()[-1]
        assert len(ask(demo, "second/v1/things")["data"]) == 5


def test_a_terminal_that_is_told_where_the_simulator_is_syncs_the_demo_there(
    home: Home, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "first")
    monkeypatch.setenv("INTEGRATIONS_HOME", str(home.root))
    monkeypatch.setenv(URL_VARIABLE, database_url)
    with Demo(home, records=5) as demo:
        demo.see()
        monkeypatch.setenv(VARIABLE, demo.address)
        with opened("first") as at:
            assert at.connection.api.url == f"{demo.address}/first/v1"
            assert sum(len(page.rows) for page in at.client.pages("things")) == 5


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home's state folder, which PostgreSQL's account may reach."""
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    folder = Path(tempfile.mkdtemp(prefix="integrations-watch-"))
    folder.chmod(0o711)
    yield folder / ".integrations"
    shutil.rmtree(folder)


def test_a_killed_database_is_told_whoever_brought_it_back(state: Path) -> None:
    server = EmbeddedServer(state, durable=False)
    server.acquire()
    try:
        watched = WatchedDatabase(Home(state.parent))
        assert watched.see() is None
        for someone_else_is_first in (False, True):
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            if someone_else_is_first:
                other = EmbeddedServer(state, durable=False)
                other.acquire()
                other.release()
            assert watched.see() == "database: it was gone, and is back"
            assert watched.see() is None
    finally:
        server.release()


HOOKED = (
    DEMO
    + """
webhook:
  verify: {type: standard_webhooks, secret: <subscription.key>}
  events: {thing.*: {upsert: things, record: data}}
  subscribe: {request: POST /hooks, body: {target: <webhook_url>}, keep: {id: id, key: key}}
  unsubscribe: DELETE /hooks/<subscription.id>
"""
)


def test_a_demo_source_is_subscribed_to_as_often_as_it_begins_anew(home: Home, database_url: str) -> None:
    with Demo(home, records=5) as demo, Store(database_url, state=home.state) as store:
        file = write(home, "first", HOOKED)
        demo.see()
        address = "http://127.0.0.1:1"
        assert demo.subscribe(store, address) == [
            f"simulator: first tells {address}/webhooks/first of its changes",
        ]
        assert demo.subscribe(store, address) == []
        (told,) = ask(demo, "_simulator/first/webhooks")["subscriptions"]
        assert told == {"url": f"{address}/webhooks/first", "event": None}
        file.write_text(file.read_text().replace("single_page", "link_body, read: next"))
        demo.see()
        assert ask(demo, "_simulator/first/webhooks")["subscriptions"] == []
        assert demo.subscribe(store, address)
        (kept,) = store.subscriptions.of("first")
        assert kept.url == f"{address}/webhooks/first"
        store.prepare(load_connection("first", home), {})
        store.drop("first", keep_data=True)
        demo.running.application.simulations["first"].telling.subscriptions.clear()
        demo.strangers.add("first")
        assert demo.subscribe(store, address) == []
