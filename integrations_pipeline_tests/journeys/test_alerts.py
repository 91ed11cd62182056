"""Who is told when something breaks: one alert of the right kind at a real destination, and one when it heals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integrations_pipeline.orchestration.notifying import Apprise
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.alerting import alert
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.passing import minutes_pass

SHOP = """
connection: shop
secrets: {token: {env: SHOP_TOKEN}}
expect: {fresh_within: 1h, down_under: 10m, EXPECT}
alerts: [{env: SHOP_ALERTS}]
api:
  url: URL
  auth: {type: bearer, token: $token}
  retry: {attempts: 1}
  pagination: {type: single_page}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated, send: since}
    fields: {id: {type: integer, required: true}, updated: {type: timestamp, required: true}, total: {type: decimal}}
    map: {to: sale, fields: {total: total}}
  customers: {request: GET /customers, records: items, primary_key: id}
  payments: {request: GET /payments, records: items, primary_key: id}
"""
SALE = "kind: sale\nfields: {total: {type: decimal}}\n"
TOKEN = "planted-token-5f1d7c"


class Shop:
    """Orders, customers and payments; each may be broken."""

    def __init__(self) -> None:
        self.status, self.token = 200, TOKEN
        self.orders: list[dict[str, Any]] = [order(number) for number in range(30)]
        self.odd: Callable[[Seen], Reply | None] = lambda seen: None

    def __call__(self, seen: Seen) -> Any:
        if self.status != 200:
            return Reply({"message": "maintenance"}, self.status)
        if seen.headers["Authorization"] != f"Bearer {self.token}":
            return Reply({"message": "who are you?"}, 401)
        items = self.orders if seen.path == "/orders" else [{"id": 1}]
        return self.odd(seen) or {"items": items}


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "updated": "2024-05-01T12:00:00Z", "total": 12.5, **more}


class Chat:
    """Whom the alerts reach: all messages, in their order."""

    def __init__(self, server: Source) -> None:
        self.server = server

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [seen.json for seen in self.server.seen]

    def news(self) -> list[tuple[str, str]]:
        """Title and look of each message since it was last asked."""
        found = [(one["title"], one["type"]) for one in self.heard]
        self.server.seen.clear()
        return found


@pytest.fixture
def source() -> Iterator[Source]:
    with Source(Shop()) as found:
        yield found


@pytest.fixture
def shop(source: Source) -> Shop:
    return source.answer  # type: ignore[return-value]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    with Source(lambda seen: {}) as server:
        monkeypatch.setenv("SHOP_ALERTS", server.url.replace("http:", "json:") + "/hook/planted-key-8d2e")
        yield Chat(server)


@pytest.fixture
def town(house: House, source: Source, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> House:
    """A shop that was synced once, with nothing wrong."""
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    house.write("models/sale.yaml", SALE)
    house.write("connections/shop.yaml", SHOP.replace("URL", source.url).replace(", EXPECT", ""))
    house.sync_here("shop")
    look(house)
    assert chat.news() == []
    return house


def look(house: House) -> None:
    """What the sensor does at each tick."""
    with Store(house.database_url) as store:
        alert(load_all(Home(house.home)), store, Apprise())


def later(house: House, hours: float) -> None:
    """As if all that happened so far had happened so much earlier."""
    minutes_pass(house.database_url, round(hours * 60))
    for table, columns in {
        "stream_state": ["resume_at"],
        "breaker": ["opened_at", "retry_at"],
        "alert": ["since", "opened_at", "healed_at"],
        "alert_notice": ["told_at", "next_try_at", "claimed_until"],
    }.items():
        moved = ", ".join(f"{one} = {one} - make_interval(secs => {hours * 3600})" for one in columns)
        house.rows(f"WITH moved AS (UPDATE integrations.{table} SET {moved} RETURNING 1) SELECT count(*) FROM moved")


def test_a_source_that_is_down_is_one_alert_whatever_follows_from_it(town: House, shop: Shop, chat: Chat) -> None:
    shop.status = 503
    for _ in range(4):
        town.sync_here("shop")
    look(town)
    assert chat.news() == [], "ten minutes are not over"
    later(town, 2)
    for _ in range(2):
        look(town)
    ((title, kind),) = [(one["title"], one["type"]) for one in chat.heard]
    assert (title, kind) == ("broken: shop: downtime", "failure")
    text = chat.heard[0]["message"]
    assert "the source answered 503" in text and "who must act: nobody" in text and "integrations connect shop" in text
    chat.news()

    shop.status = 200
    town.rows("UPDATE integrations.breaker SET retry_at = clock_timestamp() RETURNING 1")
    town.rows("UPDATE integrations.stream_state SET resume_at = NULL RETURNING 1")
    town.sync_here("shop")
    for _ in range(2):
        look(town)
    assert chat.news() == [("healed: shop: downtime", "success")]


def test_streams_not_read_again_yet_after_a_downtime_are_no_news(town: House, shop: Shop, chat: Chat) -> None:
    shop.status = 503
    for _ in range(4):
        town.sync_here("shop")
    later(town, 2)
    look(town)
    chat.news()
    town.rows("UPDATE integrations.breaker SET opened_at = NULL, retry_at = NULL RETURNING 1")
    look(town)
    assert chat.news() == [("healed: shop: downtime", "success")], "its streams are stale, and are read any moment"
    later(town, 0.3)
    look(town)
    assert {title for title, _ in chat.news()} == {"broken: shop: 3 alerts"}, "nobody has read them since"


def test_a_wrong_credential_is_one_alert_for_all_streams(
    town: House, shop: Shop, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.token = "another"
    town.sync_here("shop")
    later(town, 2)
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert (heard["title"], heard["type"]) == ("broken: shop: credentials", "failure")
    assert "whoever owns the account" in heard["message"] and "renew the secret" in heard["message"]
    assert TOKEN not in json.dumps(heard)
    chat.news()
    monkeypatch.setenv("SHOP_TOKEN", "another")
    town.sync_here("shop")
    look(town)
    assert chat.news() == [("healed: shop: credentials", "success")]


def test_a_field_that_the_mapping_reads_and_that_changed_is_drift(town: House, shop: Shop, chat: Chat) -> None:
    shop.orders = [order(number, updated="2024-05-02T12:00:00Z", total=None) for number in range(30)]
    for number, one in enumerate(shop.orders):
        del one["total"]
        one["gross"] = number
    town.sync_here("shop")
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert heard["title"] == "broken: shop/orders: drift"
    assert "total: vanished field" in heard["message"] and "integrations drift list shop/orders" in heard["message"]
    chat.news()
    town.run("drift", "accept", "shop")
    look(town)
    assert chat.news() == [("healed: shop/orders: drift", "success")]


def test_no_record_in_an_hour_that_always_has_some(town: House, shop: Shop, chat: Chat) -> None:
    for _ in range(9):
        later(town, 24)
        shop.orders = [order(number, total=len(shop.orders) + _) for number in range(30)]
        town.sync_here("shop")
    look(town)
    assert chat.news() == []
    later(town, 24)
    town.sync_here("shop")
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert heard["title"] == "broken: shop: 2 alerts"
    assert "shop/orders: zero_records (error)" in heard["message"]
    assert "shop/orders: record_count_deviation (warning)" in heard["message"]
    assert "0 records in the last hour; in this hour of days like it there were at least 30" in heard["message"]
    chat.news()
    shop.orders = [order(number, total=99) for number in range(30)]
    town.sync_here("shop")
    look(town)
    assert chat.news() == [("healed: shop: 2 alerts", "success")]


def test_an_answer_that_is_no_data_is_a_failed_run_also_of_the_terminal(town: House, shop: Shop, chat: Chat) -> None:
    shop.odd = lambda seen: Reply(b"<html>hello</html>", headers={"Content-Type": "text/html"})
    town.rows("SELECT 1")
    assert town.run("sync", "shop", "orders").returncode == 1
    later(town, 2)
    look(town)
    titles = [title for title, _ in chat.news()]
    assert titles == ["broken: shop: 3 alerts"], "two others are stale, of this one only its failure is told"
    shop.odd = lambda seen: None
    town.sync_here("shop")
    look(town)
    assert chat.news() == [("healed: shop: 3 alerts", "success")]


def test_stale_streams_are_told_and_heal(town: House, chat: Chat) -> None:
    later(town, 2)
    look(town)
    (heard,) = chat.heard
    assert heard["title"] == "broken: shop: 3 alerts"
    assert "shop/orders: freshness (error)" in heard["message"]
    assert "last read well 2 h ago, 60 min were promised" in heard["message"]
    chat.news()
    town.sync_here("shop")
    look(town)
    assert chat.news() == [("healed: shop: 3 alerts", "success")]


def test_the_terminal_proves_delivery_and_shows_what_is_open(town: House, shop: Shop, chat: Chat) -> None:
    tested = town.run("alerts", "test", "shop", "--json")
    assert json.loads(tested.stdout) == {
        "destinations": [{"destination": "SHOP_ALERTS", "delivered": True, "reason": None}]
    }
    assert chat.news() == [("test: shop", "info")]
    shop.odd = lambda seen: Reply({"message": "no such list"}, 404)
    town.sync_here("shop")
    chat.server.answer = lambda seen: Reply({"no": "thanks"}, 500)
    assert town.run("alerts", "send").returncode == 1
    said = town.run("alerts", "list").stdout
    assert "shop/orders: run_failure since" in said
    assert "SHOP_ALERTS: 3 alerts could not be delivered: the destination answered 500" in said
    assert "SHOP_ALERTS" in town.run("status").stdout
    assert "planted-key" not in said + str(town.rows("SELECT * FROM integrations.alert_notice"))
    chat.server.answer = lambda seen: {}
    chat.server.seen.clear()
    later(town, 0.1)
    assert town.run("alerts", "send").returncode == 0
    assert chat.news() == [("broken: shop: 3 alerts", "failure")]


DEAD = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
VALUES ('outbox', 1, 'shop', '{"message": "no such order"}', 5) RETURNING 1"""
PUT_OFF = """
WITH off AS (UPDATE integrations.stream_state SET resume_at = now() + interval '1 hour' WHERE stream = 'orders')
INSERT INTO integrations.run_log (run_id, connection, stream, mode, status, started_at, finished_at, error)
SELECT gen_random_uuid(), 'shop', 'orders', 'incremental', 'deferred', last_success + interval '1 second', now(),
    '{"class": "rate_limited", "message": "the quota of the day is used up"}'
FROM integrations.stream_state WHERE stream = 'orders' RETURNING 1"""
CHANGE = """
INSERT INTO integrations.outbox
    (connection, stream, kind, canonical_id, operation, changes, edited_at, status, queued_at)
VALUES ('shop', 'orders', 'sale', gen_random_uuid(), 'update', '{}', now(), 'STATUS', now() - interval '2 hours')
RETURNING 1"""
CONFLICT = """
INSERT INTO integrations.conflict (connection, stream, external_id, kind, canonical_id, field, reason)
VALUES ('shop', 'orders', '1', 'sale', gen_random_uuid(), 'total', 'review') RETURNING 1"""


