"""What surrounds the lists: credentials, limits, validators, latency, the control door, several sources at once."""

from __future__ import annotations

import time

import pytest
import requests

from integrations_pipeline.simulator.redirecting import simulated
from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.errors import ConfigError, DataError
from integrations_pipeline_tests.simulator.conftest import Serve, Source, parsed

YAML = """
connection: shop
secrets: {token: {env: SIMULATED_SHOP_TOKEN}}
api:
  url: https://api.shop.example/v1
  check: GET /me
  auth: AUTH
  limits: LIMITS
  pagination: {type: offset, send: skip, size: {send: take, value: 100}}
streams:
  orders:
    request: GET /orders
    records: items
    probe: PROBE
    primary_key: id
    cursor: {field: updated_at, send: since}
    fields: {id: {type: string}, updated_at: {type: timestamp}, customer.email: {type: string, format: email}}
"""


def shop(
    served: Serve, auth: str = "{type: none}", limits: str = "[]", probe: str = "etag", **options: object
) -> Source:
    text = YAML.replace("AUTH", auth).replace("LIMITS", limits).replace("PROBE", probe)
    return served(text, **{"records": 30, "secrets": {"token": "s3cret"}, **options})


@pytest.mark.parametrize(
    ("auth", "right"),
    [
        ("{type: bearer, token: $token}", {"headers": {"Authorization": "Bearer s3cret"}}),
        ("{type: basic, username: $token, password: x}", {"auth": ("s3cret", "x")}),
        ("{type: api_key, send: header X-Key, key: $token, prefix: 'Key '}", {"headers": {"X-Key": "Key s3cret"}}),
        ("{type: api_key, send: key, key: $token}", {"params": {"key": "s3cret"}}),
    ],
)
def test_only_the_right_credentials_are_let_in(served: Serve, auth: str, right: dict[str, object]) -> None:
    source = shop(served, auth)
    assert source.get("/orders", **right).status_code == 200
    assert source.get("/me", **right).json() == {"ok": True}
    for wrong in ({}, {"headers": {"Authorization": "Bearer other", "X-Key": "s3cret"}}, {"params": {"key": "S3CRET"}}):
        answer = source.get("/orders", **wrong)
        assert answer.status_code == 401
        assert "s3cret" not in answer.text


def test_secrets_come_from_the_environment_unless_given(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = "{type: bearer, token: $token}"
    with pytest.raises(ConfigError, match="SIMULATED_SHOP_TOKEN"):
        shop(served, auth, secrets=None)
    monkeypatch.setenv("SIMULATED_SHOP_TOKEN", "from outside")
    source = shop(served, auth, secrets=None)
    assert source.get("/orders", headers={"Authorization": "Bearer from outside"}).status_code == 200


class Hands(SystemClock):
    """Time that passes only by hand."""

    passed = 0.0

    def monotonic_seconds(self) -> float:
        return self.passed


def test_a_bucket_gives_its_burst_and_then_its_rate(served: Serve) -> None:
    clock = Hands()
    source = shop(served, limits="[{rate: 20 per 1s, burst: 5}]", enforce_limits=True, clock=clock)
    answers = [source.get("/orders") for _ in range(8)]
    assert [a.status_code for a in answers] == [200] * 5 + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) >= 1
    clock.passed = 0.06
    assert [source.get("/orders").status_code for _ in range(2)] == [200, 429]


def test_a_window_never_holds_more(served: Serve) -> None:
    clock = Hands()
    limits = "[4 per 600ms, {match: GET /me, rate: 1 per 1h}]"
    source = shop(served, limits=limits, enforce_limits=True, clock=clock)
    assert [source.get("/orders").status_code for _ in range(4)] == [200] * 4
    assert source.get("/orders").status_code == 429
    clock.passed = 0.65
    assert [source.get("/me").status_code for _ in range(2)] == [200, 429]
    assert [source.get("/orders").status_code for _ in range(3)] == [200] * 3


