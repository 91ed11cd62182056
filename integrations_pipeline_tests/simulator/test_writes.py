"""What is written to a source: one object for each write, seen by who reads, refused where the source would refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from integrations_pipeline.simulator.redirecting import simulated
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline_tests.simulator.conftest import Serve, Source

YAML = """
connection: crm
api:
  url: https://crm.example/v1
  encoding: json
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 50}}
  errors: [{status: 409, is: exists, id: existing.id}]
streams:
  people:
    request: GET /people
    records: items
    primary_key: id
    cursor: {field: changed, send: since}
    deletes: {when: archived, snapshot: 7d}
    get: GET /people/<external_id>
    fields:
      id: {type: string, required: true}
      changed: {type: timestamp, required: true}
      created_at: {type: timestamp}
      props.mail: {type: string, format: email}
      props.name: {type: string}
      props.age: {type: integer}
      props.stage: {type: string, values: [lead, customer]}
    map:
      to: customer
      match: [email]
      fields:
        email: {from: props.mail, apply: [trim, lower]}
        name: props.name
        score: props.age
        stage: {from: props.stage, values: {lead: prospect, customer: active}}
    write: WRITE
"""
WRITE = """
      fields: [email, name, score, stage]
      create: POST /people
      update: {request: PATCH /people/<external_id>, headers: {If-Match: <record.etag>}}
      delete: DELETE /people/<external_id>
      set: {props.ref: <reference>}
      idempotency: {send: header Idempotency-Key, kept: 1d}
      find: {request: GET /people/<fields.email>, query: {by: mail}, record: .}
      batch:
        update: POST /people/batch/update
        upsert: POST /people/batch/upsert
        size: 3
        body: {inputs: <items>}
        set: {id: <external_id>}
        results: results
        by: id
