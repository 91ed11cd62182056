"""Writes: what left, and what was told of it. Done, refused and unsure are three things, and nothing is done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from integrations_pipeline.client import Answered, Change, Client
from integrations_pipeline.spec.errors import (
    AnswerLost,
    BreakerOpen,
    ConfigError,
    Conflict,
    CredentialsError,
    DataError,
    DestinationError,
    Exists,
    NotFound,
    RateLimited,
    SourceConfigError,
    Transient,
)
from integrations_pipeline_tests.client.conftest import Bench, HastyClock
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.client.test_waiting import CountingBreaker

OK = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
WRITE = {
    "fields": ["email", "name"],
    "create": "POST /people",
    "update": "PATCH /people/<external_id>",
    "delete": "DELETE /people/<external_id>",
}
FIELDS = {"email": "properties.email", "name": "properties.name"}
CREATE = Change(
    operation="create",
    fields={"properties": {"email": "ada@example.com", "name": "Ada"}},
    external_id=None,
    key={},
    record=None,
    reference="6b0c",
    idempotency_key="key-1",
)
UPDATE = replace(
    CREATE,
    operation="update",
    fields={"properties": {"name": "Ada"}},
    external_id="7",
    key={"id": "7"},
    record={"id": 7, "etag": "v3", "properties": {"email": "old@example.com"}},
)
DELETE = replace(UPDATE, operation="delete", fields={})
OF = {"create": CREATE, "update": UPDATE, "delete": DELETE}
DONE = {"id": 7, "properties": {"name": "Ada"}}


def people(bench: Bench, url: str, write: dict[str, Any] | None = None, **options: Any) -> Client:
    """A client of a source of people; ``write`` adds to the block, null removes; ``stream``: other keys of it."""
    block = {name: one for name, one in {**WRITE, **(write or {})}.items() if one is not None}
    stream = {
        "request": "GET /people",
        "records": "results",
        "primary_key": "id",
        "map": {"to": "person", "fields": FIELDS},
        "write": block,
        **options.pop("stream", {}),
    }
    options.setdefault("clock", HastyClock())
    return bench.client(url, {"people": stream}, **options)


def wrote(source: Source) -> list[tuple[str, str, Any]]:
    """Each request's method, path and body."""
    return [(one.method, one.path, json.loads(one.body) if one.body else None) for one in source.seen]


# What leaves


def test_a_change_is_sent_and_the_record_told(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(DONE, 200))
    client = people(bench, source.url)
    assert client.write("people", CREATE) == Answered(DONE, "7")
    assert client.write("people", UPDATE) == Answered(DONE, "7")
    assert client.write("people", DELETE) == Answered(None, "7")
    assert wrote(source) == [
        ("POST", "/people", CREATE.fields),
        ("PATCH", "/people/7", UPDATE.fields),
        ("DELETE", "/people/7", None),
    ]


def test_set_adds_to_the_fields_and_keeps_what_stands_beside(bench: Bench) -> None:
    source = bench.source(lambda seen: DONE)
    write = {
        "set": {"properties": {"ref": "<reference>"}, "meta.version": "<record.etag>"},
        "update": {"request": "PATCH /people/<external_id>", "set": {"mail": "<fields.email>", "id": "<key.id>"}},
    }
    client = people(bench, source.url, write)
    client.write("people", CREATE)
    client.write("people", UPDATE)
    created, updated = (body for _, _, body in wrote(source))
    assert created == {"properties": {"email": "ada@example.com", "name": "Ada", "ref": "6b0c"}}
    assert updated == {
        "properties": {"name": "Ada", "ref": "6b0c"},
        "meta": {"version": "v3"},
        "mail": "old@example.com",
        "id": "7",
    }
    assert CREATE.fields == {"properties": {"email": "ada@example.com", "name": "Ada"}}


def test_a_body_of_its_own_and_conditional_headers(bench: Bench) -> None:
    source = bench.source(lambda seen: DONE)
    call = {
        "request": "POST /save",
        "headers": {"If-Match": '"<record.etag>"'},
        "query": {"who": "<fields.name>"},
        "body": {"data": {"attributes": "<fields>", "key": "<idempotency_key>"}},
    }
    people(bench, source.url, {"update": call}).write("people", UPDATE)
    (seen,) = source.seen
    assert seen.headers["If-Match"] == '"v3"'
    assert seen.one("who") == "Ada"
    assert seen.json == {"data": {"attributes": UPDATE.fields, "key": "key-1"}}


