"""Faults of writes over real HTTP: what was done, what the writer hears of it, and what readers see, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests

from integrations_pipeline_tests.simulator.conftest import Serve, Source
from integrations_pipeline_tests.simulator.test_writes import YAML, Hands, crm, listed, person, send


def create(source: Source, name: str, key: str = "") -> requests.Response:
    headers = {"Idempotency_Key": key} if key else {}
    return send(source, "POST", "/people", person(f"{name}@example.com"), **headers)


def held(source: Source) -> int:
    return source.simulation.counts()["people"]


def first_of(source: Source) -> dict[str, Any]:
    return next(iter(listed(source).values()))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_write_is_not_done_and_reads_go_on(served: Serve, status: int) -> None:
    source = crm(served, faults=[f"refuse write {status} retry-after 2 for 2"])
    answers = [create(source, "a", "k") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 201]
    assert answers[0].headers["Retry-After"] == "2"
    assert (held(source), len(listed(source))) == (13, 13)
    assert send(crm(served, faults=["refuse write"]), "DELETE", "/people/1").status_code == 503


@pytest.mark.parametrize("loss", ["reset", "500", "504"])
def test_a_lost_answer_belongs_to_a_write_that_was_done(served: Serve, loss: str) -> None:
    source = crm(served, faults=[f"lose answer {loss} once"])
    if loss == "reset":
        with pytest.raises(requests.ConnectionError):
            create(source, "a", "k")
    else:
        assert create(source, "a", "k").status_code == int(loss)
    assert held(source) == 13
    again = create(source, "a", "k")
    assert (again.status_code, again.headers["Idempotent-Replayed"], held(source)) == (201, "true", 13)
    wrote = [one["wrote"] for one in source.control("requests").json()]
    assert wrote == [[again.json()["id"]], []]


def test_a_write_may_be_done_and_never_answered(served: Serve) -> None:
    source = crm(served, faults=["lose answer timeout once"])
    with pytest.raises(requests.Timeout):
        source.session.post(f"{source.url}/people", json=person("a@example.com"), timeout=0.3)
    assert held(source) == 13


def test_ignored_keys_make_a_second_object(served: Serve) -> None:
    source = crm(served, YAML_WITHOUT_FIND, faults=["ignore keys"])
    made = {create(source, "a", "k").json()["id"] for _ in range(3)}
    assert (len(made), held(source)) == (3, 15)
    assert {one["key"] for one in source.control("requests").json()} == {"k"}


YAML_WITHOUT_FIND = """
      fields: [email]
      create: POST /people
      idempotency: {send: header Idempotency-Key, kept: 1d}