"""


def crm(served: Serve, write: str = WRITE, yaml: str = YAML, **options: Any) -> Source:
    return served(yaml.replace("WRITE", write), **{"records": 12, **options})


def send(source: Source, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return source.session.request(method, source.url + path, json=body, headers=named, timeout=30)


def person(mail: str, **more: Any) -> dict[str, Any]:
    return {"props": {"mail": mail, "ref": "ours", **more}}


def listed(source: Source, **query: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    params: dict[str, str] | None = dict(query)
    while params is not None:
        page = source.get("/people", params=params).json()
        found |= {row["id"]: row for row in page["items"]}
        params = {**query, "after": page["next"]} if page.get("next") else None
    return found


def test_a_created_record_is_in_the_answer_in_lists_and_alone(served: Serve) -> None:
    source = crm(served)
    known = listed(source)
    answer = send(source, "POST", "/people", person("new@example.com", name="New"))
    made = answer.json()
    assert answer.status_code == 201
    assert made["id"] not in known
    assert made["props"] == {"mail": "new@example.com", "ref": "ours", "name": "New", "age": None, "stage": "lead"}
    assert listed(source) == known | {made["id"]: made}
    assert source.get(f"/people/{made['id']}").json() == made
    assert list(listed(source, since=made["changed"])) == [made["id"]]
    assert (source.simulation.counts(), len(source.truth("people"))) == ({"people": 13}, 13)


def test_an_update_changes_what_was_sent_and_moves_stamp_and_version(served: Serve) -> None:
    source = crm(served)
    before = next(iter(listed(source).values()))
    answer = send(source, "PATCH", f"/people/{before['id']}", {"props": {"name": "Other"}, "id": "stolen"})
    after = answer.json()
    assert (answer.status_code, after["id"]) == (200, before["id"])
    assert after["props"] == before["props"] | {"name": "Other"}
    assert after["changed"] > before["changed"]
    assert after["etag"] != before["etag"]
    assert listed(source)[before["id"]] == after
    assert send(source, "PATCH", "/people/nobody", {"props": {}}).status_code == 404


def test_a_deleted_record_is_marked_and_takes_no_more_writes(served: Serve) -> None:
    source = crm(served)
    one = next(iter(listed(source)))
    answer = send(source, "DELETE", f"/people/{one}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert listed(source)[one]["archived"] is True
    assert send(source, "DELETE", f"/people/{one}").status_code == 404
    assert send(source, "PATCH", f"/people/{one}", {"props": {"name": "x"}}).status_code == 404
    assert source.simulation.counts() == {"people": 11}


def test_a_write_on_condition_is_refused_once_the_record_has_changed(served: Serve) -> None:
    source = crm(served)
    one = next(iter(listed(source).values()))
    path = f"/people/{one['id']}"
    first = send(source, "PATCH", path, {"props": {"name": "first"}}, If_Match=one["etag"])
    late = send(source, "PATCH", path, {"props": {"name": "late"}}, If_Match=one["etag"])
    assert (first.status_code, late.status_code) == (200, 412)
    source.simulation.update("people", [one["id"]], {"props": {"name": "theirs"}})
    assert send(source, "PATCH", path, {"props": {"age": 3}}, If_Match=first.json()["etag"]).status_code == 412
    now = source.get(path).json()
    assert now["props"]["name"] == "theirs"
    assert send(source, "PATCH", path, {"props": {"age": 3}}, If_Match=now["etag"]).status_code == 200


@pytest.mark.parametrize("field", ["version", "changed"])
def test_a_version_among_the_fields_works_like_a_header(served: Serve, field: str) -> None:
    write = f"{{fields: [name], update: PUT /people/<external_id>, set: {{{field}: <record.{field}>}}}}"
    source = crm(served, write)
    one = next(iter(listed(source).values()))
    body = {"props": {"name": "mine"}, field: one[field]}
    answers = [send(source, "PUT", f"/people/{one['id']}", body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[0].json()[field] != one[field]


class Hands(SystemClock):
    """A day that passes only by hand."""

    passed = timedelta()

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + self.passed


def test_a_key_makes_one_object_as_long_as_it_is_kept(served: Serve) -> None:
    clock = Hands()
    source = crm(served, clock=clock)
    body = person("once@example.com")
    answers = [send(source, "POST", "/people", body, Idempotency_Key="k1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    other = send(source, "POST", "/people", person("other@example.com"), Idempotency_Key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_error")
    clock.passed = timedelta(days=1)
    assert send(source, "POST", "/people", person("later@example.com"), Idempotency_Key="k1").status_code == 201
    log = [(one["key"], one["status"], len(one["wrote"])) for one in source.control("requests").json()]
    assert log == [("k1", 201, 1), ("k1", 201, 0), ("k1", 201, 0), ("k1", 422, 0), ("k1", 201, 1)]
    assert source.simulation.counts() == {"people": 14}


def test_a_refused_write_leaves_nothing_and_keeps_no_key(served: Serve) -> None:
    source = crm(served)
    wrong = [
        (person("a@example.com", age="old"), 422),
        (person("a@example.com", stage="prospect"), 422),
        ([1, 2], 400),
        ("text", 400),
    ]
    for body, status in wrong:
        assert send(source, "POST", "/people", body, Idempotency_Key="k").status_code == status
    assert source.simulation.counts() == {"people": 12}
    assert send(source, "POST", "/people", person("a@example.com"), Idempotency_Key="k").status_code == 201


def test_what_is_found_by_its_field_exists_once(served: Serve) -> None:
    source = crm(served)
    made = send(source, "POST", "/people", person("one@example.com")).json()
    again = send(source, "POST", "/people", person("one@example.com"))
    assert (again.status_code, again.json()["existing"]) == (409, {"id": made["id"]})
    assert source.get("/people/one@example.com", params={"by": "mail"}).json() == made
    assert source.get("/people/none@example.com", params={"by": "mail"}).status_code == 404
    send(source, "PATCH", f"/people/{made['id']}", {"props": {"mail": "two@example.com"}})
    assert source.get("/people/one@example.com", params={"by": "mail"}).status_code == 404
    assert source.get("/people/two@example.com", params={"by": "mail"}).json()["id"] == made["id"]
    send(source, "DELETE", f"/people/{made['id']}")
    assert send(source, "POST", "/people", person("two@example.com")).status_code == 201


def test_our_reference_is_found_wherever_the_source_keeps_it(served: Serve) -> None:
    write = """
      fields: [email]
      create: POST /people
      set: {meta: {ref: "id:<reference>"}}
      find: {request: GET /people/search, query: {query: "ref='<reference>'"}, records: data.found}
    """
    source = crm(served, write)
    body = {"props": {"mail": "x@example.com"}, "meta": {"ref": "id:4711"}}
    made = send(source, "POST", "/people", body).json()
    assert source.get("/people/search", params={"query": "ref='4711'"}).json() == {"data": {"found": [made]}}
    assert source.get("/people/search", params={"query": "ref='12'"}).json() == {"data": {"found": []}}


def test_a_batch_is_done_item_by_item(served: Serve) -> None:
    source = crm(served)
    first, second = list(listed(source))[:2]
    items = [
        {"id": first, "props": {"name": "A"}},
        {"id": "nobody", "props": {}},
        {"id": second, "props": {"age": "x"}},
    ]
    answer = send(source, "POST", "/people/batch/update", {"inputs": items})
    assert answer.status_code == 207
    assert [(one["id"], one["props"]["name"]) for one in answer.json()["results"]] == [(first, "A")]
    assert len(answer.json()["errors"]) == 2
    assert send(source, "POST", "/people/batch/update", {"inputs": items[:1]}).status_code == 200
    assert send(source, "POST", "/people/batch/update", {"inputs": items * 2}).status_code == 400
    assert [one["wrote"] for one in source.control("requests").json()][-3:] == [[first], [first], []]


def test_an_upsert_changes_whom_it_knows_and_creates_the_others(served: Serve) -> None:
    source = crm(served)
    one = next(row for row in listed(source).values() if row["props"]["mail"])
    known = {"props": {"mail": one["props"]["mail"], "name": "Known"}}
    answer = send(source, "POST", "/people/batch/upsert", {"inputs": [known, person("fresh@example.com")]}).json()
    assert [row["id"] == one["id"] for row in answer["results"]] == [True, False]
    assert listed(source)[one["id"]]["props"]["name"] == "Known"
    assert source.simulation.counts() == {"people": 13}


def test_results_in_order_keep_a_place_for_each_item(served: Serve) -> None:
    batch = "{create: POST /many, size: 9, body: <items>, results: ., by: order, status: code}"
    source = crm(served, f"{{fields: [email, score], batch: {batch}}}")
    items = [person("a@example.com"), person("b@example.com", age="x"), person("c@example.com")]
    answer = send(source, "POST", "/many", items)
    assert [one["code"] for one in answer.json()] == [200, 422, 200]
    assert source.simulation.counts() == {"people": 14}
    silent = crm(served, f"{{fields: [email, score], batch: {batch.replace(', status: code', '')}}}")
    assert [one and one["props"]["mail"] for one in send(silent, "POST", "/many", items).json()] == [
        "a@example.com",
        None,
        "c@example.com",
    ]


def test_a_form_gets_the_types_of_its_fields(served: Serve) -> None:
    source = crm(served)
    body = {"props[mail]": "form@example.com", "props[age]": "41", "props[name]": "", "props[ref]": "r"}
    answer = source.session.post(f"{source.url}/people", data=body, timeout=30)
    assert answer.json()["props"] == {
        "mail": "form@example.com",
        "age": 41,
        "name": None,
        "ref": "r",
        "stage": "lead",
    }


@pytest.mark.parametrize("answer", ["reread", "data.0", "person"])
def test_the_answer_lies_where_it_is_declared(served: Serve, answer: str) -> None:
    write = f"{{fields: [email], create: POST /people, answer: {answer}, id: made.id}}"
    source = crm(served, write)
    found = send(source, "POST", "/people", {"props": {"mail": "x@example.com"}}).json()
    made = source.truth("people")[-1]
    assert found["made"]["id"] == made["id"]
    expected = {"reread": {"id": made["id"]}, "data.0": {"data": [made]}, "person": {"person": made}}[answer]
    assert {key: value for key, value in found.items() if key != "made"} == expected


def test_a_key_of_ours_names_the_new_record(served: Serve) -> None:
    write = "{fields: [email], upsert: PUT /people/<reference>}"
    source = crm(served, write)
    answers = [send(source, "PUT", "/people/abc-1", {"props": {"mail": f"{n}@example.com"}}) for n in range(2)]
    assert [answer.json()["id"] for answer in answers] == ["abc-1", "abc-1"]
    assert source.simulation.counts() == {"people": 13}
    assert listed(source)["abc-1"]["props"]["mail"] == "1@example.com"


LEVELS = """
connection: shop
api: {url: https://shop.example, pagination: {type: single_page}}
streams:
  levels:
    request: GET /levels
    records: levels
    primary_key: [item, place]
    fields: {item: {type: integer}, place: {type: integer}, available: {type: integer}}
    map: {to: variant, fields: {stock: available}}
    write:
      fields: [stock]
      update: {request: POST /levels/set, body: {item: <key.item>, place: <key.place>, available: <fields.stock>}}
      answer: level
"""


def test_a_record_of_several_keys_is_named_by_them_all(served: Serve) -> None:
    source = served(LEVELS, records=8)
    one = source.truth("levels")[3]
    sent = {"item": one["item"], "place": one["place"], "available": 77}
    answer = send(source, "POST", "/levels/set", sent)
    assert answer.json() == {"level": {**one, "available": 77}}
    assert sum(row["available"] == 77 for row in source.truth("levels")) == 1
    assert send(source, "POST", "/levels/set", {**sent, "place": 99}).status_code == 404


def test_the_beginning_comes_back_and_keys_are_forgotten(served: Serve) -> None:
    source = crm(served)
    known = listed(source)
    send(source, "POST", "/people", person("a@example.com"), Idempotency_Key="k")
    source.control("reset", json={})
    assert listed(source) == known
    assert send(source, "POST", "/people", person("b@example.com"), Idempotency_Key="k").status_code == 201


def test_a_write_to_another_host_is_taken_too(served: Serve) -> None:
    write = """
      fields: [email]
      create: POST https://uploads.crm.example/people
      batch: {update: POST https://uploads.crm.example/many, size: 9, body: <items>, set: {id: <external_id>}}
    """
    source = crm(served, write, YAML.replace("v1\n", "v1\n  origins: [https://uploads.crm.example]\n"))
    declared = simulated(source.simulation.connection, source.port).streams["people"].write
    assert declared and declared.create and declared.batch and declared.batch.update
    made = source.session.post(declared.create.path, json=person("x@example.com"), timeout=30)
    changed = [{"id": made.json()["id"], "props": {"name": "X"}}]
    answer = source.session.post(declared.batch.update.path, json=changed, timeout=30)
    assert [one["props"]["name"] for one in answer.json()] == ["X"]