def test_what_a_placeholder_needs_and_isnt_there_sends_nothing(bench: Bench) -> None:
    source = bench.source(lambda seen: DONE)
    call = {"request": "PATCH /people/<external_id>", "headers": {"If-Match": "<record.etag>"}}
    client = people(bench, source.url, {"update": call})
    with pytest.raises(DataError, match=r"<record\.etag> has no value"):
        client.write("people", replace(UPDATE, record={"id": 7}))
    assert source.seen == []


def test_a_form_says_null_as_empty_text(bench: Bench) -> None:
    source = bench.source(lambda seen: DONE)
    change = replace(UPDATE, fields={"properties": {"name": None, "email": "a@b.c"}})
    people(bench, source.url, encoding="form").write("people", change)
    assert source.seen[0].body == b"properties[name]=&properties[email]=a%40b.c"


def test_upsert_stands_in_for_both(bench: Bench) -> None:
    source = bench.source(lambda seen: DONE)
    write = {"create": None, "update": None, "upsert": "PUT /people/by-mail/<fields.email>"}
    client = people(bench, source.url, write)
    client.write("people", CREATE)
    client.write("people", replace(UPDATE, fields={"properties": {"email": "new@example.com"}}))
    assert [(one.method, one.path) for one in source.seen] == [
        ("PUT", "/people/by-mail/ada%40example.com"),
        ("PUT", "/people/by-mail/new%40example.com"),
    ]
    with pytest.raises(ConfigError, match=r"has no `write\.create`"):
        people(bench, source.url, {"create": None}).write("people", CREATE)


# What the answer says


@pytest.mark.parametrize(
    ("write", "reply", "told"),
    [
        ({"answer": "data"}, {"data": DONE}, Answered(DONE, "7")),
        ({"answer": "data", "id": "meta.id"}, {"data": None, "meta": {"id": 9}}, Answered(None, "9")),
        ({"id": "new_id"}, {"new_id": "9"}, Answered(None, "9")),
        ({}, [DONE], None),
        ({}, None, None),
        ({}, {"success": True}, None),
        ({"id": "new_id"}, {"id": 7}, None),
    ],
)
def test_where_a_new_record_and_its_id_are(bench: Bench, write: Any, reply: Any, told: Answered | None) -> None:
    """A create whose answer names no id was done, but nobody knows which record it is."""
    client = people(bench, bench.source(lambda seen: reply).url, write)
    if told is None:
        with pytest.raises(AnswerLost, match="names no id"):
            client.write("people", CREATE)
    else:
        assert client.write("people", CREATE) == told


@pytest.mark.parametrize("reply", [None, {"success": True}, {"id": 8}, [], Reply(status=204)])
def test_an_update_is_done_though_the_answer_holds_no_record_of_its_own(bench: Bench, reply: Any) -> None:
    client = people(bench, bench.source(lambda seen: reply).url)
    assert client.write("people", UPDATE) == Answered(None, "7")


def test_the_record_is_read_again_where_that_is_declared(bench: Bench) -> None:
    full = {"id": 9, "properties": {"name": "ADA"}}
    source = bench.source(lambda seen: full if seen.method == "GET" else Reply({"id": 9}, 201))
    get = {"get": "GET /people/<key.id>"}
    client = people(bench, source.url, {"answer": "reread"}, stream=get)
    assert client.write("people", CREATE) == Answered(full, "9")
    assert client.write("people", replace(UPDATE, external_id="9", key={"id": 9})) == Answered(full, "9")
    assert [one.path for one in source.seen] == ["/people", *["/people/9"] * 3]


@pytest.mark.parametrize("status", [500, 404, 403])
def test_a_record_that_cant_be_read_again_doesnt_undo_the_change(bench: Bench, status: int) -> None:
    source = bench.source(lambda seen: Reply({}, status) if seen.method == "GET" else Reply({"id": 9}, 201))
    client = people(bench, source.url, {"answer": "reread"}, stream={"get": "GET /people/<external_id>"})
    assert client.write("people", CREATE) == Answered(None, "9")


