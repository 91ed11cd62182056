"""Signed webhooks of simulated sources, as a real receiver meets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from integrations_pipeline.client.delivery import Delivery, Part, joined
from integrations_pipeline.client.signatures import Signatures
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline_tests.simulator.conftest import ROOT, Serve

SECONDS = 60.0
HOOK = "test-key"
SIGNED = "{type: hmac, signature: header X-Signature, signed: <body>, secret: $hook}"
YAML = """
connection: shop
secrets: {hook: {env: SHOP_HOOK}}
api:
  url: https://api.shop.example/v1
  pagination: {type: single_page}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    get: GET /orders/<external_id>
    fields: {id: {type: string}, updated_at: {type: timestamp}, name: {type: string}}
webhook:
"""
PLAIN = f"""
  verify: {SIGNED}
  event_type: type
  event_id: id
  order_by: at
  events:
    order.created: {{upsert: orders, record: data}}
    order.changed: {{upsert: orders, record: data}}
    order.deleted: {{delete: orders, key: data.id}}
"""


class Receiver:
    """Keeps what it is sent. ``answers`` are given one after the other, the last one for ever."""

    def __init__(self, *answers: int):
        self.answers, self.taken = list(answers or (202,)), threading.Lock()
        self.came: list[tuple[Delivery, int]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(size := int(self.headers["content-length"]))
                if len(body) < size:  # its sender was killed in the middle: nothing has come
                    self.close_connection = True
                    return
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                with receiver.taken:
                    status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                    receiver.came.append((Delivery("POST", receiver.url, headers, body), status))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/webhooks/shop"

    def documents(self) -> list[Any]:
        """The bodies it accepted, in the order they came."""
        return [one.document for one, status in self.came if status < 300]


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(*answers)
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def sent(simulation: Simulation) -> None:
    assert simulation.telling.sender.settled(SECONDS)


def ways(source: Any) -> list[tuple[str, int, tuple[str, ...]]]:
    """Stream, answer and faults of each try in the request log."""
    return [(one.stream, one.status, one.faults) for one in source.simulation.requests() if one.purpose == "webhook"]


def test_each_change_is_told_signed_and_as_the_file_reads_it(served: Serve, receiver: Receiver) -> None:
    source = served(YAML + PLAIN, records=20, secrets={"hook": HOOK}, webhooks=receiver.url)
    hook = source.simulation.connection.webhook
    (key,) = source.simulation.insert("orders")
    source.simulation.update("orders", [key], {"name": "other"})
    source.simulation.delete("orders", [key])
    sent(source.simulation)
    documents = receiver.documents()
    assert [one["type"] for one in documents] == ["order.created", "order.changed", "order.deleted"]
    assert {one["data"]["id"] for one in documents} == {key}
    assert documents[1]["data"]["name"] == "other"
    assert len({one["id"] for one in documents}) == 3
    assert [one["at"] for one in documents] == sorted(one["at"] for one in documents)
    scheme = Signatures(hook, [Secret(HOOK)])
    assert [scheme.refusal(one, datetime.now(UTC)) for one, _ in receiver.came] == [None] * 3
    assert ways(source) == [("orders", 202, ())] * 3


@pytest.mark.parametrize("name", ["stripe", "github", "easypost"])
def test_connectors_of_the_catalogue_send_what_they_read(
    served: Serve, receiver: Receiver, tmp_path: Any, name: str
) -> None:
    names = {"stripe": ["key"], "github": ["token", "hook"], "easypost": ["key", "signing"]}[name]
    secrets = ", ".join(f"{one}: {{env: {one.upper()}}}" for one in names)
    settings = "settings: {owner: acme, repo: shop}\n" if name == "github" else ""
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / "one.yaml").write_text(
        f"connection: one\nuses: {name}\nsecrets: {{{secrets}}}\n{settings}"
        + ("webhook: {verify: {secret: $key}}\n" if name == "stripe" else "")
    )
    (tmp_path / "models").symlink_to(ROOT / "models")
    connection: Connection = load_connection("one", Home(tmp_path))
    values = dict.fromkeys(names, HOOK)
    source = served(connection, records=20, secrets=values, webhooks=receiver.url)
    hook = connection.webhook
    assert hook is not None
    scheme = Signatures(hook, [Secret(HOOK)])
    for stream in {rule.stream for rule in hook.events.values()}:
        before = len(receiver.came)
        (key,) = source.simulation.update(stream)
        sent(source.simulation)
        ((came, _),) = receiver.came[before:]
        assert scheme.refusal(came, datetime.now(UTC)) is None
        event_type = joined(Part(came, came.document), hook.event_type or ()) or ""
        assert event_type.endswith(".updated")
        rule = next(one for one in hook.events.values() if one.stream == stream and one.record)
        assert rule.record is not None
        record = rule.record.get(came.document)
        assert str(record[str(connection.streams[stream].primary_key[0])]) == key
        assert joined(Part(came, came.document), hook.event_id or ())


def test_lists_forms_headers_and_several_ids(served: Serve, receiver: Receiver) -> None:
    each = f"""
  verify: {SIGNED}
  each: .
  event_type: subscriptionType
  event_id: [eventId, objectId]
  events: {{contact.deletion: {{delete: orders, key: objectId}}, contact.*: {{fetch: orders, key: objectId}}}}
