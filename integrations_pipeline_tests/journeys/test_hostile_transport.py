"""What goes wrong on the wire: nothing is lost or doubled, requests are bounded, no status lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from integrations_pipeline.client import retry
from integrations_pipeline_tests.journeys.conftest import House

SHOP = """
connection: shop
secrets: {token: {env: SHOP_TOKEN}}
api:
  url: {url}
  auth: {type: bearer, token: $token}
  timeout: 2s
  max_response: 1MB
  retry: {attempts: 6, max_wait: 5s}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 10}}
  ERRORS
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    fields: {id: {type: string, required: true}, name: {type: string}, total: {type: decimal}}
"""
RECORDS, PAGES = 60, 6
THROTTLED = "errors: [{status: [200, 403], when: {error.code: rate_limited}, is: rate_limited}]"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the source names no wait, ours begin small."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setenv("SHOP_TOKEN", "a-token-of-the-test")


def shop(house: House, *faults: str, errors: str = "", records: int = RECORDS) -> None:
    house.environment["SHOP_TOKEN"] = "a-token-of-the-test"
    house.connect_to("shop", SHOP.replace("ERRORS", errors), records=records, faults=faults)


def assert_nobody_else_was_asked(house: House) -> None:
    assert {one.host for one in house.sources["shop"].requests()} == {f"127.0.0.1:{house.running[0].port}"}


def assert_arrives_whole_without_faults(house: House) -> None:
    """Whatever a fault left behind, the next sync ends well."""
    house.sources["shop"].switch([])
    assert house.sync_here("shop")["orders"].status == "succeeded"
    house.assert_whole("shop", "orders")


PASSING = [
    *(f"429 {hint} 1 after 2 once" for hint in ("retry-after", "date", "reset", "draft", "structured")),
    "429 retry-after 0.2 every 4th", "429 reset-after 0.2 every 4th", "429 every 4th", "429 retry-after soon every 4th",
    "429 retry-after -7 every 4th", "403 retry-after 0.2 every 4th",
    "503 for 3 requests", "500 every 3rd", "502 40% for 8", "408 once", "425 once", "503 retry-after 0.2 every 4th",
    "reset every 4th", "hang up every 4th", "half close every 2nd",
    *(f"truncate {cut} every 4th" for cut in ("length", "chunked", "gzip", "unframed", "headers")),
    "slow 30ms", "drip 10ms once", "bom", "redirect", "content type text/html", "content type text/plain;charset=UTF8",
]  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_costs_nothing_but_time(house: House, fault: str) -> None:
    shop(house, fault)
    result = house.sync_here("shop")["orders"]
    assert (result.status, result.counters.created) == ("succeeded", RECORDS)
    house.assert_whole("shop", "orders")
    report = house.sources["shop"].report()
    assert report["faults"][0]["hits"], "the fault never struck"
    assert report["requests"] <= PAGES * 2 + 6
    assert report["while_told_to_wait"] == 0
    assert_nobody_else_was_asked(house)


@pytest.mark.parametrize("fault", ["200 every 4th", "403 every 4th"])
def test_a_status_that_a_source_uses_for_throttling(house: House, fault: str) -> None:
    shop(house, fault, errors=THROTTLED)
    assert house.sync_here("shop")["orders"].status == "succeeded"
    house.assert_whole("shop", "orders")


STOPPING = {
    "html": ("failed", "contract", "an HTML page"),
    "empty body": ("failed", "contract", ""),
    "garble": ("failed", "contract", "broken JSON"),
    "charset latin-1": ("failed", "contract", "charset latin-1"),
    "charset utf-16": ("failed", "contract", "utf-16"),
    "charset unsaid": ("failed", "contract", "not UTF-8"),
    "redirect elsewhere": ("failed", "contract", "not an origin of this connection"),
    "redirect loop": ("failed", "contract", "redirected"),
    "huge 3MB": ("failed", "contract", "larger than 1 MB"),
    "bomb 30MB": ("failed", "contract", "larger than 1 MB"),
    "200": ("failed", "contract", "items"),
    "400": ("failed", "config", "400"),
    "401": ("failed", "credentials", "401"),
    "403": ("failed", "permission", "403"),
    "404": ("failed", "not_found", "404"),
    "503": ("deferred", "transient", "503"),
    "429": ("deferred", "rate_limited", "429"),
    "reset": ("deferred", "transient", "broke"),
    "hang up": ("deferred", "transient", ""),
    "truncate length": ("deferred", "transient", "cut off"),
    "truncate gzip": ("deferred", "transient", "cut off"),
    "truncate headers": ("deferred", "transient", "cut off"),
    "truncate unframed": ("deferred", "transient", "cut off"),
}


@pytest.mark.parametrize("fault", STOPPING)
def test_what_stays_wrong_stops_with_a_true_status(house: House, fault: str) -> None:
    """In mid-list: what came before stays, what comes after arrives when the source is well again."""
    status, error_class, said = STOPPING[fault]
    shop(house, f"{fault} after 3")
    result = house.sync_here("shop")["orders"]
    assert result.error is not None
    assert (result.status, result.error.error_class) == (status, error_class)
    assert said in result.error.what
    assert (result.resume_at is not None) == (status == "deferred")
    assert len(house.raw("shop", "orders")) <= 30
    assert house.sources["shop"].report()["requests"] <= 3 + 6
    assert_nobody_else_was_asked(house)
    assert_arrives_whole_without_faults(house)


def test_a_person_ends_an_absurd_wait(house: House) -> None:
    shop(house, "429 retry-after 315360000 after 3")
    held = house.sync("shop", expect=3)["orders"]
    assert (held["status"], held["error"]["class"]) == ("deferred", "rate_limited")
    assert "integrations connect" in held["error"]["next"]
    refused = house.run("connect", "shop")
    assert refused.returncode == 3, "the source says so still"
    assert house.sync("shop", expect=3)["orders"]["requests"] == 0
    house.sources["shop"].faults.switch([])
    assert house.run("connect", "shop").returncode == 0
    (due,) = house.rows("SELECT resume_at <= now() FROM integrations.stream_state WHERE stream = 'orders'")
    assert due == (True,)
    house.sync("shop")
    house.assert_whole("shop", "orders")


@pytest.mark.parametrize(("told", "hours"), [("3600", 1), ("99999999999", 24)])
def test_a_long_wait_defers_the_stream_with_its_time(house: House, told: str, hours: int) -> None:
    shop(house, f"429 retry-after {told} after 3")
    result = house.sync_here("shop")["orders"]
    assert (result.status, result.counters.created) == ("deferred", 30)
    assert result.resume_at is not None
    assert timedelta(0) <= result.resume_at - (datetime.now(UTC) + timedelta(hours=hours)) + timedelta(minutes=2)
    asked = house.sources["shop"].report()["requests"]
    assert house.sync_here("shop")["orders"].status == "deferred"
    assert house.sources["shop"].report()["requests"] == asked == 4, "a told wait costs no further request"


def test_an_answer_that_drips_ends_at_the_deadline(house: House) -> None:
    shop(house, "drip 300ms after 1")
    house.write(
        "connections/shop.yaml",
        (house.home / "connections/shop.yaml").read_text().replace("attempts: 6", "attempts: 1"),
    )
    result = house.sync_here("shop")["orders"]
    assert result.error is not None
    assert (result.status, result.error.error_class) == ("deferred", "transient")
    assert result.duration_seconds < 20
    assert_arrives_whole_without_faults(house)


def test_a_source_that_refuses_connections_and_comes_back(house: House) -> None:
    shop(house, "down 200ms after 3")
    assert house.sync_here("shop")["orders"].status == "succeeded"
    house.assert_whole("shop", "orders")


def test_an_unreachable_source_defers_and_says_where(house: House) -> None:
    shop(house)
    port = house.running[0].port
    house.running[0].stop()
    result = house.sync_here("shop")["orders"]
    assert result.error is not None
    assert (result.status, result.error.error_class) == ("deferred", "transient")
    assert str(port) in result.error.what


def test_everything_at_once_by_the_command_line(house: House) -> None:
    """A proxy and a `.netrc` in the environment too: neither is asked, and the connection's own token is sent."""
    shop(house, "reset 10%", "503 10%", "truncate 10%", "slow 10ms 30%", "half close 10%", records=200)
    house.write(".netrc", "machine 127.0.0.1 login someone password else\n").chmod(0o600)
    closed = "http://127.0.0.1:9"
    house.environment |= {"HOME": str(house.home), "http_proxy": closed, "HTTP_PROXY": closed, "ALL_PROXY": closed}
    for _ in range(5):
        done = house.run("sync", "shop", "--json")
        assert done.returncode in (0, 3), done.stderr
        if done.returncode == 0:
            break
    house.assert_whole("shop", "orders")
    assert "a-token-of-the-test" not in done.stdout + done.stderr
    assert_nobody_else_was_asked(house)