def test_a_composite_key_is_one_text(bench: Bench) -> None:
    source = bench.source(lambda seen: {"shop": "a", "number": 3})
    client = people(bench, source.url, stream={"primary_key": ["shop", "number"]})
    assert client.write("people", CREATE).external_id == '["a",3]'


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        (CREATE, 400, SourceConfigError),
        (CREATE, 401, CredentialsError),
        (CREATE, 409, Conflict),
        (UPDATE, 412, Conflict),
        (UPDATE, 404, NotFound),
        (UPDATE, 410, NotFound),
        (UPDATE, 422, DataError),
    ],
)
def test_a_refusal_is_no_doubt(bench: Bench, change: Change, status: int, error: type[Exception]) -> None:
    source = bench.source(lambda seen: Reply({"message": "no"}, status))
    with pytest.raises(error):
        people(bench, source.url).write("people", change)
    assert len(source.seen) == 1


def test_exists_is_told_apart(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 409))
    with pytest.raises(Exists):
        people(bench, source.url, errors=[{"status": 409, "is": "exists"}]).write("people", CREATE)


@pytest.mark.parametrize("status", [404, 410])
def test_a_delete_of_what_isnt_there_is_done(bench: Bench, status: int) -> None:
    source = bench.source(lambda seen: Reply({}, status))
    assert people(bench, source.url).write("people", DELETE) == Answered(None, "7")


# Lost answers

LOST: dict[str, tuple[Reply, dict[str, Any]]] = {
    "late": (Reply(raw=[OK, 20.0]), {"timeout": "300ms"}),
    "reset": (Reply(raw=[]), {}),
    "cut in its status": (Reply(raw=[b"HTTP/1.1 2"]), {}),
    "cut in its headers": (Reply(raw=[OK + b"Content-Length: 9"]), {}),
    "cut in its body": (Reply(raw=[OK + b'Content-Length: 50\r\n\r\n{"id": 7']), {}),
    "cut without a length": (Reply(raw=[OK + b'\r\n{"id": 7']), {}),
    "500": (Reply({}, 500), {}),
    "502 as HTML": (Reply(b"<html>Bad gateway</html>", 502, {"Content-Type": "text/html"}), {}),
    "503 with a time": (Reply({}, 503, {"Retry-After": "1"}), {}),
    "408": (Reply({}, 408), {}),
    "200 declared as down": (Reply({"error": "down"}), {"errors": [{"when": {"error": "down"}, "is": "transient"}]}),
}
UNREADABLE = {
    "no JSON": Reply(b"OK", 201, {"Content-Type": "text/plain"}),
    "too large": Reply({"id": 7, "filler": "x" * 2_000_000}, 201),
    "packed": Reply(raw=[OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"]),
}


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("operation", OF)
def test_a_lost_answer_is_unsure_and_never_tried_again(bench: Bench, kind: str, operation: str) -> None:
    reply, options = LOST[kind]
    source = bench.source(lambda seen: reply)
    with pytest.raises(AnswerLost) as caught:
        people(bench, source.url, {"update": "PUT /people/<external_id>"}, **options).write("people", OF[operation])
    assert len(source.seen) == 1
    assert caught.value.error_class == "unsure"
    assert f"acme/people {source.seen[0].method} {source.seen[0].path}" in caught.value.where


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_answer_that_cant_be_read_is_unsure_where_it_was_to_tell_something(bench: Bench, kind: str) -> None:
    source = bench.source(lambda seen: UNREADABLE[kind])
    client = people(bench, source.url, max_response="1MB")
    for change in (CREATE, UPDATE):
        with pytest.raises(AnswerLost):
            client.write("people", change)
    assert client.write("people", DELETE) == Answered(None, "7")
    assert len(source.seen) == 3


def test_the_time_that_a_source_names_with_a_5xx_is_kept(bench: Bench) -> None:
    clock = HastyClock()
    source = bench.source(lambda seen: Reply({}, 503, {"Retry-After": "30"}))
    with pytest.raises(AnswerLost) as caught:
        people(bench, source.url, clock=clock).write("people", CREATE)
    assert caught.value.resume_at is not None
    assert 0 < (caught.value.resume_at - clock.now()).total_seconds() <= 31


class Opening(CountingBreaker):
    """Opens with the first failure, as the shared one does with the tenth."""

    def failed(self, what: str) -> None:
        super().failed(what)
        raise BreakerOpen("paused")


class Away(CountingBreaker):
    """Its database goes away while a request is on its way."""

    def succeeded(self) -> None:
        raise DestinationError("the database is away")

    failed = undecided = lambda self, *_: self.succeeded()  # type: ignore[assignment]


@pytest.mark.parametrize("breaker", [Opening, Away])
def test_what_became_of_a_write_isnt_hidden_by_the_breaker(bench: Bench, breaker: type[CountingBreaker]) -> None:
    replies = [Reply({}, 500), Reply(DONE)]
    source = bench.source(lambda seen: replies.pop(0))
    client = people(bench, source.url, breaker=breaker())
    with pytest.raises(AnswerLost):
        client.write("people", CREATE)
    assert client.write("people", UPDATE) == Answered(DONE, "7")


# Surely not done


@pytest.mark.parametrize("reply", [Reply({}, 429), Reply({}, 425), Reply({"code": "busy"}, 409)], ids=str)
def test_what_the_source_surely_didnt_do_is_tried_again_with_the_same_key(bench: Bench, reply: Reply) -> None:
    replies = [reply, reply, Reply(DONE)]
    source = bench.source(lambda seen: replies.pop(0))
    rules = [{"status": 409, "when": {"code": "busy"}, "is": "transient"}]
    send = {"idempotency": {"send": "header Idempotency-Key", "kept": "1d"}}
    client = people(bench, source.url, send, errors=rules)
    assert client.write("people", CREATE) == Answered(DONE, "7")
    assert [one.headers["Idempotency-Key"] for one in source.seen] == ["key-1"] * 3
    assert len({one.body for one in source.seen}) == 1


def test_a_refused_connection_is_no_lost_answer(bench: Bench) -> None:
    with pytest.raises(Transient, match="can't be reached"):
        people(bench, "http://127.0.0.1:1").write("people", CREATE)


def test_a_long_wait_and_an_open_breaker_defer_without_doubt(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 429, {"Retry-After": "3600"}))
    with pytest.raises(RateLimited):
        people(bench, source.url).write("people", CREATE)
    with pytest.raises(BreakerOpen):
        people(bench, source.url, breaker=CountingBreaker(BreakerOpen("paused"))).write("people", CREATE)
    assert len(source.seen) == 1


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("header X-Key", lambda seen: seen.headers["X-Key"]),
        ("key", lambda seen: seen.one("key")),
        ("body meta.key", lambda seen: seen.json["meta"]["key"]),
    ],
)
def test_the_key_goes_where_it_is_declared(bench: Bench, place: str, found: Any) -> None:
    source = bench.source(lambda seen: DONE)
    client = people(bench, source.url, {"idempotency": {"send": place, "kept": "1d"}})
    for change in (CREATE, UPDATE):
        client.write("people", change)
    assert [found(seen) for seen in source.seen] == ["key-1"] * 2
    client.write("people", DELETE)
    assert source.seen[2].body == b""


