"""Each pagination kind, walked by a loop that knows nothing of the simulator, yields every record exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline_tests.simulator.conftest import Serve, Source

YAML = """
connection: shop
api:
  url: https://api.shop.example/v2
  pagination: {pagination}
streams:
  orders:
    request: GET /orders
    records: data.items
    primary_key: id
    cursor: {{field: updated_at, send: since, order: {order}}}
    fields:
      id: {{type: string, required: true}}
      updated_at: {{type: timestamp, required: true}}
      amount: {{type: integer, min: 1}}
"""


def shop(served: Serve, pagination: str, order: str = "none", **options: Any) -> Source:
    return served(YAML.format(pagination=pagination, order=order), **options)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def assert_all_once(source: Source, items: list[dict[str, Any]]) -> None:
    assert len(ids(items)) == len(set(ids(items)))
    assert sorted(items, key=lambda item: item["id"]) == sorted(source.truth("orders"), key=lambda item: item["id"])


def test_page_numbers_from_the_declared_first_one(served: Serve) -> None:
    source = shop(
        served,
        "{type: page_number, send: page, first: 0, pages: meta.pages, total: meta.total, more: meta.more,"
        " size: {send: per_page, value: 30}}",
        records=257,
    )
    found, number, more = [], 0, True
    while more:
        body = source.get("/orders", params={"page": number, "per_page": 50}).json()
        found += body["data"]["items"]
        more, number = body["meta"]["more"], number + 1
        assert (body["meta"]["total"], body["meta"]["pages"]) == (257, 6)
    assert number == 6
    assert_all_once(source, found)
    assert len(source.get("/orders").json()["data"]["items"]) == 30
    assert source.get("/orders", params={"page": 99}).json()["data"]["items"] == []


def test_offsets(served: Serve) -> None:
    source = shop(
        served, "{type: offset, send: skip, total: header X-Total, size: {send: take, value: 100}}", records=250
    )
    found: list[dict[str, Any]] = []
    while True:
        answer = source.get("/orders", params={"skip": len(found), "take": 60})
        items = answer.json()["data"]["items"]
        if not items:
            break
        found += items
    assert answer.headers["X-Total"] == "250"
    assert_all_once(source, found)


@pytest.mark.parametrize("order", ["none", "asc", "desc"])
def test_cursor_tokens_in_each_order(served: Serve, order: str) -> None:
    source = shop(
        served,
        "{type: cursor, read: next.token, send: after, more: next.more, size: {send: limit, value: 20}}",
        order,
        records=133,
    )
    found, token = [], None
    while True:
        body = source.get("/orders", params={"after": token, "limit": 40}).json()
        found += body["data"]["items"]
        token = body.get("next", {}).get("token")
        assert body["next"]["more"] is (token is not None)
        if token is None:
            break
    assert_all_once(source, found)
    stamps = [item["updated_at"] for item in found]
    assert (stamps == sorted(stamps)) == (order == "asc")
    assert (stamps == sorted(stamps, reverse=True)) == (order == "desc")


def test_keyset_goes_on_after_the_last_key_even_if_it_is_gone(served: Serve) -> None:
    source = shop(served, "{type: keyset, send: starting_after, more: has_more, size: {send: limit, value: 10}}")
    first = source.get("/orders", params={"limit": 300}).json()
    source.simulation.delete("orders", [first["data"]["items"][-1]["id"]])
    found, more = first["data"]["items"], first["has_more"]
    while more:
        body = source.get("/orders", params={"limit": 300, "starting_after": found[-1]["id"]}).json()
        found, more = found + body["data"]["items"], body["has_more"]
    assert len(set(ids(found))) == len(found) == 1000
    assert source.get("/orders", params={"starting_after": "nobody"}).status_code == 400


def test_link_headers_and_bare_links_are_absolute(served: Serve) -> None:
    for declared, header in (("Link", "Link"), ("Next-Page", "Next-Page")):
        source = shop(
            served, f"{{type: link_header, read: header {declared}, size: {{send: rows, value: 25}}}}", records=101
        )
        answer = source.get("/orders", params={"rows": 40})
        found = answer.json()["data"]["items"]
        while header in answer.headers:
            url = answer.links["next"]["url"] if header == "Link" else answer.headers[header]
            assert url.startswith(source.url)
            answer = source.session.get(url, timeout=10)
            found += answer.json()["data"]["items"]
        assert_all_once(source, found)


def test_links_in_the_body_under_a_key_with_dots(served: Serve) -> None:
    source = shop(served, '{type: link_body, read: ["@odata.nextLink"], size: {send: top, value: 64}}', records=200)
    body = source.get("/orders").json()
    found = body["data"]["items"]
    while "@odata.nextLink" in body:
        body = source.session.get(body["@odata.nextLink"], timeout=10).json()
        found += body["data"]["items"]
    assert_all_once(source, found)


def test_a_cursor_may_be_the_next_url_or_an_object_of_parameters(served: Serve) -> None:
    by_url = shop(served, "{type: cursor, read: next, send: url, size: {send: limit, value: 60}}", records=100)
    first = by_url.get("/orders").json()
    second = by_url.session.get(first["next"], timeout=10).json()
    assert_all_once(by_url, first["data"]["items"] + second["data"]["items"])
    spread = shop(served, "{type: cursor, read: next, send: spread, size: {send: limit, value: 60}}", records=100)
    first = spread.get("/orders").json()
    second = spread.get("/orders", params=first["next"]).json()
    assert_all_once(spread, first["data"]["items"] + second["data"]["items"])


def test_a_single_page_holds_everything(served: Serve) -> None:
    source = shop(served, "{type: single_page}", records=321)
    assert_all_once(source, source.get("/orders").json()["data"]["items"])


def test_the_page_limit_gives_fewer_than_asked_without_a_word(served: Serve) -> None:
    source = shop(served, "{type: offset, send: skip, size: {send: take, value: 500}}", page_limit=70)
    assert len(source.get("/orders", params={"take": 500}).json()["data"]["items"]) == 70


def test_past_the_declared_window_the_source_refuses(served: Serve) -> None:
    source = shop(
        served, "{type: offset, send: skip, max_records: 300, size: {send: take, value: 100}, total: total}", "asc"
    )
    assert source.get("/orders", params={"skip": 299}).json()["total"] == 1000
    assert source.get("/orders", params={"skip": 300}).status_code == 400


def test_changes_during_a_token_walk_lose_and_double_nothing(served: Serve) -> None:
    source = shop(served, "{type: cursor, read: next, send: after, size: {send: limit, value: 50}}", records=200)
    before = {row["id"] for row in source.truth("orders")}
    found, token = [], None
    while True:
        body = source.get("/orders", params={"after": token}).json()
        found += ids(body["data"]["items"])
        token = body.get("next")
        if token is None:
            break
        source.simulation.insert("orders", 3)
        source.simulation.update("orders", 5)
    assert before <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("pagination", "query"),
    [
        ("{type: cursor, read: next, send: after}", {"after": "zzz"}),
        ("{type: page_number, send: page}", {"page": "two"}),
        ("{type: page_number, send: page}", {"page": 0}),
        ("{type: offset, send: skip}", {"skip": -1}),
        ("{type: offset, send: skip, size: {send: take, value: 5}}", {"take": "0"}),
    ],
)
def test_a_position_that_is_none_is_refused(served: Serve, pagination: str, query: dict[str, Any]) -> None:
    answer = shop(served, pagination, records=10).get("/orders", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
