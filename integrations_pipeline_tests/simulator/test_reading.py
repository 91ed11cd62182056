"""What a list holds: the cursor's bounds in every form and place, deletions, one record, children, objects by key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from integrations_pipeline.simulator.redirecting import simulated
from integrations_pipeline_tests.simulator.conftest import Serve, Source

HEAD = """
connection: shop
settings: {}
api:
  url: https://api.shop.example
  pagination: {type: single_page}
streams:
"""

ORDERS = """
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: changed, send: since, send_end: until%s}
    fields:
      id: {type: integer, required: true}
      changed: {%s, required: true}
"""


def orders(served: Serve, field: str, cursor: str = "", **options: Any) -> Source:
    return served(HEAD + ORDERS % (cursor, field), **options)


@pytest.mark.parametrize(
    ("field", "cursor"),
    [
        ("type: timestamp", ""),
        ("type: timestamp", ", order: asc"),
        ("type: timestamp, formats: [unix]", ", format: unix, order: desc"),
        ("type: timestamp, formats: [unix_ms]", ", format: unix_ms"),
        ("type: timestamp, formats: ['%d.%m.%Y %H:%M:%S']", ", format: '%d.%m.%Y %H:%M:%S'"),
        ("type: date", ", format: date"),
        ("type: integer", ""),
    ],
)
def test_the_cursor_bounds_a_list_inclusively_in_every_format(served: Serve, field: str, cursor: str) -> None:
    source = orders(served, field, cursor, records=300)
    stamps = {row["id"]: row["changed"] for row in source.truth("orders")}
    ranked = sorted(stamps, key=lambda key: order_of(stamps[key]))
    low, high = stamps[ranked[100]], stamps[ranked[200]]
    items = source.get("/orders", params={"since": low, "until": high}).json()["items"]
    wanted = {key for key, stamp in stamps.items() if order_of(low) <= order_of(stamp) <= order_of(high)}
    assert {item["id"] for item in items} == wanted
    assert len(items) == len(wanted)
    assert source.get("/orders", params={"since": "last week"}).status_code == 400


def order_of(stamp: Any) -> Any:
    return datetime.strptime(stamp, "%d.%m.%Y %H:%M:%S") if isinstance(stamp, str) and stamp[2] == "." else stamp


def test_a_sent_cursor_may_be_coarser_than_the_field(served: Serve) -> None:
    source = orders(served, "type: timestamp", ", format: date", records=300)
    items = source.get("/orders", params={"since": "2024-02-01", "until": "2024-02-29"}).json()["items"]
    wanted = [row for row in source.truth("orders") if row["changed"].startswith("2024-02")]
    assert sorted(items, key=lambda item: item["id"]) == wanted
    assert len(wanted) > 20


def test_a_changed_record_comes_back_with_a_later_stamp(served: Serve) -> None:
    source = orders(served, "type: timestamp", ", order: asc", records=50)
    before = source.get("/orders").json()["items"]
    changed = source.simulation.update("orders", 3)
    items = source.get("/orders", params={"since": before[-1]["changed"]}).json()["items"]
    assert [str(item["id"]) for item in items] == [str(before[-1]["id"]), *changed]
    assert datetime.fromisoformat(items[-1]["changed"]) <= datetime.now(UTC)


def test_a_record_may_appear_late_below_the_watermark(served: Serve) -> None:
    source = orders(served, "type: timestamp", ", order: asc", records=50)
    middle = source.get("/orders").json()["items"][24]["changed"]
    source.simulation.insert("orders", [{"id": 7777, "changed": middle}])
    items = source.get("/orders", params={"since": middle}).json()["items"]
    assert [item["id"] for item in items[:3]] == [25, 7777, 26]
    assert source.get("/orders", params={"until": middle}).json()["items"][-1]["id"] == 7777


CURSOR_IN_REQUEST = """
  found:
    request: POST /search
    body: {filter: [{field: changed, gte: <cursor>}], sort: up}
    records: items
    primary_key: id
    cursor: {field: changed, format: unix_ms, start: 2024-01-01}
    fields: {id: {type: integer}, changed: {type: timestamp}}
  queried:
    request: GET /query
    query: {q: "changed>=<cursor> and kind=1", lang: en}
    records: items
    primary_key: id
    cursor: {field: changed, start: 2024-01-01}
    fields: {id: {type: integer}, changed: {type: timestamp}}
  windowed:
    request: GET /days/<cursor>/to/<cursor.end>
    records: items
    primary_key: id
    cursor: {field: day, format: date, start: 2024-03-01, step: 30d}
    fields: {id: {type: integer}, day: {type: date}}