# Looking for what a lost answer has made


def looking(reply: Any, **find: Any) -> tuple[Any, dict[str, Any]]:
    return reply, {"request": "GET /search", "query": {"ref": "<reference>"}, **find}


@pytest.mark.parametrize(
    ("reply", "find", "found"),
    [
        (*looking({"results": [DONE]}, records="results"), DONE),
        (*looking({"results": []}, records="results"), None),
        (*looking({"results": [{"id": 8, "ref": "x"}]}, records="results", match="ref"), None),
        (
            *looking([{"id": 8}, {"id": 7, "ref": "6b0c"}], records=".", match="ref"),
            {"id": 7, "ref": "6b0c"},
        ),
        (*looking(DONE, record="."), DONE),
        (*looking({"data": None}, record="data"), None),
        (*looking(Reply({}, 404), record="."), None),
    ],
)
def test_a_record_is_found_or_surely_not_there(bench: Bench, reply: Any, find: Any, found: Any) -> None:
    source = bench.source(lambda seen: reply)
    assert people(bench, source.url, {"find": find}).find("people", CREATE) == found
    assert source.seen[0].query == {"ref": ["6b0c"]}


def test_what_was_found_isnt_guessed(bench: Bench) -> None:
    replies: list[Any] = [[DONE, DONE], Reply({}, 500), {"no": "list"}]
    source = bench.source(lambda seen: replies[0])
    client = people(bench, source.url, {"find": {"request": "GET /search/<fields.email>", "records": "."}})
    with pytest.raises(DataError, match="2 records match"):
        client.find("people", CREATE)
    assert source.seen[0].path == "/search/ada%40example.com"
    replies.pop(0)
    with pytest.raises(Transient):
        client.find("people", CREATE)
    replies.pop(0)
    with pytest.raises(Exception, match="no list at"):
        client.find("people", CREATE)


# Batches

BATCH = {
    "create": "POST /batch/create",
    "update": "POST /batch/update",
    "size": 100,
    "body": {"inputs": "<items>"},
    "set": {"id": "<external_id>"},
    "results": "results",
}