"""
    source = served(YAML + each, records=20, secrets={"hook": HOOK}, webhooks=receiver.url)
    (key,) = source.simulation.update("orders")
    source.simulation.delete("orders", [key])
    sent(source.simulation)
    first, second = receiver.documents()
    assert [one["subscriptionType"] for one in first + second] == ["contact.updated", "contact.deletion"]
    assert {one["objectId"] for one in first + second} == {key}

    form = f"""
  verify: {SIGNED}
  payload: form json
  event_type: [header X-Kind, action]
  events: {{"order.*": {{upsert: orders, record: order}}}}
"""
    source = served(YAML + form, records=20, secrets={"hook": HOOK}, webhooks=receiver.url)
    source.simulation.update("orders")
    sent(source.simulation)
    came = receiver.came[-1][0]
    assert came.header("x-kind") == ["order"]
    assert '"action":"updated"' in parse_qs(came.body.decode())["json"][0]


def test_a_receiver_that_is_down_is_tried_again_and_a_refusal_ends_it(served: Serve) -> None:
    with receiving(503, 500, 202, 401) as receiver:
        source = served(YAML + PLAIN, records=20, secrets={"hook": HOOK}, webhooks=receiver.url)
        source.simulation.update("orders")
        sent(source.simulation)
        source.simulation.update("orders")
        sent(source.simulation)
        assert [status for _, status, _ in ways(source)] == [503, 500, 202, 401]
        assert len({one.document["id"] for one, _ in receiver.came[:3]}) == 1


FAULTS = [
    "lose webhook 20%",
    "double webhook 20%",
    "reorder webhooks 20%",
    "tamper webhook 5%",
    "delay webhook 50ms 10%",
]


def test_faults_of_the_way_are_seeded_and_do_what_they_say(served: Serve) -> None:
    told = []
    for _ in range(2):
        with receiving() as receiver:
            source = served(
                YAML + PLAIN, records=80, seed=3, secrets={"hook": HOOK}, webhooks=receiver.url, faults=FAULTS
            )
            for _ in range(60):
                source.simulation.update("orders")
            sent(source.simulation)
            hook = source.simulation.connection.webhook
            scheme = Signatures(hook, [Secret(HOOK)])
            numbers = [int(one.document["id"].split("_")[2], 16) for one, _ in receiver.came]
            refused = sum(scheme.refusal(one, datetime.now(UTC)) is not None for one, _ in receiver.came)
            struck = source.control("faults").json()["faults"]
            told.append((sorted(numbers), refused, struck))
    assert told[0] == told[1]
    numbers, refused, struck = told[0]
    hits = {one["fault"]: one["hits"] for one in struck}
    assert len(set(numbers)) == 60 - hits["lose webhook 20%"] < 60
    assert len(numbers) > len(set(numbers))
    assert refused
    assert all(hits.values())


def test_a_reordered_delivery_comes_after_the_next_one(served: Serve, receiver: Receiver) -> None:
    source = served(
        YAML + PLAIN, records=20, secrets={"hook": HOOK}, webhooks=receiver.url, faults=["reorder webhooks once"]
    )
    for name in ("first", "second", "third"):
        source.simulation.update("orders", 1, {"name": name})
    sent(source.simulation)
    assert [one["data"]["name"] for one in receiver.documents()] == ["second", "first", "third"]


SUBSCRIBE = """
  subscribe: {request: POST /hooks, body: {target: <webhook_url>}, keep: {id: hook.id, key: hook.key}, expires: until}
  unsubscribe: DELETE /hooks/<subscription.id>
"""


def test_who_subscribes_is_told_by_a_key_of_their_own_until_they_leave(served: Serve, receiver: Receiver) -> None:
    source = served(YAML + PLAIN.replace("$hook", "<subscription.key>") + SUBSCRIBE, records=20, secrets={})
    source.simulation.update("orders")
    answer = source.session.post(f"{source.url}/hooks", json={"target": receiver.url}, timeout=30).json()
    assert set(answer) == {"hook", "until"}
    source.simulation.update("orders")
    sent(source.simulation)
    ((came, _),) = receiver.came
    scheme = Signatures(source.simulation.connection.webhook, [Secret(answer["hook"]["key"])])
    assert scheme.refusal(came, datetime.now(UTC)) is None
    assert source.control("webhooks").json() == {
        "subscriptions": [{"url": receiver.url, "event": None}],
        "waiting": 0,
    }
    gone = source.session.delete(f"{source.url}/hooks/{answer['hook']['id']}", timeout=30)
    again = source.session.delete(f"{source.url}/hooks/{answer['hook']['id']}", timeout=30)
    assert (gone.status_code, again.status_code) == (200, 404)
    source.simulation.update("orders")
    assert source.simulation.telling.sender.waiting == 0


def test_the_control_door_names_an_address(served: Serve, receiver: Receiver) -> None:
    source = served(YAML + PLAIN, records=20, secrets={"hook": HOOK})
    assert source.control("webhooks", json={"url": receiver.url}).json()["subscriptions"][0]["url"] == receiver.url
    assert source.control("orders/update", json={"count": 3}).ok
    sent(source.simulation)
    assert len(receiver.came) == 3
    assert source.control("webhooks", json={"url": None}).json()["subscriptions"] == []
    assert source.control("webhooks", json={"address": 1}).status_code == 400
