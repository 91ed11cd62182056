"""Secrets that sources repeat where nobody expects it: in good answers, in what a write returns, in webhooks.

Whatever was shown to a source, or proves that it is the source, comes to lie nowhere here: not in raw or canonical
records, the outbox, conflicts, the inbox, dead letters, deliveries; nor in what people and programs are shown of them.
"""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from integrations_pipeline.gateway.application import whole
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.push import push
from integrations_pipeline.sync.reaching import client_of
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.gateway.conftest import Door, serving
from integrations_pipeline_tests.journeys.searching import everything_in, files_below, leaks, pages_of
from integrations_pipeline_tests.journeys.test_canary import COMMANDS
from integrations_pipeline_tests.orchestration.conftest import House
from integrations_pipeline_tests.orchestration.conftest import house as desk  # noqa: F401
from integrations_pipeline_tests.orchestration.conftest import template as template  # with Dagster's tables
from integrations_pipeline_tests.sync.provider import Provider

SECRETS = {
    "CRM_CLIENT": "planted-client/77+b1c2==",
    "CRM_REFRESH": "planted-refresh-c0ffee11",
    "CRM_APP": "planted-app-&9f31",
    "CRM_HOOK": "planted-hook-3b0d/44",
    "FORM_HOOK": "planted-form-8c1e+20",
    "SIGNING": b64encode(b"planted-signing-5a7f0b91").decode(),
    "RECEIVER_KEY": "planted-address-key-61d0",
    "ALERT_KEY": "planted-alert-key-90ab",
    "INTEGRATIONS_TOKEN": "planted-house-token-7f4e",
}
CRM = """
connection: crm
log_bodies: all
secrets: {client: {env: CRM_CLIENT}, again: {env: CRM_REFRESH}, app: {env: CRM_APP}, hook: {env: CRM_HOOK}}
expect: {down_under: 1m, rejected: under 1%}
alerts: [{env: CRM_ALERTS}]
api:
  url: URL
  auth: {type: oauth2_refresh, token_url: URL/oauth/token, client_id: us, client_secret: $client, refresh_token: $again}
  headers: {X-App-Key: $app}
  pagination: {type: single_page}
  retry: {attempts: 1}
streams:
  people:
    request: GET /people
    records: items
    primary_key: id
    version: version
    get: GET /people/<external_id>
    fields: {id: {type: string, required: true}, version: {type: integer, required: true}, size: {type: integer}}
    map: {to: person, fields: {name: name, email: email, note: note}}
    write:
      fields: [name, email, note]
      create: POST /people
      update: PATCH /people/<external_id>
      conflict: {default: local_wins, note: review}
webhook:
  verify: {type: hmac, signature: header X-Hook, signed: <body>, secret: $hook}
  event_type: type
  event_id: header X-Event
  events: {person.*: {upsert: people, record: person}}
"""
FORMS = """
connection: forms
secrets: {hook: {env: FORM_HOOK}}
api: {url: URL, pagination: {type: single_page}}
streams: {entries: {request: GET /entries, records: items, primary_key: id}}
webhook:
  verify: {type: shared_secret, signature: query token, secret: $hook}
  methods: [POST, GET]
  event_type: type
  events: {"**": {sync: entries}}
"""
PERSON = """
kind: person
fields: {name: {type: string}, email: {type: string}, note: {type: string}}
on_change: [{url: {env: RECEIVER}, secret: {env: SIGNING}}]
"""
OUTPUTS = """
push crm --debug
push crm --json
sync crm --debug
plan crm --json
plan crm
status --json
status
why crm people p1 --json
why crm people p1
why crm people p2
outbox list
outbox show 2 --json
outbox show 3
conflicts list --json
conflicts show 1
conflicts show 1 --json
inbox list --json
inbox show 1
inbox show 3 --json
delivery list --json
delivery show 1
delivery show 2 --json
quarantine list --json
quarantine show 1
quarantine show 2 --json
drift list --json
alerts list --json
alerts test
alerts send --json
"""
PAGES = (
    "/", "/quarantine", "/conflicts", "/outbox", "/dead-letters", "/metrics", "/why/crm/people/p1",
    "/why/forms/entries/e1", "/mapping/crm/people", "/data/person",
)  # fmt: skip