"""


def test_readers_see_what_was_written_only_later(served: Serve) -> None:
    clock = Hands()
    source = crm(served, clock=clock, faults=["read lag 30s"])
    before = listed(source)
    one, gone = list(before)[:2]
    made = create(source, "new").json()
    send(source, "PATCH", f"/people/{one}", {"props": {"name": "first"}})
    clock.passed = timedelta(seconds=20)
    send(source, "PATCH", f"/people/{one}", {"props": {"name": "second"}})
    send(source, "DELETE", f"/people/{gone}")
    assert listed(source) == before
    assert source.get(f"/people/{made['id']}").status_code == 404
    assert source.get(f"/people/{one}").json() == before[one]
    assert source.get("/people/new@example.com", params={"by": "mail"}).status_code == 404
    assert (held(source), len(source.truth("people"))) == (12, 12)
    clock.passed = timedelta(seconds=30)
    assert listed(source)[made["id"]] == made
    assert listed(source)[one]["props"]["name"] == "first"
    assert source.get("/people/new@example.com", params={"by": "mail"}).json() == made
    assert source.get(f"/people/{gone}").json() == before[gone]
    clock.passed = timedelta(seconds=50)
    assert listed(source)[one]["props"]["name"] == "second"
    assert listed(source)[gone]["archived"] is True


def test_a_list_that_lags_is_not_called_unchanged(served: Serve) -> None:
    clock = Hands()
    for probe, validator, condition in (
        ("etag", "ETag", "If-None-Match"),
        ("last_modified", "Last-Modified", "If-Modified-Since"),
    ):
        yaml = YAML.replace("    primary_key: id\n", f"    primary_key: id\n    probe: {probe}\n")
        clock.passed = timedelta()
        source = crm(served, yaml=yaml, clock=clock, faults=["read lag 30s"])
        create(source, "a")
        behind = source.get("/people").headers[validator]
        clock.passed = timedelta(seconds=31)
        assert source.get("/people", headers={condition: behind}).status_code == 200


def test_a_change_in_between_meets_a_condition(served: Serve) -> None:
    source = crm(served, faults=["change before write once"])
    one = first_of(source)
    path = f"/people/{one['id']}"
    assert send(source, "PATCH", path, {"props": {"name": "x"}}, If_Match=one["etag"]).status_code == 412
    theirs = source.get(path).json()
    assert theirs["props"] != one["props"]
    assert send(source, "PATCH", path, {"props": {"name": "x"}}, If_Match=theirs["etag"]).status_code == 200


@pytest.mark.parametrize(
    ("form", "sent", "kept"),
    [
        ("lower", "Ann LEE", "ann lee"),
        ("trim", "  Ann ", "Ann"),
        ("title", "ann lee", "Ann Lee"),
        ("number", "+49 (30) 12-3", "+4930123"),
        ("number", "Flat 7", "Flat 7"),
    ],
)
def test_texts_come_back_in_another_form(served: Serve, form: str, sent: str, kept: str) -> None:
    source = crm(served, faults=[f"normalise {form}"])
    made = send(source, "POST", "/people", person("New@Example.com", name=sent, stage="customer")).json()
    assert (made["props"]["name"], made["props"]["stage"]) == (kept, "customer")
    assert source.get(f"/people/{made['id']}").json() == made
    assert source.get("/people/New@Example.com", params={"by": "mail"}).json() == made


def test_an_ignored_field_keeps_its_value_and_nothing_is_said(served: Serve) -> None:
    source = crm(served, faults=["ignore field props.name"])
    one = first_of(source)
    answer = send(source, "PATCH", f"/people/{one['id']}", {"props": {"name": "mine", "age": 77}})
    assert (answer.status_code, answer.json()["props"]) == (200, one["props"] | {"age": 77})


def inputs(source: Source, count: int = 3) -> list[dict[str, Any]]:
    return [{"id": key, "props": {"name": f"n{number}"}} for number, key in enumerate(list(listed(source))[:count])]


def test_items_of_a_batch_fail_alone(served: Serve) -> None:
    source = crm(served, faults=["fail item 429 every 2nd"])
    sent = inputs(source)
    answer = send(source, "POST", "/people/batch/update", {"inputs": sent})
    assert (answer.status_code, len(answer.json()["errors"])) == (207, 1)
    assert [one["id"] for one in answer.json()["results"]] == [sent[0]["id"], sent[2]["id"]]
    now = listed(source)
    assert [now[one["id"]]["props"]["name"] == one["props"]["name"] for one in sent] == [True, False, True]


def test_an_item_without_a_result_may_have_been_done(served: Serve) -> None:
    source = crm(served, faults=["omit result after 1 once"])
    sent = inputs(source)
    answer = send(source, "POST", "/people/batch/update", {"inputs": sent})
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()["results"]] == [sent[0]["id"], sent[2]["id"]]
    assert listed(source)[sent[1]["id"]]["props"]["name"] == "n1"


def test_results_of_a_batch_come_in_any_order(served: Serve) -> None:
    orders = set()
    for seed in range(8):
        source = crm(served, seed=seed, faults=["shuffle results"])
        sent = inputs(source)
        results = send(source, "POST", "/people/batch/update", {"inputs": sent}).json()["results"]
        assert {one["id"]: one["props"]["name"] for one in results} == {one["id"]: one["props"]["name"] for one in sent}
        orders.add(tuple(one["props"]["name"] for one in results))
    assert len(orders) > 1


def test_only_writes_are_counted(served: Serve) -> None:
    source = crm(served, faults=["refuse write every 2nd on people"])
    listed(source)
    statuses = []
    for name in "abcd":
        statuses.append(create(source, name).status_code)
        listed(source)
    assert statuses == [201, 503, 201, 503]
    report = source.control("faults").json()["faults"]
    assert report == [{"fault": "refuse write every 2nd on people", "seen": 4, "hits": 2}]