def updates(count: int) -> list[Change]:
    return [
        replace(UPDATE, external_id=str(n), key={"id": str(n)}, fields={"name": f"n{n}"}, idempotency_key=f"k{n}")
        for n in range(count)
    ]


def batched(bench: Bench, url: str, write: Any = None, **batch: Any) -> Client:
    block = {name: one for name, one in {**BATCH, **batch}.items() if one is not None}
    return people(bench, url, {"batch": block, **(write or {})})


def echo(seen: Seen) -> list[dict[str, Any]]:
    return [{"id": one["id"], "name": one["name"].upper()} for one in seen.json["inputs"]]


def test_a_batch_is_one_request_and_told_item_by_item(bench: Bench) -> None:
    source = bench.source(lambda seen: {"results": echo(seen)})
    told = batched(bench, source.url).write_many("people", "update", updates(3))
    assert told == [Answered({"id": str(n), "name": f"N{n}"}, str(n)) for n in range(3)]
    assert wrote(source) == [("POST", "/batch/update", {"inputs": [{"name": f"n{n}", "id": str(n)} for n in range(3)]})]


def test_batches_are_no_larger_than_declared(bench: Bench) -> None:
    source = bench.source(lambda seen: {"results": echo(seen)})
    told = batched(bench, source.url, size=2).write_many("people", "update", updates(5))
    assert [len(body["inputs"]) for _, _, body in wrote(source)] == [2, 2, 1]
    assert [one.external_id for one in told if isinstance(one, Answered)] == list("01234")


def test_results_in_any_order_are_told_apart_by_what_names_them(bench: Bench) -> None:
    source = bench.source(
        lambda seen: {"results": [{"key": {"no": int(one["id"])}, **one} for one in echo(seen)[::-1]]}
    )
    told = batched(bench, source.url, by="key.no").write_many("people", "update", updates(4))
    assert [one.record["name"] for one in told if isinstance(one, Answered) and one.record] == ["N0", "N1", "N2", "N3"]