class Talkative(Provider):
    """Repeats what it was shown in all its answers. ``granted``: its tokens; ``mood``: what becomes of writes."""

    def __init__(self) -> None:
        super().__init__()
        self.granted: list[str] = []
        self.mood = ""

    def __call__(self, seen: Seen) -> Reply:
        if seen.path == "/oauth/token":
            number = len(self.granted)
            self.granted += [f"granted-access-{number}-e7b2", f"granted-refresh-{number}-d91c"]
            access, refresh = self.granted[-2:]
            return Reply({"access_token": access, "refresh_token": refresh, "expires_in": 3600})
        if seen.path == "/entries":
            return Reply({"items": []})
        said = self.said(seen)
        match self.mood if seen.method != "GET" else "":
            case "refuses":
                return Reply({"error": said, "headers": dict(seen.headers)}, 422, {"X-Request-Id": said["app"]})
            case "moves":
                return Reply(None, 307, {"Location": f"{seen.path}?{said['url']}"})
            case "breaks":
                return Reply(f"<html><body>{said['token']} {said['url']}</body></html>".encode(), 500)
        with self.guard:
            for person in self.people.values():
                person |= {"you_sent": said, "size": f"{said['token']} wide" if person["name"] == "Odd" else 7}
            return self.done(seen)

    def said(self, seen: Seen) -> dict[str, str]:
        token, app = seen.headers["Authorization"].removeprefix("Bearer "), seen.headers["X-App-Key"]
        hook = os.environ["CRM_HOOK"]
        return {
            "token": token,
            "app": app,
            "line": f"Authorization: Bearer {token}\nX-App-Key: {app}",
            "url": f"key={quote(app, safe='')}&hook={quote(hook, safe='').lower()}&t={token}",
            "nested": json.dumps({"hook": hook, "app": app}),
        }


class Receiver:
    """Takes what people are told, and refuses what is told onward; repeats all of it."""

    def __call__(self, seen: Seen) -> Reply:
        taken = 200 if SECRETS["ALERT_KEY"] in seen.path else 500
        return Reply({"you_sent": [seen.path, dict(seen.headers)]}, taken)


@pytest.fixture
def town(desk: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, Talkative, Source]]:  # noqa: F811
    provider = Talkative()
    provider.add(name="Anna", email="anna@example.com", note="first")
    provider.add(name="Odd", email="odd@example.com", note="odd")
    with Source(provider) as source, Source(Receiver()) as receiver:
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RECEIVER", f"{receiver.url}/{SECRETS['RECEIVER_KEY']}")
        monkeypatch.setenv("CRM_ALERTS", f"json://{urlsplit(receiver.url).netloc}/{SECRETS['ALERT_KEY']}")
        (desk.home.root / "models" / "person.yaml").write_text(PERSON)
        for text in (CRM, FORMS):
            desk.write(text.replace("URL", source.url))
        yield desk, provider, receiver


def edit(house: House, statement: str, *values: Any) -> None:
    with psycopg.connect(house.url, autocommit=True) as session:
        session.execute(statement, values)  # type: ignore[arg-type]


def launched(house: House, name: str, **config: Any) -> str:
    """A job's run; its events as text."""
    found = house.definitions().resolve_job_def(name)
    done = found.execute_in_process(instance=house.instance, run_config={"ops": config}, raise_on_error=False)
    return "\n".join(str(event) for event in done.all_events)


def pushed(house: House) -> None:
    connection, kinds = load_connection_and_kinds("crm", house.home)
    with Store(house.url) as store:
        client = client_of(connection, store, Priority.EVENT)
        try:
            push(connection, client, store, kinds)
        finally:
            client.close()