@pytest.mark.parametrize(
    ("title", "kind", "broken", "mended", "said"),
    [
        ("shop: dead_letter", "failure", DEAD,
         "UPDATE integrations.dead_letter SET status = 'discarded', closed_at = now() RETURNING 1",
         "1 events or changes were given up; the last: no such order"),
        ("shop/orders: deferred", "warning", PUT_OFF,
         "UPDATE integrations.stream_state SET resume_at = NULL, last_success = now() RETURNING 1",
         "put off again and again for 7 h; the last time: the quota of the day is used up"),
        ("shop: outbox_backlog", "warning", CHANGE.replace("STATUS", "queued"),
         "DELETE FROM integrations.outbox RETURNING 1", "1 changes wait in the outbox, the oldest for 2 h"),
        ("shop: parked", "warning", CHANGE.replace("STATUS", "parked"),
         "DELETE FROM integrations.outbox RETURNING 1", "1 changes are parked: only a person can tell"),
        ("shop: conflicts", "warning", CONFLICT,
         "UPDATE integrations.conflict SET status = 'resolved', closed_at = now() RETURNING 1",
         "1 fields differ here and at the source"),
    ],
    ids=["dead_letter", "deferred", "outbox_backlog", "parked", "conflicts"],
)  # fmt: skip
def test_what_waits_for_somebody(
    town: House, chat: Chat, title: str, kind: str, broken: str, mended: str, said: str
) -> None:
    """One message when it is so, one when it no longer is. The state is made in our tables, as a push, a poll or an
    event leaves it; how it comes about is shown where they are tested."""
    file = town.home / "connections" / "shop.yaml"
    file.write_text(file.read_text().replace("fresh_within: 1h", "fresh_within: 1d"))
    if broken is PUT_OFF:
        later(town, 7)
    town.rows(broken)
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert (heard["title"], heard["type"]) == (f"broken: {title}", kind)
    assert said in heard["message"] and "who must act: " in heard["message"] and "next: " in heard["message"]
    chat.news()
    town.rows(mended)
    for _ in range(2):
        look(town)
    assert chat.news() == [(f"healed: {title}", "success")]