def test_limits_are_kept_only_when_asked_for(served: Serve) -> None:
    source = shop(served, limits="[1 per 1h]")
    assert [source.get("/orders").status_code for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("probe", "header", "condition"),
    [("etag", "ETag", "If-None-Match"), ("last_modified", "Last-Modified", "If-Modified-Since")],
)
def test_nothing_new_is_a_304_until_something_changes(served: Serve, probe: str, header: str, condition: str) -> None:
    source = shop(served, probe=probe)
    validator = source.get("/orders").headers[header]
    unchanged = source.get("/orders", headers={condition: validator})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    source.simulation.update("orders")
    changed = source.get("/orders", headers={condition: validator})
    assert changed.status_code == 200
    assert changed.headers[header] != validator


COUNT = "{request: GET /orders/count, query: {from: <cursor>}, read: PLACE}"


@pytest.mark.parametrize("place", ["meta.count", "header X-Count"])
def test_a_count_is_that_of_the_list_from_the_same_value_on(served: Serve, place: str) -> None:
    source = shop(served, probe=COUNT.replace("PLACE", place))
    stamps = sorted(row["updated_at"] for row in source.truth("orders"))

    def count(since: str) -> int:
        answer = source.get("/orders/count", params={"from": since})
        return int(answer.headers["X-Count"] if "header" in place else answer.json()["meta"]["count"])

    for since in (stamps[0], stamps[17], stamps[-1], "2099-01-01T00:00:00Z"):
        assert count(since) == len(source.get("/orders", params={"since": since}).json()["items"])
    assert count("2099-01-01T00:00:00Z") == 0
    source.simulation.update("orders")
    assert count(stamps[-1]) == len(source.get("/orders", params={"since": stamps[-1]}).json()["items"])


def test_latency_is_added_to_each_answer_and_answers_overlap(served: Serve) -> None:
    source = shop(served, latency_ms=80)
    begun = time.monotonic()
    source.get("/orders")
    assert time.monotonic() - begun >= 0.08


