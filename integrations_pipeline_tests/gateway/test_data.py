"""`/data`: records read and edited over real HTTP, what an answer says of its age, who may, and what is refused."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.data import Data
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import WEBHOOK_BYTES
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.gateway.conftest import Door, serving, until
from integrations_pipeline_tests.gateway.shop import Shop, at, shop

__all__ = ["shop"]
THING = {
    "kind": "thing",
    "fields": {
        "name": {"type": "string", "required": True, "max_length": 20},
        "email": {"type": "string", "format": "email"},
        "stage": {"type": "string", "values": ["new", "old"]},
        "count": {"type": "integer", "min": 0},
        "amount": {"type": "decimal"},
        "live": {"type": "boolean"},
        "at": {"type": "timestamp"},
        "day": {"type": "date"},
        "owner": {"type": "string", "format": "uuid"},
        "tags": {"type": "json"},
    },
}
FULL = {
    "name": "a",
    "email": "a@example.com",
    "stage": "new",
    "count": 3,
    "amount": "12.300000000000000000001",
    "live": True,
    "at": "2024-05-01T10:00:00+02:00",
    "day": "2024-05-01",
    "owner": "6f9619ff-8b86-4011-b42d-00c04fc964ff",
    "tags": ["x", {"y": 1}],
}


@dataclass
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: dict[str, str]


def call(port: int, method: str, path: str, document: Any = None, **headers: str) -> Answer:
    """One request; ``document`` goes as JSON unless it is bytes."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        link.request(method, path, body, sent)
        found = link.getresponse()
        text = found.read()
        return Answer(found.status, json.loads(text) if text else None, {k.lower(): v for k, v in found.getheaders()})
    finally:
        link.close()


@dataclass
class Api:
    """A gateway with the kind `thing` and no connection."""

    door: Door

    def call(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        return call(self.door.port, method, path, document, **headers)

    def made(self, **values: Any) -> dict[str, Any]:
        answer = self.call("POST", "/data/thing", {"name": "x", **values})
        assert answer.status == 201, answer.body
        return dict(answer.body["data"])


@pytest.fixture
def api(tmp_path: Path, database_url: str) -> Iterator[Api]:
    for name in ("connections", "models"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "thing.yaml").write_text(json.dumps(THING))
    door = Door(tmp_path, database_url)
    with Store(database_url) as store:
        doors = Doors(Home(tmp_path))
        with serving(door, Gateway(doors, store.connect, data=Data(doors, store, Access(None, "")))):
            yield Api(door)


def test_a_record_is_made_read_changed_and_deleted(api: Api) -> None:
    made = api.call("POST", "/data/thing", FULL)
    record = made.body["data"]
    place = f"/data/thing/{record['id']}"
    assert (made.status, made.headers["location"], made.headers["etag"]) == (201, place, '"1"')
    shown = {**FULL, "amount": 12.3, "at": "2024-05-01T08:00:00Z"}
    assert {name: record[name] for name in FULL} == shown
    read = api.call("GET", place)
    assert (read.status, read.body["data"], read.headers["etag"]) == (200, record, '"1"')
    stored = api.door.rows("SELECT amount::text, tags FROM canonical.thing")
    assert stored == [{"amount": "12.300000000000000000001", "tags": ["x", {"y": 1}]}]
    changed = api.call("PATCH", place, {"stage": "old", "email": None})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"')
    assert (changed.body["data"]["stage"], changed.body["data"]["email"], changed.body["data"]["count"]) == (
        "old",
        None,
        3,
    )
    gone = api.call("DELETE", place)
    assert (gone.status, gone.body["data"]["version"]) == (200, 3)
    assert gone.body["data"]["deleted_at"] is not None
    assert [api.call("GET", place).status, api.call("PATCH", place, {"count": 1}).status] == [410, 410]
    assert api.call("GET", "/data/thing").body["data"] == []
    edits = api.door.rows("SELECT operation FROM integrations.edit ORDER BY edited_at")
    assert [row["operation"] for row in edits] == ["create", "update", "delete"]


def test_a_list_is_walked_page_by_page_while_it_grows(api: Api) -> None:
    made = [api.made(name=f"n{number}")["id"] for number in range(7)]
    seen: list[str] = []
    place = ""
    while True:
        page = api.call("GET", f"/data/thing?_limit=3{place}").body
        seen += [row["id"] for row in page["data"]]
        if len(seen) == 3:
            made.append(api.made(name="late")["id"])
        if page["next"] is None:
            break
        place = f"&_after={page['next']}"
    assert seen == made


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("stage=new", ["a", "b"]),
        ("stage=new&live=true", ["a"]),
        ("count=2", ["b"]),
        ("amount=1.50", ["b"]),
        ("at=2024-01-01T01:00:00%2B01:00", ["a"]),
        ("day=2024-01-02", ["b"]),
        ("owner=6f9619ff-8b86-4011-b42d-00c04fc964ff", ["c"]),
        ("email=", ["a", "b", "c"]),
        ("stage=", ["c"]),
        ("name=%27%20OR%201=1--", []),
    ],
)
def test_a_list_is_filtered_by_what_fields_equal(api: Api, query: str, found: list[str]) -> None:
    api.made(name="a", stage="new", live=True, at="2024-01-01T00:00:00Z")
    api.made(name="b", stage="new", count=2, amount="1.5", day="2024-01-02")
    api.made(name="c", owner="6F9619FF-8B86-4011-B42D-00C04FC964FF")
    assert [row["name"] for row in api.call("GET", f"/data/thing?{query}").body["data"]] == found


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"nam": "x"}, "nam", "did you mean name"),
        ({}, "name", "required"),
        ({"name": None}, "name", "required"),
        ({"name": 5}, "name", "not text"),
        ({"name": "x" * 21}, "name", "at most 20 characters"),
        ({"name": "x\0"}, "name", "NUL"),
        ({"name": "\ud800"}, "name", "JSON"),
        ({"name": "x", "email": "nobody"}, "email", "format email"),
        ({"name": "x", "stage": "odd"}, "stage", "one of new, old"),
        ({"name": "x", "count": -1}, "count", "at least 0"),
        ({"name": "x", "count": 1.5}, "count", "not an integer"),
        ({"name": "x", "count": 2**63}, "count", "64 bits"),
        ({"name": "x", "live": "yes"}, "live", "not true or false"),
        ({"name": "x", "at": "2024-01-01T10:00"}, "at", "names no zone"),
        ({"name": "x", "day": "today"}, "day", "no ISO date"),
        ({"name": "x", "owner": "me"}, "owner", "UUID"),
        ({"name": "x", "tags": {"a": "\0"}}, "tags", "NUL"),
        ({"name": "x", "id": "1"}, "id", "no such field"),
    ],
)
def test_what_does_not_fit_its_field_is_refused_whole(api: Api, given: Any, field: str, message: str) -> None:
    answer = api.call("POST", "/data/thing", given)
    problem = answer.body["error"]["problems"][0]
    assert (answer.status, problem["field"]) == (422, field)
    assert message in problem["message"]
    assert problem["expected"]
    assert api.call("GET", "/data/thing").body["data"] == []