"""


def test_the_cursor_is_read_out_of_bodies_queries_and_paths(served: Serve) -> None:
    source = served(HEAD + CURSOR_IN_REQUEST, records=100)
    moment = source.truth("found")[60]["changed"]
    stamp = int(datetime.fromisoformat(moment).timestamp() * 1000)
    body = {"filter": [{"field": "changed", "gte": stamp}], "sort": "up"}
    items = source.session.post(source.url + "/search", json=body, timeout=10).json()["items"]
    assert {i["id"] for i in items} == {r["id"] for r in source.truth("found") if r["changed"] >= moment}
    items = source.get("/query", params={"q": f"changed>={moment} and kind=1", "lang": "en"}).json()["items"]
    assert {i["id"] for i in items} == {r["id"] for r in source.truth("queried") if r["changed"] >= moment}
    items = source.get("/days/2024-03-01/to/2024-03-31").json()["items"]
    assert items
    assert {i["id"] for i in items} == {r["id"] for r in source.truth("windowed") if r["day"] <= "2024-03-31"}


def test_an_opaque_cursor_gives_what_changed_since_the_list_began(served: Serve) -> None:
    text = """
  events:
    request: GET /events
    records: items
    primary_key: id
    pagination: {type: cursor, read: nextPageToken, send: pageToken, size: {send: maxResults, value: 30}}
    cursor: {read: nextSyncToken, send: syncToken}
    deletes: {when: {status: cancelled}}
    fields: {id: {type: string}, status: {type: string, values: [confirmed, cancelled]}}
"""
    source = served(HEAD + text, records=100)
    body = source.get("/events").json()
    seen = len(body["items"])
    changed = source.simulation.update("events", 2)
    while "nextPageToken" in body:
        assert "nextSyncToken" not in body
        body = source.get("/events", params={"pageToken": body["nextPageToken"]}).json()
        seen += len(body["items"])
    assert seen == 100
    [gone] = source.simulation.delete("events", 1)
    items = source.get("/events", params={"syncToken": body["nextSyncToken"]}).json()["items"]
    assert {item["id"] for item in items} == {*changed, gone}
    assert [item["id"] for item in items if item["status"] == "cancelled"] == [gone]
    assert source.get("/events", params={"syncToken": "stale!"}).status_code == 410
    listed = [source.get("/events").json()]
    while "nextPageToken" in listed[-1]:
        listed.append(source.get("/events", params={"pageToken": listed[-1]["nextPageToken"]}).json())
    assert gone not in {item["id"] for page in listed for item in page["items"]}
    later = listed[-1]["nextSyncToken"]
    assert source.get("/events", params={"syncToken": later}).json()["items"] == []
    source.simulation.reset()
    assert source.get("/events", params={"syncToken": later}).status_code == 410
    first = source.get("/events", params={"maxResults": 500}).json()["nextSyncToken"]
    assert source.get("/events", params={"syncToken": first}).status_code == 200
    assert source.control("expire", json={}).status_code == 200
    assert source.get("/events", params={"syncToken": first}).status_code == 410


FLAGGED = """
  flagged:
    request: GET /flagged
    records: items
    primary_key: id
    cursor: {field: changed, send: since, order: asc}
    deletes: {when: archived}
    get: GET /flagged/<external_id>
    fields: {id: {type: string}, changed: {type: timestamp}}
  plain:
    request: GET /plain
    records: items
    primary_key: id
    get: {request: GET /plain/<external_id>, record: item}
    deletes:
      feed: {call: GET /gone, records: gone, key: ref, cursor: {field: at, send: since}}
    fields: {id: {type: string, format: uuid}, name: {type: string}}