def test_the_declared_quota_is_told(served: Serve) -> None:
    text = YAML.replace("AUTH", "{type: none}").replace("PROBE", "etag").replace("LIMITS", "[5 per 10s]")
    text = text.replace("check:", "quota: {remaining: header X-Left, reset: header X-Reset}\n  check:")
    source = served(text, records=5, enforce_limits=True)
    answers = [source.get("/orders") for _ in range(6)]
    assert [answer.headers["X-Left"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    assert answers[0].headers["X-Reset"] == "10"


NASTY = ("", "0", "-1", "9" * 40, "1e999", "NaN", "null", "[]", "%00", "\ud800", "sync_-5", "evt_zz_1", "W10", "../..")


@pytest.mark.parametrize(
    "kind", ["cursor, read: next", "offset", "page_number", "keyset", "cursor, read: n, send: url"]
)
def test_no_request_makes_it_fail(served: Serve, kind: str) -> None:
    pagination = "{type: " + (kind if "send" in kind else f"{kind}, send: skip") + ", size: {send: take, value: 100}}"
    text = YAML.replace("AUTH", "{type: none}").replace("LIMITS", "[]").replace("PROBE", "last_modified")
    source = served(text.replace("{type: offset, send: skip, size: {send: take, value: 100}}", pagination), records=20)
    for value in NASTY:
        for name in ("skip", "take", "since", "page_token"):
            sent = {name: value.encode("utf-8", "surrogatepass")}
            answer = source.get("/orders", params=sent, headers={"If-Modified-Since": "yesterday"})
            assert answer.status_code in (200, 400), (name, value)
    assert source.session.post(source.url + "/orders", data=b"\xff{", timeout=10).status_code == 404


def test_equal_seeds_give_equal_sources(served: Serve) -> None:
    first, same, other = shop(served, seed=3), shop(served, seed=3), shop(served, seed=4)
    assert first.get("/orders").content == same.get("/orders").content != other.get("/orders").content
    few, many = shop(served, records=10), shop(served, records=10_000)
    for left, right in zip(few.truth("orders"), many.truth("orders"), strict=False):
        assert (left["id"], left["customer"]) == (right["id"], right["customer"])
    emails = [row["customer"]["email"] for row in many.truth("orders") if row["customer"]["email"]]
    assert len(set(emails)) == len(emails) > 9_000


def test_the_control_door_changes_shows_and_forgets(served: Serve) -> None:
    source = shop(served)
    inserted = source.control("orders/insert", json={"records": [{"id": "mine", "customer": {"email": None}}]}).json()
    assert inserted == {"keys": ["mine"]}
    [seeded] = source.control("orders/insert", json={}).json()["keys"]
    source.control("orders/update", json={"keys": ["mine"], "values": {"customer": {"email": "a@b.example"}}})
    gone = source.control("orders/delete", json={"count": 2}).json()["keys"]
    lines = [requests.models.complexjson.loads(line) for line in source.control("orders/contents").iter_lines()]
    assert lines == source.truth("orders")
    by_id = {line["id"]: line for line in lines}
    assert by_id["mine"]["customer"] == {"email": "a@b.example"}
    assert seeded in {*by_id, *gone}
    assert not set(gone) & set(by_id)
    assert source.control("orders/update", json={"keys": ["nobody"]}).status_code == 400
    assert source.control("orders/insert", json={"records": [{"id": "mine"}]}).status_code == 400
    assert source.control("nothing/contents").status_code == 400
    assert source.control("orders/explode", json={}).status_code == 400
    source.control("reset", json={})
    assert source.simulation.counts() == {"orders": 30}


def test_the_request_log_tells_what_was_asked(served: Serve) -> None:
    source = shop(served)
    source.get("/orders", params={"skip": 10, "take": 15})
    source.get("/elsewhere")
    first, second = source.control("requests").json()
    assert (first["method"], first["path"], first["query"]) == ("GET", "/v1/orders", {"skip": ["10"], "take": ["15"]})
    assert (first["status"], first["count"], first["stream"], first["purpose"]) == (200, 15, "orders", "list")
    assert (second["status"], second["stream"], second["count"]) == (404, "", 0)
    assert first["at"] <= second["at"]


def test_random_changes_are_visible_and_repeatable(served: Serve) -> None:
    one, two = shop(served, seed=9), shop(served, seed=9)
    for source in (one, two):
        source.simulation.update("orders", 5)
        source.simulation.delete("orders", 2)
        source.simulation.insert("orders", 2)
    assert [row["id"] for row in one.truth("orders")] == [row["id"] for row in two.truth("orders")]
    with pytest.raises(DataError, match="no stream"):
        one.simulation.insert("nothing")


def test_several_connections_share_a_server_and_keep_their_base_path() -> None:
    texts = [YAML.replace("AUTH", "{type: none}").replace("LIMITS", "[]").replace("PROBE", "etag")] * 2
    connections = [
        parsed(text.replace("connection: shop", f"connection: {n}")) for text, n in zip(texts, "ab", strict=True)
    ]
    with serve([Simulation(c, records=12) for c in connections]) as running:
        for connection in connections:
            copy = simulated(connection, running.port)
            assert copy.api.url == f"http://127.0.0.1:{running.port}/{connection.name}/v1"
            assert len(requests.get(f"{copy.api.url}/orders", timeout=10).json()["items"]) == 12
        overview = requests.get(f"http://127.0.0.1:{running.port}/_simulator/", timeout=10).json()
        assert overview == {"a": {"orders": 12}, "b": {"orders": 12}}
        assert requests.get(f"http://127.0.0.1:{running.port}/c/orders", timeout=10).status_code == 404


def test_a_demo_connection_is_served_at_the_address_it_names(served: Serve) -> None:
    text = YAML.replace("https://api.shop.example/v1", "http://127.0.0.1:8765/shop/v1").replace("LIMITS", "[]")
    source = served(text.replace("AUTH", "{type: none}").replace("PROBE", "etag"), records=30)
    assert source.simulation.url(8765) == "http://127.0.0.1:8765/shop/v1"
    assert len(source.get("/orders").json()["items"]) == 30