def walked(house: House, provider: Talkative) -> str:
    """Reads, and writes that succeed, move and break: a row in quarantine, a parked create, an answer that landed."""
    texts = [str(event) for event in house.run("crm/people", "forms/entries").all_events]
    for mood in ("", "moves", "breaks"):
        provider.mood = mood
        edit(house, "UPDATE canonical.person SET email = %s WHERE name = 'Anna'", f"{mood or 'new'}@example.com")
        edit(house, "INSERT INTO canonical.person (id, name, note) VALUES (gen_random_uuid(), %s, 'ours')", f"B{mood}")
        pushed(house)
    provider.mood = "refuses"
    edit(house, "UPDATE integrations.outbox SET next_try_at = NULL")
    edit(house, "UPDATE canonical.person SET note = 'ours' WHERE name = 'Anna'")
    texts.append(launched(house, "push", send_changes={"config": {"connection": "crm"}}))
    texts.append(launched(house, "deliver"))
    return "\n".join(texts)


def told_by_webhooks(house: House) -> None:
    """Deliveries that hold the very secret which proves them, and our own tokens."""
    hook, app, form = SECRETS["CRM_HOOK"], SECRETS["CRM_APP"], SECRETS["FORM_HOOK"]
    person = {"id": "p1", "version": 90, "name": "Anna", "email": "hook@example.com", "note": f"theirs, {app}"}
    whole_one = {"type": "person.updated", "auth": {"token": hook}, "person": {**person, "you_sent": f"Bearer {app}"}}
    broken = {"type": "person.updated", "by": hook, "person": {**person, "id": "p7", "version": f"soon {hook}"}}
    door = Door(house.home.root, house.url)
    with Store(house.url) as store, serving(door, whole(Home(house.home.root), store)):
        for number, body in enumerate((whole_one, broken)):
            given = json.dumps(body).encode()
            signature = hmac.new(hook.encode(), given, "sha256").hexdigest()
            headers = {"X-Hook": signature, "X-Event": f"e{number}", "Authorization": f"Bearer {hook}"}
            assert door.send("crm", given, headers, query=f"?token={quote(hook)}")[0] == 202
        query = f"?type=made&id=e1&token={quote(form, safe='')}"
        assert door.send("forms", b"", method="GET", query=query)[0] == 202
        assert door.send("forms", b"", method="GET", query=query.replace("token=", "token=x"))[0] == 401


def commands(folder: Path) -> str:
    """What the terminal says, failures included."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *OUTPUTS.strip().splitlines()], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "INTEGRATIONS_LOG": "debug"}, timeout=240,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_what_was_shown_to_a_source_comes_to_lie_nowhere(
    town: tuple[House, Talkative, Source],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    house, provider, receiver = town
    texts = walked(house, provider)
    told_by_webhooks(house)
    texts += launched(house, "receive", apply_events={"config": {"connection": "crm"}})
    said = commands(tmp_path)
    monkeypatch.delenv("INTEGRATIONS_TOKEN")  # so that the pages are open to this machine
    places = {
        "Dagster's events": texts, "terminal": said, "log": caplog.text, **dict(everything_in(house.url)),
        **dict(pages_of(house.url, house.home.root, PAGES)), **dict(files_below(tmp_path)),
    }  # fmt: skip
    alerts = [seen for seen in receiver.seen if SECRETS["ALERT_KEY"] in seen.path]
    onward = [seen for seen in receiver.seen if seen not in alerts]
    places |= {seen.path[:1] + str(at): seen.body.decode() for at, seen in enumerate((*alerts, *onward))}
    database = urlsplit(house.url).password or ""
    assert not leaks(places, {*SECRETS.values(), *provider.granted, database})
    assert len(alerts) > 1 and len(onward) > 1 and "***" in places["raw.crm__people"]
    for table in ("inbox", "outbox", "conflict", "quarantine", "dead_letter", "decision", "http_log", "alert"):
        assert "***" in places[f"integrations.{table}"], table