"""


def test_deletions_show_as_flags_where_declared_and_else_as_absence(served: Serve) -> None:
    source = served(HEAD + FLAGGED, records=20)
    [flagged], [plain] = source.simulation.delete("flagged"), source.simulation.delete("plain")
    last = source.get("/flagged").json()["items"][-1]
    assert (last["id"], last["archived"]) == (flagged, True)
    assert source.get(f"/flagged/{flagged}").json() == last
    assert plain not in {item["id"] for item in source.get("/plain").json()["items"]}
    assert source.get(f"/plain/{plain}").status_code == 404
    assert source.get("/gone").json()["gone"][0]["ref"] == plain
    assert source.simulation.counts() == {"flagged": 19, "plain": 19}
    assert len(source.truth("flagged")) == 19
    assert len(list(source.simulation.contents("flagged", deleted=True))) == 20


def test_one_record_by_its_key(served: Serve) -> None:
    source = served(HEAD + FLAGGED, records=20)
    for row in source.truth("plain"):
        assert source.get(f"/plain/{row['id']}").json() == {"item": row}
    assert source.get("/plain/none").status_code == 404


FAMILY = """
  customers:
    request: GET /customers
    records: {path: list, unwrap: customer, include: {changed: meta.changed}}
    primary_key: id
    fields: {id: {type: string}, changed: {type: timestamp}}
  orders:
    request: GET /customers/<customers.id>/orders
    records: {path: rows, include: {customer: parent id, region: header X-Region}, optional: true}
    pagination: {type: offset, send: skip, total: total, size: {send: take, value: 2}}
    primary_key: id
  lines:
    parent: orders
    records: {path: lines, include: {order: parent id}}
    primary_key: [order, id]
    fields: {id: {type: integer}, quantity: {type: integer, min: 1}}
