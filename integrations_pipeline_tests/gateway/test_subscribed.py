"""A webhook that `connect` subscribes: the simulated provider's secret reaches the door, and `disconnect` ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.simulator.redirecting import simulated
from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.connect import connect, disconnect
from integrations_pipeline_tests.client.conftest import LocalLimiter
from integrations_pipeline_tests.gateway.conftest import START_SECONDS, Door, serving, until

NAMES = "http://127.0.0.1"
SHOP = """
connection: shop
api:
  url: https://api.shop.example/v1
  pagination: {type: single_page}
streams:
  orders: {request: GET /orders, records: items, primary_key: id, get: GET /orders/<external_id>}
webhook:
  verify: {type: standard_webhooks, secret: <subscription.key>}
  event_type: type
  event_id: header webhook-id
  events: {order.created: {upsert: orders, record: data}, order.changed: {upsert: orders, record: data}}
  subscribe: {request: POST /hooks, body: {target: <webhook_url>}, keep: {id: hook.id, key: hook.key}, expires: until}
  unsubscribe: DELETE /hooks/<subscription.id>
"""
EACH = SHOP.replace("{target: <webhook_url>}", "{target: <webhook_url>, topic: <event>}")


class Place:
    """A home with one connection, its simulated source, a gateway and a database."""

    def __init__(self, home: Path, database_url: str, text: str, port: int, simulation: Simulation):
        self.home, self.database_url, self.simulation = home, database_url, simulation
        self.door = Door(home, database_url)
        self.connection = simulated(load_connection("shop", Home(home)), port)

    def connect(self, store: Store, url: str | None = None) -> int:
        with self.client() as client:
            return connect(self.connection, client, store, {}, public_url=url or f"{NAMES}:{self.door.port}")

    def disconnect(self, store: Store, *, keep_data: bool = True) -> None:
        @contextmanager
        def reach() -> Iterator[tuple[Connection, Client]]:
            with self.client() as client:
                yield self.connection, client

        disconnect("shop", store, keep_data=keep_data, reach=reach)

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.connection, limiter=LocalLimiter(), secrets={})
        try:
            yield client
        finally:
            client.close()

    def calls(self) -> list[str]:
        """The subscribing and unsubscribing calls that the source was sent."""
        return [one.purpose for one in self.simulation.requests() if one.purpose.endswith("subscribe")]

    def rows(self, query: str = "SELECT * FROM integrations.inbox ORDER BY id") -> list[dict[str, Any]]:
        return self.door.rows(query)


@contextmanager
def placed(home: Path, database_url: str, text: str = SHOP) -> Iterator[tuple[Place, Store]]:
    (home / "connections").mkdir()
    (home / "connections" / "shop.yaml").write_text(text, encoding="utf-8")
    simulation = Simulation(load_connection("shop", Home(home)), records=20, secrets={})
    with serve([simulation]) as running, Store(database_url, state=home / "state") as store:
        place = Place(home, database_url, text, running.port, simulation)
        gateway = Gateway(Doors(Home(home), NAMES, store.subscriptions), Store(database_url).connect)
        with serving(place.door, gateway):
            yield place, store


def test_connect_subscribes_once_and_the_secret_reaches_the_door(tmp_path: Path, database_url: str) -> None:
    with placed(tmp_path, database_url) as (place, store):
        assert place.connect(store) == 1
        assert place.connect(store) == 0
        assert place.calls() == ["subscribe"]
        keys = place.simulation.insert("orders", 3)
        assert place.simulation.telling.sender.settled(START_SECONDS)
        rows = until(lambda: found if len(found := place.rows()) == 3 else None)
        assert {str(row["payload"]["data"]["id"]) for row in rows} == set(keys)
        secret = next(iter(place.simulation.telling.subscriptions.values())).kept["key"]
        (kept,) = place.rows("SELECT value, url FROM integrations.subscription")
        assert secret.encode() not in bytes(kept["value"]) and kept["url"].endswith("/webhooks/shop")
        place.disconnect(store)
        place.disconnect(store)
        assert place.calls() == ["subscribe", "unsubscribe"]
        assert (place.simulation.telling.subscriptions, place.rows("SELECT * FROM integrations.subscription")) == (
            {},
            [],
        )


def test_one_that_ends_soon_or_has_another_address_is_made_anew(tmp_path: Path, database_url: str) -> None:
    with placed(tmp_path, database_url) as (place, store):
        place.connect(store)
        assert store.subscriptions.due(datetime.now(UTC)) == {}
        assert set(store.subscriptions.due(datetime.now(UTC) + timedelta(days=6, hours=1))) == {"shop"}
        with psycopg.connect(database_url, autocommit=True) as session:
            session.execute("UPDATE integrations.subscription SET expires_at = now() + interval '1 minute',"
                            " updated_at = now() - interval '7 days'")  # fmt: skip
        assert set(store.subscriptions.due(datetime.now(UTC))) == {"shop"}
        assert (place.connect(store), len(place.simulation.telling.subscriptions)) == (1, 1)
        assert store.subscriptions.due(datetime.now(UTC)) == {}
        assert place.connect(store, "http://localhost:1") == 1
        (one,) = place.simulation.telling.subscriptions.values()
        assert one.url == "http://localhost:1/webhooks/shop"
        assert place.calls() == ["subscribe"] + ["subscribe", "unsubscribe"] * 2


def test_with_event_there_is_one_per_event(tmp_path: Path, database_url: str) -> None:
    with placed(tmp_path, database_url, EACH) as (place, store):
        assert place.connect(store) == 2
        place.simulation.update("orders")
        assert place.simulation.telling.sender.settled(START_SECONDS)
        (row,) = until(place.rows)
        assert row["event_type"] == "order.changed"
        assert {one.event for one in place.simulation.telling.subscriptions.values()} == {
            "order.created",
            "order.changed",
        }
        place.disconnect(store)
        assert place.simulation.telling.subscriptions == {}


@pytest.mark.parametrize(
    ("url", "api", "said"),
    [
        ("", "https://api.shop.example/v1", "INTEGRATIONS_PUBLIC_URL is not set"),
        ("hooks.example.com", "https://api.shop.example/v1", "INTEGRATIONS_PUBLIC_URL is no address"),
        ("http://127.0.0.1:8766", "https://api.shop.example/v1", "only this machine can reach"),
    ],
)
def test_without_an_address_the_provider_could_reach_the_streams_run_and_it_is_said(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, url: str, api: str, said: str
) -> None:
    from integrations_pipeline.sync.subscribing import webhook_url

    monkeypatch.delenv("INTEGRATIONS_PUBLIC_URL", raising=False)
    with placed(tmp_path, database_url) as (place, store):
        away = place.connection.model_copy(update={"api": place.connection.api.model_copy(update={"url": api})})
        with pytest.raises(ConfigError, match=said) as told:
            webhook_url(away, url)
        assert "integrations connect shop" in str(told.value.next)
        with place.client() as client, pytest.raises(ConfigError, match="is not set"):
            connect(place.connection, client, store, {})
        store.refuse_stopped(place.connection)
        assert place.calls() == []


def test_a_source_that_is_away_doesnt_keep_a_connection_from_being_stopped(tmp_path: Path, database_url: str) -> None:
    with placed(tmp_path, database_url) as (place, store):
        place.connect(store)
        place.simulation.switch(["401"])
        with pytest.raises(ConfigError, match="still subscribed at the provider"):
            place.disconnect(store, keep_data=False)
        with pytest.raises(ConfigError, match="is disconnected"):
            store.refuse_stopped(place.connection)
        place.simulation.switch([])
        place.disconnect(store)
        assert place.simulation.telling.subscriptions == {}
