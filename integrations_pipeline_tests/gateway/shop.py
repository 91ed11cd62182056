"""A shop with contacts and orders over real HTTP, its signed webhooks, and a gateway before a real inbox."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.signatures import sign
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.data import Data
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.lane import FastLane
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.receive import Received, Receiver
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.gateway.conftest import Door, serving

SECRET = "k"
VERIFY = {
    "type": "hmac",
    "secret": "$signing",
    "signature": "header Stripe-Signature",
    "format": "t=<timestamp>,v1=<signature>",
    "signed": "<timestamp>.<body>",
}
EVENTS = {
    "contact.deleted": {"delete": "contacts", "key": "id"},
    "contact.*": {"upsert": "contacts", "record": "contact"},
    "order.deleted": {"delete": "orders", "key": "id"},
    "order.*": {"upsert": "orders", "record": "order"},
    "ticket.*": {"fetch": "tickets", "key": "id"},
    "all.changed": {"sync": "contacts"},
}
STREAMS: dict[str, Any] = {
    "contacts": {  # versions of their own
        "request": "GET /contacts",
        "records": "items",
        "primary_key": "id",
        "cursor": {"field": "updated", "send": "since"},
        "deletes": {"snapshot": "7d"},
        "fields": {"id": {"type": "string", "required": True}, "updated": {"type": "timestamp", "required": True}},
        "map": {"to": "customer", "fields": {"email": "email", "name": "name"}},
    },
    "orders": {
        "request": "GET /orders",
        "records": "items",
        "primary_key": "id",
    },  # none: ordered by when they were read
    "tickets": {
        "request": "GET /tickets",
        "records": "items",
        "primary_key": "id",
        "get": "GET /tickets/<external_id>",
        "cursor": {"field": "updated", "send": "since"},
    },
}
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def at(minutes: float) -> str:
    """A time of the source, some minutes after the tests' beginning."""
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


class Shop:
    """The source's records, what it sends, and what has come of it here."""

    def __init__(self, source: Source, door: Door, store: Store):
        self.source, self.door, self.store = source, door, store
        self.tables: dict[str, dict[str, dict[str, Any]]] = {"contacts": {}, "orders": {}, "tickets": {}}
        self.fails: dict[str, int] = {}
        self.ids = itertools.count(1)
        source.answer = self.answer

    def answer(self, seen: Seen) -> Any:
        _, table, *key = seen.path.split("/")
        if key:
            if status := self.fails.get(key[0]):
                return Reply(status=status)
            found = self.tables[table].get(key[0])
            return found if found is not None else Reply(status=404)
        if status := self.fails.get(table):
            return Reply(status=status)
        since = seen.one("since", "")
        return {"items": [row for row in self.tables[table].values() if row.get("updated", "9") >= since]}

    def write(self, events: Mapping[str, Any] = EVENTS, **hook: Any) -> None:
        """The connection's file, with the webhook as it is meant."""
        pages = {"type": "cursor", "read": "next", "send": "after"}
        document = {
            "connection": "acme",
            "every": "15m",
            "secrets": {"signing": {"env": "ACME_SIGNING"}},
            "api": {"url": self.source.url, "pagination": pages, "retry": {"attempts": 1}},
            "streams": STREAMS,
            "webhook": {
                "verify": VERIFY, "event_type": "type", "event_id": "event", "order_by": "at", "events": events, **hook
            },
        }  # fmt: skip
        self.door.write("acme", json.dumps(document))

    def send(self, type: str, *, name: str | None = None, minutes: float | None = None, **body: Any) -> dict[str, Any]:
        """One signed delivery, accepted; ``minutes`` is its place in the source's order."""
        said = {"event": name or f"evt_{next(self.ids)}", "type": type, **body}
        if minutes is not None:
            said["at"] = int((START + timedelta(minutes=minutes)).timestamp())
        self.deliver(said)
        return said

    def deliver(self, said: Mapping[str, Any]) -> None:
        hook = load_connection_and_kinds("acme", Home(self.door.home))[0].webhook
        assert hook is not None
        sent = Delivery("POST", "/webhooks/acme", [], json.dumps(said).encode(), "json")
        signed = sign(hook, [Secret(SECRET)], sent, datetime.now(UTC))
        assert self.door.send("acme", signed.body, signed.headers)[0] == 202

    def connection(self) -> Connection:
        return load_connection_and_kinds("acme", Home(self.door.home))[0]

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, Client, Any]]:
        connection, kinds = load_connection_and_kinds("acme", Home(self.door.home))
        client = Client(connection, limiter=self.store.limiter(connection), secrets={"signing": Secret(SECRET)})
        try:
            yield connection, client, kinds
        finally:
            client.close()

    def receive(self, run_id: UUID | None = None) -> Received:
        """All that is due; its counters balance."""
        with self.opened() as (connection, client, kinds):
            found = Receiver(connection, client, self.store, kinds).run(run_id or uuid4())
        assert all(one.counters.balanced for one in found.streams.values())
        return found

    def poll(self, *streams: str, full: bool = False) -> Any:
        with self.opened() as (connection, client, kinds):
            return sync(connection, client, self.store, kinds, streams=streams, full=full, now=True)

    def held(self, table: str) -> dict[str, dict[str, Any]]:
        """Live raw records by key."""
        rows = self.door.rows(f"SELECT external_id, payload FROM raw.acme__{table} WHERE deleted_at IS NULL")
        return {row["external_id"]: row["payload"] for row in rows}

    def outcomes(self) -> list[str]:
        """What became of each event, in order of arrival: its outcome, else its status."""
        rows = self.door.rows("SELECT coalesce(outcome, status) AS became FROM integrations.inbox ORDER BY id")
        return [row["became"] for row in rows]

    def make_due(self) -> None:
        """As if the time to try again had come."""
        with self.store.borrow() as session:
            session.execute(
                "UPDATE integrations.inbox SET next_try_at = NULL, leased_until = leased_until - '1h'::interval"
            )


@pytest.fixture
def shop(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("ACME_SIGNING", SECRET)
    for name in ("connections", "models"):
        (tmp_path / name).mkdir()
    kind = {"kind": "customer", "fields": {"email": {"type": "string"}, "name": {"type": "string"}}}
    (tmp_path / "models" / "customer.yaml").write_text(json.dumps(kind))
    door = Door(tmp_path, database_url)
    with Source(lambda seen: Reply(status=500)) as source, Store(database_url) as store:
        built = Shop(source, door, store)
        built.write()
        doors = Doors(Home(tmp_path))
        with serving(door, Gateway(doors, store.connect, FastLane(doors, store), Data(doors, store))):
            yield built