def test_a_file_that_breaks_is_told_and_heals(town: House, chat: Chat) -> None:
    file = town.home / "connections" / "shop.yaml"
    whole = file.read_text()
    file.write_text(whole + "tags: [never, closed\n")
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert (heard["title"], heard["type"]) == ("broken: connections/shop.yaml: broken_file", "failure")
    assert "connections/shop.yaml:" in heard["message"] and "integrations check" in heard["message"]
    chat.news()
    file.write_text(whole)
    look(town)
    assert chat.news() == [("healed: connections/shop.yaml: broken_file", "success")]


HOOKED = """
webhook:
  verify: {type: standard_webhooks, secret: $token}
  event_type: type
  events: {order.*: {upsert: orders, record: row}}
"""


def test_webhooks_that_fall_silent(town: House, shop: Shop, chat: Chat) -> None:
    """No event comes any more; what changes is found by polls only."""
    file = town.home / "connections" / "shop.yaml"
    file.write_text(file.read_text().replace("expect: {", "expect: {webhook_loss: under 5%, ") + HOOKED)
    town.sync_here("shop")
    shop.orders = [order(number, updated="2024-05-03T12:00:00Z") for number in range(30)]
    town.sync_here("shop")
    later(town, 0.2)
    town.sync_here("shop")
    for _ in range(2):
        look(town)
    (heard,) = chat.heard
    assert (heard["title"], heard["type"]) == ("broken: shop/orders: webhook_loss", "warning")
    assert "webhooks missed 100.00% of the changes of a day, under 5% is expected" in heard["message"]
    chat.news()
    later(town, 25)
    town.sync_here("shop")
    look(town)
    assert chat.news() == [("healed: shop/orders: webhook_loss", "success")]