def test_new_records_are_told_apart_by_our_reference(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        items = seen.json["inputs"]
        return {"results": [{"id": f"new {one['ref']}", "ref": one["ref"]} for one in reversed(items)]}

    source = bench.source(answer)
    new = [replace(CREATE, reference=name) for name in "abc"]
    told = batched(bench, source.url, set={"ref": "<reference>", "id": "<external_id>"}, by="ref")
    assert [one.external_id for one in told.write_many("people", "create", new) if isinstance(one, Answered)] == [
        "new a",
        "new b",
        "new c",
    ]
    assert all("id" not in one for one in source.seen[0].json["inputs"])


def test_an_item_that_no_result_names_is_sent_alone(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.path == "/batch/update":
            return Reply({"results": [one for one in echo(seen) if one["id"] != "1"], "errors": [{}]}, 207)
        return Reply({"message": "no such name"}, 422)

    source = bench.source(answer)
    told = batched(bench, source.url, by="id").write_many("people", "update", updates(3))
    assert [type(one) for one in told] == [Answered, DataError, Answered]
    assert wrote(source)[1:] == [("PATCH", "/people/1", {"name": "n1"})]


def test_a_place_without_a_result_is_sent_alone(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.path == "/batch/update":
            return {"results": [echo(seen)[0], None, echo(seen)[2]]}
        return {"id": 1, "name": "alone"}

    source = bench.source(answer)
    told = batched(bench, source.url).write_many("people", "update", updates(3))
    assert [one.record["name"] for one in told if isinstance(one, Answered) and one.record] == ["N0", "alone", "N2"]


def test_each_items_status_counts_as_an_answer_of_its_own(bench: Bench) -> None:
    statuses = [200, "404", 409, 422, 503, 429, True, False]

    def answer(seen: Seen) -> Any:
        return {"results": [{**one, "code": code} for one, code in zip(echo(seen), statuses, strict=True)]}

    source = bench.source(answer)
    told = batched(bench, source.url, status="code").write_many("people", "update", updates(8))
    assert [type(one) for one in told] == [
        Answered,
        NotFound,
        Conflict,
        DataError,
        AnswerLost,
        RateLimited,
        Answered,
        DataError,
    ]
    assert len(source.seen) == 1


def test_a_batch_refused_for_one_items_sake_is_sent_one_by_one(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.path == "/batch/update":
            return Reply({"message": "input 1 is wrong"}, 400)
        return Reply({}, 400) if seen.path.endswith("/1") else Reply({"id": seen.path.rpartition("/")[2]})

    source = bench.source(answer)
    told = batched(bench, source.url).write_many("people", "update", updates(3))
    assert [type(one) for one in told] == [Answered, SourceConfigError, Answered]
    assert len(source.seen) == 4


def test_without_a_call_for_one_alone_is_a_batch_of_one(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        items = echo(seen)
        return Reply({}, 400) if any(one["id"] == "1" for one in items) else {"results": items}

    source = bench.source(answer)
    told = batched(bench, source.url, {"update": None}).write_many("people", "update", updates(3))
    assert [type(one) for one in told] == [Answered, SourceConfigError, Answered]
    assert [len(one.json["inputs"]) for one in source.seen] == [3, 1, 1, 1]


def test_an_item_that_cant_be_made_doesnt_hold_up_the_others(bench: Bench) -> None:
    source = bench.source(lambda seen: {"results": echo(seen)})
    changes = updates(3)
    changes[1] = replace(changes[1], record=None)
    told = batched(bench, source.url, set={"id": "<external_id>", "etag": "<record.etag>"})
    assert [type(one) for one in told.write_many("people", "update", changes)] == [Answered, DataError, Answered]
    assert [one["id"] for one in source.seen[0].json["inputs"]] == ["0", "2"]


@pytest.mark.parametrize("kind", LOST)
def test_a_batchs_lost_answer_is_each_items(bench: Bench, kind: str) -> None:
    reply, options = LOST[kind]
    source = bench.source(lambda seen: reply)
    client = people(bench, source.url, {"batch": BATCH}, **options)
    assert [type(one) for one in client.write_many("people", "create", [CREATE, CREATE])] == [AnswerLost, AnswerLost]
    assert len(source.seen) == 1


def test_a_new_record_that_no_result_names_may_be_there_already(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({"results": [{"id": 1, "ref": "b"}], "errors": [{}]}, 207))
    client = batched(bench, source.url, set={"ref": "<reference>"}, by="ref")
    told = client.write_many("people", "create", [replace(CREATE, reference=name) for name in "abc"])
    assert [type(one) for one in told] == [AnswerLost, Answered, AnswerLost]
    assert len(source.seen) == 1


def test_an_upsert_that_no_result_names_can_be_sent_again(bench: Bench) -> None:
    source = bench.source(lambda seen: {"results": []} if seen.path == "/batch" else DONE)
    write = {"create": None, "upsert": "PUT /people/<reference>"}
    client = batched(bench, source.url, write, create=None, upsert="POST /batch")
    assert client.write_many("people", "create", [CREATE]) == [Answered(DONE, "7")]
    assert [one.path for one in source.seen] == ["/batch", "/people/6b0c"]


@pytest.mark.parametrize("reply", [{"results": [{"id": 1}]}, {}, Reply(status=204), Reply(b"OK")], ids=str)
def test_new_records_of_a_batch_that_nobody_can_tell_apart_are_unsure(bench: Bench, reply: Any) -> None:
    source = bench.source(lambda seen: reply)
    told = batched(bench, source.url).write_many("people", "create", [CREATE, CREATE])
    assert [type(one) for one in told] == [AnswerLost, AnswerLost]
    assert len(source.seen) == 1


def test_a_batch_of_updates_with_an_empty_answer_is_done(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(status=204))
    told = batched(bench, source.url, results=None).write_many("people", "update", updates(2))
    assert told == [Answered(None, "0"), Answered(None, "1")]


@pytest.mark.parametrize(("status", "error"), [(401, CredentialsError), (429, RateLimited)])
def test_what_all_would_meet_isnt_tried_with_each(bench: Bench, status: int, error: type[Exception]) -> None:
    source = bench.source(lambda seen: Reply({}, status, {"Retry-After": "3600"}))
    told = batched(bench, source.url, size=2).write_many("people", "update", updates(6))
    assert [type(one) for one in told] == [error] * 6
    assert len(source.seen) == 1


def test_the_key_of_a_batch_is_made_of_its_changes(bench: Bench) -> None:
    source = bench.source(lambda seen: {"results": echo(seen)})
    send = {"idempotency": {"send": "header X-Key", "kept": "1d"}}
    client = batched(bench, source.url, send)
    for changes in (updates(2), updates(2), updates(3)):
        client.write_many("people", "update", changes)
    first, again, other = (UUID(one.headers["X-Key"]) for one in source.seen)
    assert first == again != other