def test_all_that_is_wrong_is_said_at_once(api: Api) -> None:
    answer = api.call("POST", "/data/thing", {"count": "many", "stage": "odd", "new": 1})
    assert [one["field"] for one in answer.body["error"]["problems"]] == ["count", "stage", "new", "name"]


def test_a_change_is_refused_where_the_record_moved_on(api: Api) -> None:
    place = f"/data/thing/{api.made()['id']}"
    assert api.call("PATCH", place, {"count": 1}, If_Match='"1"').status == 200
    late = api.call("PATCH", place, {"count": 2}, If_Match='"1"')
    assert (late.status, late.headers["etag"]) == (412, '"2"')
    assert api.call("DELETE", place, If_Match='W/"2"').status == 412
    assert api.call("PATCH", place, {"count": 3}, If_Match='"9", "2"').body["data"]["version"] == 3
    assert api.call("DELETE", place, If_Match="*").status == 200


def test_one_key_makes_one_record(api: Api) -> None:
    """Also of eight at once."""
    body = {"name": "once", "count": 1}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.call("POST", "/data/thing", body, Idempotency_Key="k1"), range(8)))
    assert {one.status for one in answers} == {201}
    assert len({(one.body["data"]["id"], one.body["change"]["id"]) for one in answers}) == 1
    assert sum("idempotency-replayed" in one.headers for one in answers) == 7
    assert len(api.door.rows("SELECT FROM canonical.thing")) == 1
    other = api.call("POST", "/data/thing", {"name": "other"}, Idempotency_Key="k1")
    assert (other.status, other.body["error"]["class"]) == (422, "data")
    assert api.call("POST", "/data/thing", {"name": "x"}, Idempotency_Key="").status == 400
    refused = api.call("POST", "/data/thing", {"name": 1}, Idempotency_Key="k2")
    assert (refused.status, api.call("POST", "/data/thing", body, Idempotency_Key="k2").status) == (422, 201)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/data/nothing", None, {}, 404),
        ("GET", "/data/thing/7", None, {}, 404),
        ("GET", "/data/thing/6f9619ff-8b86-4011-b42d-00c04fc964ff", None, {}, 404),
        ("PATCH", "/data/thing/6f9619ff-8b86-4011-b42d-00c04fc964ff", {"count": 1}, {}, 404),
        ("GET", "/changes/6f9619ff-8b86-4011-b42d-00c04fc964ff", None, {}, 404),
        ("GET", "/data/thing?_limit=0", None, {}, 422),
        ("GET", "/data/thing?_limit=100000", None, {}, 422),
        ("GET", "/data/thing?_after=x", None, {}, 422),
        ("GET", "/data/thing?tags=1", None, {}, 422),
        ("GET", "/data/thing?count=1&count=2", None, {}, 422),
        ("GET", "/data/thing?colour=red", None, {}, 422),
        ("POST", "/data/thing", b"{", {}, 400),
        ("POST", "/data/thing", b"[1]", {}, 422),
        ("POST", "/data/thing", b"name=x", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/data/thing", b'{"name":"x"}', {"Content_Type": "text/plain"}, 415),
        ("POST", "/data/thing", b'"' + b"x" * WEBHOOK_BYTES + b'"', {}, 413),
        ("PUT", "/data/thing", {"name": "x"}, {}, 405),
    ],
)
def test_what_is_asked_wrong(api: Api, method: str, path: str, body: Any, headers: Any, status: int) -> None:
    link = http.client.HTTPConnection("127.0.0.1", api.door.port, timeout=60)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    link.request(method, path, json.dumps(body) if isinstance(body, dict) else body, sent)
    answer = link.getresponse()
    text = answer.read()
    link.close()
    assert answer.status == status
    if status != 405:
        error = json.loads(text)["error"]
        assert error["class"]
        assert error["message"]


