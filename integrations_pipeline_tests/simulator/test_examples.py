"""The grammar's own examples and the catalogue's connectors, simulated and walked as their real readers would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.simulator.subjects import PRODUCTS, rate
from integrations_pipeline.spec.conditions import matches
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.paths import MISSING, parse_path
from integrations_pipeline.spec.values import parser
from integrations_pipeline_tests.simulator.conftest import ROOT, Serve, Source

Example = Callable[[str], Connection]
BEARER = {"Authorization": "Bearer s3cret"}
NAMES = ("hubspot_eu", "acme_eu", "github_shop", "stripe_eu", "reference_rates", "fx")


def start(served: Serve, connection: Connection, **options: Any) -> Source:
    source = served(connection, secrets=dict.fromkeys(connection.secrets, "s3cret"), **options)
    if connection.secrets:
        source.session.headers.update(BEARER)
    return source


def by_key(rows: list[dict[str, Any]], key: str = "id") -> list[dict[str, Any]]:
    assert len({row[key] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: row[key])


def test_every_example_makes_records_that_its_own_contract_accepts(example: Example) -> None:
    for name in NAMES:
        connection = example(name)
        simulation = Simulation(connection, records=200, secrets=dict.fromkeys(connection.secrets, "s3cret"))
        for stream_name, stream in connection.streams.items():
            rows = list(simulation.contents(stream_name))
            assert len(rows) >= 30
            keys = {tuple(path.get(row) for path in stream.primary_key) for row in rows}
            assert len(keys) == len(rows)
            assert not any(MISSING in key or None in key for key in keys)
            for text, field in stream.fields.items():
                parse, found = parser(field), [parse_path(text).get(row) for row in rows]
                values = [parse(value) for value in found]
                assert None not in values or not field.required
                assert field.values is None or matches(values[0], [*field.values, None])
            assert not any(stream.deletes.when.holds(row) for row in rows if stream.deletes and stream.deletes.when)


def test_rates_come_by_window_and_currency(served: Serve, example: Example) -> None:
    for name, base in (("reference_rates", "EUR"), ("fx", "USD")):
        source = start(served, example(name), records=9_000)
        rows, day = [], date(2024, 1, 1)
        while day <= datetime.now(UTC).date():
            end = day + timedelta(days=90)
            body = source.get(f"/{day}..{end}", params={"base": base}).json()
            rows += [
                {"currency": currency, "date": when, "rate": rate, "base": body["base"]}
                for when, rates in body["rates"].items()
                for currency, rate in rates.items()
            ]
            day = end + timedelta(days=1)
        truth = source.truth("rates")
        assert len(rows) == len(truth) == 9_000
        assert sorted(rows, key=str) == sorted(({k: r[k] for k in rows[0]} for r in truth), key=str)
        assert {row["base"] for row in rows} == {base}
        assert max(row["date"] for row in rows) == (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
        assert source.get("/currencies").json() == {r["code"]: r["name"] for r in source.truth("currencies")}


def test_a_new_rate_is_the_next_key(served: Serve, example: Example) -> None:
    source = start(served, example("fx"), records=300)
    before = len(source.truth("rates"))
    [key] = source.simulation.insert("rates")
    assert key == f'["USD","{datetime.now(UTC).date()}","EUR"]'
    assert len(source.truth("rates")) == before + 1
    source.simulation.update("rates", [key], {"rate": 3.5})
    source.simulation.delete("rates", 1)
    assert source.simulation.counts()["rates"] == before


def test_crm_search_by_post_and_its_full_list(served: Serve, example: Example) -> None:
    source = start(served, example("hubspot_eu"), records=900)
    truth = source.truth("contacts")
    stamp = 1_704_067_200_000
    body: dict[str, Any] = {
        "filterGroups": [{"filters": [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": stamp}]}],
        "sorts": [{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}],
        "properties": ["email"],
        "limit": 200,
    }
    found: list[dict[str, Any]] = []
    while True:
        answer = source.session.post(source.url + "/crm/v3/objects/contacts/search", json=body, timeout=10).json()
        found += answer["results"]
        if "paging" not in answer:
            break
        body["after"] = answer["paging"]["next"]["after"]
    stamps = [row["properties"]["lastmodifieddate"] for row in found]
    assert stamps == sorted(stamps)
    assert by_key(found) == truth
    listed, after = [], None
    while True:
        answer = source.get("/crm/v3/objects/contacts", params={"limit": 100, "after": after}).json()
        listed += answer["results"]
        if "paging" not in answer:
            break
        after = answer["paging"]["next"]["after"]
    assert by_key(listed) == truth
    assert source.get(f"/crm/v3/objects/contacts/{truth[7]['id']}").json() == truth[7]
    stages = {row["properties"]["lifecyclestage"] for row in truth}
    assert {"lead", "customer"} <= stages


def test_crm_tombstones_are_searched_but_not_listed(served: Serve, example: Example) -> None:
    source = start(served, example("hubspot_eu"), records=20)
    [gone] = source.simulation.delete("contacts")
    url = source.url + "/crm/v3/objects/contacts"
    found = source.session.post(url + "/search", json={"limit": 200}, timeout=10).json()["results"]
    assert [row["id"] for row in found if row["archived"]] == [gone]
    assert gone not in {row["id"] for row in source.get("/crm/v3/objects/contacts").json()["results"]}


def test_past_the_search_window_the_crm_refuses(served: Serve, example: Example) -> None:
    source = start(served, example("hubspot_eu"), records=10_300, page_limit=10_000)
    body: dict[str, Any] = {"limit": 5000}
    url = source.url + "/crm/v3/objects/contacts/search"
    for _ in range(2):
        answer = source.session.post(url, json=body, timeout=10)
        body["after"] = answer.json()["paging"]["next"]["after"]
    assert source.session.post(url, json=body, timeout=10).status_code == 400


def test_notes_are_children_of_contacts(served: Serve, example: Example) -> None:
    source = start(served, example("acme_eu"), records=30)
    contacts, after = [], None
    while True:
        body = source.get("/contacts", params={"after": after, "limit": 7}).json()
        contacts += body["results"]
        if "paging" not in body:
            break
        after = body["paging"]["next"]["after"]
    assert by_key(contacts) == source.truth("contacts")
    notes = [
        note | {"contact": contact["id"]}
        for contact in by_key(contacts)
        for note in source.get(f"/contacts/{contact['id']}/notes").json()["results"]
    ]
    assert notes == source.truth("notes")


def test_issues_by_links_and_nothing_new(served: Serve, example: Example) -> None:
    source = start(served, example("github_shop"), records=250)
    params = {"state": "all", "sort": "updated", "direction": "asc", "per_page": 100}
    answer = source.get("/issues", params=params)
    etag, found = answer.headers["ETag"], answer.json()
    while "next" in answer.links:
        answer = source.session.get(answer.links["next"]["url"], timeout=10)
        found += answer.json()
    assert by_key(found, "number") == source.truth("issues")
    assert source.get("/issues", params=params, headers={"If-None-Match": etag}).status_code == 304
    assert source.get("/issues/17").json()["number"] == 17
    comments = source.get("/issues/comments", params={"sort": "updated", "direction": "asc"}).json()
    numbers = {str(issue["number"]) for issue in found}
    assert {comment["issue_url"].rsplit("/", 1)[1] for comment in comments} <= numbers


def test_payments_by_events_and_by_list(served: Serve, example: Example) -> None:
    source = start(served, example("stripe_eu"), records=230)
    types = {"types[]": ["customer.created", "customer.updated", "customer.deleted"]}
    [gone] = source.simulation.delete("customers")
    events = keyset(source, "/events", types)
    assert [event["created"] for event in events] == sorted((e["created"] for e in events), reverse=True)
    assert [event["data"]["object"]["id"] for event in events if event["type"] == "customer.deleted"] == [gone]
    landed = [event["data"]["object"] | {"change": event["type"], "changed": event["created"]} for event in events]
    assert [row for row in by_key(landed) if row["id"] != gone] == source.truth("customers")
    listed = keyset(source, "/customers", {})
    assert {row["id"] for row in listed} == {row["id"] for row in source.truth("customers")}
    charges = keyset(source, "/charges", {})
    customers = {row["id"] for row in source.truth("customers")} | {gone}
    assert {row["customer"] for row in charges if row["customer"]} <= customers
    assert all(row["amount"] > 0 and row["currency"] for row in charges)
    last = events[50]["created"]
    recent = keyset(source, "/events", {**types, "created[gte]": last})
    assert {event["id"] for event in recent} == {event["id"] for event in events if event["created"] >= last}


def keyset(source: Source, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        body = source.get(path, params={**params, **after, "limit": 100}).json()
        found += body["data"]
        if not body["has_more"]:
            return found


def test_what_the_demo_shows_makes_sense() -> None:
    names = ("demo_shop", "demo_calendar")
    shop, calendar = (Simulation(load_connection(name, Home(ROOT)), records=200) for name in names)
    named = {row["title"].split(",")[0]: row["product_type"] for row in shop.contents("products")}
    assert named.items() <= dict(PRODUCTS).items()
    for row in calendar.contents("events"):
        begin, end = row["start"], row["end"]
        assert (begin["dateTime"] is None) != (begin["date"] is None)
        assert begin["dateTime"] is None or begin["dateTime"] < end["dateTime"]
        assert begin["date"] is None or begin["date"] < end["date"]
        assert row["attendees"] is None or all("@" in one["email"] for one in row["attendees"])


def test_rates_are_near_what_they_were() -> None:
    for day in range(19_000, 20_000, 97):
        assert 0.9 < rate("EUR", "USD", day) < 1.3
        assert 130 < rate("USD", "JPY", day) < 170
        assert abs(rate("EUR", "USD", day + 1) / rate("EUR", "USD", day) - 1) < 0.01