"""


def test_children_are_listed_under_their_parents(served: Serve) -> None:
    source = served(HEAD + FAMILY, records=40)
    orders, lines, empty = [], [], 0
    for item in source.get("/customers").json()["list"]:
        assert set(item) == {"customer", "meta"}
        customer, mine = item["customer"]["id"], []
        while True:
            answer = source.get(f"/customers/{customer}/orders", params={"skip": len(mine)})
            if not answer.json().get("rows"):
                break
            mine += [
                row | {"customer": customer, "region": answer.headers["X-Region"]} for row in answer.json()["rows"]
            ]
        empty += not mine
        assert answer.json()["total"] == len(mine)
        orders += mine
        lines += [line | {"order": row["id"]} for row in mine for line in row["lines"]]
    assert empty
    assert orders == source.truth("orders")
    assert lines == source.truth("lines")
    assert len({(line["order"], line["id"]) for line in lines}) == len(lines) > 50
    assert source.simulation.counts() == {"customers": 40, "orders": len(orders), "lines": len(lines)}


def test_a_call_may_name_another_host(served: Serve) -> None:
    text = """
  near:
    request: GET https://api.shop.example/near
    records: .
    primary_key: id
  far:
    request: GET https://files.shop.example/v9/far
    full: {request: GET https://files.shop.example/v9/all}
    records: .
    primary_key: id
"""
    source = served(HEAD + text, records=10)
    streams = simulated(source.simulation.connection, source.port).streams
    full = streams["far"].full
    assert full is not None
    for call, stream in ((streams["near"].request, "near"), (streams["far"].request, "far"), (full.request, "far")):
        method, url = str(call).split()
        assert url.startswith(f"http://127.0.0.1:{source.port}/shop/")
        assert source.session.request(method, url, timeout=10).json() == source.truth(stream)


def test_a_body_may_be_a_form(served: Serve) -> None:
    source = served(HEAD + CURSOR_IN_REQUEST.replace("[{field: changed, gte: <cursor>}]", "{gte: <cursor>}"))
    data = {"filter[gte]": "1720000000000", "sort": "up"}
    items = source.session.post(source.url + "/search", data=data, timeout=10).json()["items"]
    assert {i["id"] for i in items} == {r["id"] for r in source.truth("found") if r["changed"] >= "2024-07-03T09:46:40"}


def test_a_parent_that_is_gone_takes_its_list_with_it(served: Serve) -> None:
    source = served(HEAD + FAMILY, records=10)
    [parent] = source.simulation.delete("customers")
    assert source.get(f"/customers/{parent}/orders").status_code == 404
    assert parent not in {row["customer"] for row in source.truth("orders")}
    alive = source.truth("customers")[0]["id"]
    [key] = source.simulation.insert("orders", [{"note": "new"}], parent=alive)
    rows = source.get(f"/customers/{alive}/orders", params={"take": 50}).json()["rows"]
    assert [row["note"] for row in rows if str(row["id"]) == key] == ["new"]


SHAPES = """
  whole:
    request: GET /whole
    records: .
    primary_key: number
    skip: {pull_request: {present: true}}
    fields: {number: {type: integer}, labels.0.name: {type: string, required: true}}
  settings:
    request: GET /settings
    record: data
    primary_key: id
  stock:
    request: GET /stock
    records: {path: stock, keyed_by: [place, sku], include: {as_of: body meta.as_of}}
    primary_key: [place, sku]
    fields: {place: {type: string, values: [north, south]}, sku: {type: string}, quantity: {type: integer, max: 9}}
"""


def test_lists_singles_and_keyed_objects_take_their_declared_shape(served: Serve) -> None:
    source = served(HEAD + SHAPES, records=60)
    whole = source.get("/whole").json()
    assert whole == source.truth("whole")
    assert all(row["labels"][0]["name"] for row in whole)
    assert 0 < sum(row["pull_request"] is not None for row in whole) < 20
    assert source.get("/settings").json() == {"data": source.truth("settings")[0]}
    assert source.simulation.counts()["settings"] == 1
    body = source.get("/stock").json()
    rows = [
        {"place": place, "sku": sku, **leaf, "as_of": body["meta"]["as_of"]}
        for place, inner in body["stock"].items()
        for sku, leaf in inner.items()
    ]
    assert sorted(rows, key=str) == sorted(source.truth("stock"), key=str)
    assert all(row["quantity"] is None or 1 <= row["quantity"] <= 9 for row in rows)


def test_requests_of_one_path_are_told_apart_by_what_is_fixed_in_them(served: Serve) -> None:
    text = """
  people:
    request: GET /events
    query: {"types[]": [person.created, person.updated]}
    records: {path: data, unwrap: data.object}
    primary_key: id
    fields: {id: {type: string}}
  places:
    request: GET /events
    query: {"types[]": [place.created]}
    records: {path: data, unwrap: data.object}
    primary_key: id
    fields: {id: {type: string}}
  things:
    request: POST /graphql
    graphql: "{ things { id } }"
    records: data.things
    primary_key: id
  parts:
    request: POST /graphql
    graphql: "{ parts { id } }"
    records: data.parts
    primary_key: id
"""
    source = served(HEAD + text, records=10)
    people = source.get("/events", params={"types[]": ["person.created", "person.updated"]}).json()["data"]
    places = source.get("/events", params={"types[]": ["place.created"]}).json()["data"]
    assert people[0]["data"]["object"]["id"].startswith("peo_")
    assert places[0]["data"]["object"]["id"].startswith("pla_")
    for name in ("things", "parts"):
        answer = source.session.post(source.url + "/graphql", json={"query": f"{{ {name} {{ id }} }}"}, timeout=10)
        assert list(answer.json()["data"]) == [name]