def test_only_this_machine_may_without_a_token(api: Api) -> None:
    """Neither a proxy nor a browser that a foreign page has sent here is this machine."""
    assert api.call("GET", "/data/thing").status == 200
    for header in ({"Host": "data.example.com"}, {"X_Forwarded_For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}):
        refused = api.call("GET", "/data/thing", **header)
        assert (refused.status, refused.body["error"]["class"]) == (403, "permission")
        assert api.call("POST", "/data/thing", {"name": "x"}, **header).status == 403
    assert api.door.rows("SELECT FROM integrations.edit") == []


def test_the_token_is_asked_of_everybody(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATIONS_TOKEN", "a token of this test")
    with Store(api.door.database_url) as store:
        doors, door = Doors(Home(tmp_path)), Door(tmp_path, api.door.database_url)
        with serving(door, Gateway(doors, store.connect, data=Data(doors, store))):
            for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic a token of this test"}):
                refused = call(door.port, "GET", "/data/thing", **wrong)
                assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert "a token of this test" not in json.dumps(refused.body)
            right = {"Authorization": "Bearer a token of this test", "Host": "data.example.com"}
            assert call(door.port, "GET", "/data/thing", **right).status == 200


def test_a_public_gateway_without_a_token_has_no_data(api: Api, tmp_path: Path) -> None:
    """A proxy before it may hide that a request came from outside."""
    with Store(api.door.database_url) as store:
        doors, door = Doors(Home(tmp_path), "https://hooks.example.com"), Door(tmp_path, api.door.database_url)
        with serving(door, Gateway(doors, store.connect, data=Data(doors, store, Access(doors.public_url, "")))):
            assert call(door.port, "GET", "/data/thing").status == 403


def test_an_answer_says_how_old_it_is(shop: Shop) -> None:
    """Never read, read, and then the source is down: what is held is served, and said to be old."""
    shop.write(apply="sensor")

    def data() -> dict[str, Any]:
        answer = call(shop.door.port, "GET", "/data/customer")
        assert answer.status == 200
        return dict(answer.body)

    first = until(lambda: found if (found := data())["reason"] else None)
    assert (first["status"], first["stale"], first["as_of"], first["data"]) == ("unavailable", True, None, [])
    assert first["reason"] == "acme/contacts: never read to its end yet"
    shop.tables["contacts"]["1"] = {"id": "1", "updated": at(1), "email": "e", "name": "n"}
    shop.poll("contacts")
    fresh = data()
    assert (fresh["status"], fresh["stale"], fresh["reason"]) == ("fresh", False, None)
    assert [row["name"] for row in fresh["data"]] == ["n"]
    shop.fails["contacts"] = 503
    shop.poll("contacts")
    old = data()
    assert (old["status"], old["stale"], old["as_of"], old["data"]) == ("stale", True, fresh["as_of"], fresh["data"])
    assert "503" in old["reason"]
    assert old["next_try"] > old["as_of"]
    record = call(shop.door.port, "GET", f"/data/customer/{old['data'][0]['id']}").body
    assert (record["stale"], record["as_of"]) == (True, fresh["as_of"])
    ours = call(shop.door.port, "POST", "/data/customer", {"name": "ours"}).body["data"]
    assert call(shop.door.port, "GET", f"/data/customer/{ours['id']}").body["status"] == "fresh"


def writer(api: Api, name: str) -> None:
    """A connection that things are written to."""
    stream = {
        "request": "GET /things",
        "records": "items",
        "primary_key": "id",
        "map": {"to": "thing", "fields": {"name": "name"}},
        "write": {"fields": ["name"], "update": "PATCH /things/<external_id>"},
    }
    source = {"url": "http://127.0.0.1:9", "pagination": {"type": "single_page"}}
    api.door.write(name, json.dumps({"connection": name, "api": source, "streams": {"things": stream}}))


OUTBOX = """
INSERT INTO integrations.outbox (connection, stream, kind, canonical_id, operation, changes, edited_at, status, outcome)
SELECT %s, 'things', 'thing', e.record_id, 'update', '{}', e.edited_at, %s, 'sent'
FROM integrations.edit e WHERE e.id = %s
"""
LOOKED = """
UPDATE integrations.merge_state SET merged_below = pg_current_xact_id()
"""
MERGED = """
INSERT INTO integrations.merge_state (connection, stream, merged_below) VALUES (%s, 'things', pg_current_xact_id())
"""


def test_an_edit_is_followed_to_each_place_it_is_written_to(api: Api) -> None:
    """By what merge and push leave: nobody has looked, on its way, sent; nothing to send; of others nothing."""
    answer = api.call("POST", "/data/thing", {"name": "n"})
    change = answer.body["change"]["url"]
    api.made()

    def followed() -> tuple[str, dict[str, str]]:
        told = api.call("GET", change).body
        return told["status"], {one["connection"]: one["status"] for one in told["connections"]}

    assert followed() == ("done", {})
    for name in ("a", "b"):
        writer(api, name)
    until(lambda: len(followed()[1]) == 2)
    assert followed() == ("pending", {"a": "waiting", "b": "waiting"})
    with psycopg.connect(api.door.database_url, autocommit=True) as session:
        session.execute(MERGED, ("b",))
        session.execute(OUTBOX, ("a", "queued", answer.body["change"]["id"]))
        assert followed() == ("pending", {"a": "queued", "b": "nothing_to_send"})
        session.execute("UPDATE integrations.outbox SET status = 'dead'")
        assert followed() == ("attention", {"a": "dead", "b": "nothing_to_send"})
        session.execute("UPDATE integrations.outbox SET changes = jsonb_build_object('name', 'n')")
        session.execute(MERGED, ("a",))
        place = f"/data/thing/{answer.body['data']['id']}"
        change = api.call("PATCH", place, {"name": "n"}).body["change"]["url"]
        session.execute(LOOKED)
        assert followed() == ("attention", {"a": "dead", "b": "nothing_to_send"}), "the same again, which hasn't left"
        change = api.call("PATCH", place, {"name": "other"}).body["change"]["url"]
        session.execute(LOOKED)
        assert followed() == ("done", {"a": "nothing_to_send", "b": "nothing_to_send"})
        session.execute("UPDATE integrations.outbox SET status = 'done'")
        change = answer.body["change"]["url"]
        assert followed() == ("done", {"a": "done", "b": "nothing_to_send"})


def test_while_the_database_is_away_nothing_is_a_500(api: Api) -> None:
    name = psycopg.conninfo.conninfo_to_dict(api.door.database_url)["dbname"]
    record = api.made()
    elsewhere = psycopg.conninfo.make_conninfo(api.door.database_url, dbname="postgres")
    with psycopg.connect(elsewhere, autocommit=True) as session:
        session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        read = api.call("GET", "/data/thing")
        assert (read.status, read.body["status"], read.body["data"]) == (200, "unavailable", [])
        assert (read.body["stale"], read.body["as_of"]) == (True, None)
        assert "database" in read.body["reason"]
        one = api.call("GET", f"/data/thing/{record['id']}")
        assert (one.status, one.body["status"], one.body["data"]) == (200, "unavailable", None)
        written = api.call("POST", "/data/thing", {"name": "x"})
        assert (written.status, written.body["error"]["class"]) == (503, "destination")
        session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert api.call("GET", "/data/thing").body["data"] == [record]
