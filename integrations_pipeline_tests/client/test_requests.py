"""What is sent is what the file says: placeholders, secrets, places, encodings, full refreshes, cursors, parents."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.errors import ConfigError, ContractError, DataError
from integrations_pipeline.spec.forms import Call
from integrations_pipeline_tests.client.conftest import Bench
from integrations_pipeline_tests.client.source import Seen, Source


def call(**parts: Any) -> Call:
    return Call.model_validate(parts)


@pytest.fixture
def source(bench: Bench) -> Source:
    return bench.source(lambda seen: [])


def stream(**parts: Any) -> dict[str, Any]:
    return {"things": {"request": "GET /things", "records": ".", "primary_key": "id", **parts}}


def asked(client: Client, source: Source, **how: Any) -> Seen:
    """The first request of a list."""
    list(client.pages("things", **how))
    return source.seen[0]


def test_queries_repeat_lists_nest_objects_and_leave_out_null(bench: Bench, source: Source) -> None:
    query = {"types[]": ["a b", "c&d"], "created": {"gte": 5, "lt": None}, "all": True, "none": None, "ids": [1, 2]}
    seen = asked(bench.client(source.url, stream(query=query)), source)
    assert seen.query == {"types[]": ["a b", "c&d"], "created[gte]": ["5"], "all": ["true"], "ids": ["1", "2"]}


def test_headers_and_query_of_the_api_stand_under_those_of_the_stream(bench: Bench, source: Source) -> None:
    streams = stream(headers={"x-version": "2", "X-Gone": None, "Accept": "application/acme"}, query={"a": 2})
    client = bench.client(
        source.url,
        streams,
        headers={"X-Version": "1", "X-Gone": "x", "X-Key": "$key"},
        query={"a": 1, "b": 1},
        secrets={"key": "sec-777"},
    )
    seen = asked(client, source)
    assert seen.query == {"a": ["2"], "b": ["1"]}
    assert (seen.headers["X-Version"], seen.headers["X-Key"], seen.headers["Accept"]) == (
        "2",
        "sec-777",
        "application/acme",
    )
    assert "X-Gone" not in seen.headers


def test_a_value_of_data_is_never_taken_for_a_secret_or_placeholder(bench: Bench, source: Source) -> None:
    client = bench.client(source.url, secrets={"key": "sec-777"})
    body = {"name": "<fields.name>", "other": "x <fields.other>", "all": "<fields>", "plain": "<<b>"}
    values = {"fields": {"name": "$key", "other": "<fields.name>"}}
    client.send(call(request="POST /things", body=body), values)
    assert source.seen[0].json == {
        "name": "$key",
        "other": "x <fields.name>",
        "all": {"name": "$key", "other": "<fields.name>"},
        "plain": "<b>",
    }


def test_a_placeholder_alone_keeps_its_type_and_is_quoted_in_a_path(bench: Bench, source: Source) -> None:
    client = bench.client(source.url + "/v1")
    values = {"external_id": "a/../b?c#d é", "n": 12345678901234567890123}
    client.send(call(request="PUT /things/<external_id>", body={"n": "<n>", "m": ["<n>"]}), values)
    seen = source.seen[0]
    assert seen.path == "/v1/things/a%2F..%2Fb%3Fc%23d%20%C3%A9"
    assert seen.json == {"n": 12345678901234567890123, "m": [12345678901234567890123]}


@pytest.mark.parametrize("value", ["", "..", "."])
def test_a_value_that_would_climb_is_refused(bench: Bench, source: Source, value: str) -> None:
    with pytest.raises(DataError, match="part of a path"):
        bench.client(source.url).send(call(request="GET /things/<external_id>"), {"external_id": value})
    assert source.seen == []


def test_a_value_that_would_break_a_header_is_refused(bench: Bench, source: Source) -> None:
    client = bench.client(source.url)
    for value in ("a\r\nX-Evil: 1", "snow ☃"):
        with pytest.raises(DataError, match="can't stand in a header"):
            client.send(call(request="GET /x", headers={"If-Match": "<record.etag>"}), {"record": {"etag": value}})
    assert source.seen == []


def test_a_missing_value_is_named(bench: Bench, source: Source) -> None:
    client = bench.client(source.url)
    with pytest.raises(DataError, match=r"<record\.etag> has no value"):
        client.send(call(request="GET /x", query={"e": "<record.etag>"}), {"record": {}})
    with pytest.raises(ConfigError, match="<nobody> has no value here"):
        client.send(call(request="GET /x", query={"e": "<nobody>"}), {})


def test_forms_nest(bench: Bench, source: Source) -> None:
    body = {
        "email": "a@b.c",
        "metadata": {"ref": "<reference>", "flag": False},
        "items": [{"price": "p1"}],
        "tags[]": ["x", "y"],
    }
    bench.client(source.url, encoding="form").send(call(request="POST /customers", body=body), {"reference": "r&1"})
    seen = source.seen[0]
    assert seen.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert seen.body == (b"email=a%40b.c&metadata[ref]=r%261&metadata[flag]=false&items[0][price]=p1&tags[]=x&tags[]=y")


def test_a_call_may_have_its_own_encoding(bench: Bench, source: Source) -> None:
    bench.client(source.url, encoding="form").send(call(request="POST /x", body={"a": 1}, encoding="json"), {})
    assert (source.seen[0].json, source.seen[0].headers["Content-Type"]) == ({"a": 1}, "application/json")


def test_graphql_is_never_substituted(bench: Bench, source: Source) -> None:
    text = 'query { things(first: 5, q: "<cursor> $key <<") { id } }'
    streams = stream(request="POST /graphql", graphql=text, body={"variables": {"since": "<cursor>"}}, cursor=SINCE)
    seen = asked(bench.client(source.url, streams), source, since="S")
    assert seen.json == {"query": text, "variables": {"since": "S"}}


SINCE = {"field": "at", "start": "2020-01-01"}


@pytest.mark.parametrize("full", [False, True])
def test_start_is_sent_where_nothing_else_is_known(bench: Bench, source: Source, full: bool) -> None:
    streams = stream(cursor={**SINCE, "send": "since", "format": "unix"})
    assert asked(bench.client(source.url, streams), source, full=full).query == {"since": ["1577836800"]}


def test_without_start_a_full_refresh_sends_no_cursor(bench: Bench, source: Source) -> None:
    streams = stream(cursor={"field": "at", "send": "since"})
    client = bench.client(source.url, streams)
    assert asked(client, source, full=True).query == {}
    list(client.pages("things", since="2024-01-01T00:00:00Z"))
    assert source.seen[1].query == {"since": ["2024-01-01T00:00:00Z"]}


def test_windows_stand_in_path_query_and_body(bench: Bench, source: Source) -> None:
    streams = stream(
        request="POST /<cursor>..<cursor.end>",
        body={"filter": {"value": "<cursor>"}},
        cursor={**SINCE, "format": "date", "step": "90d", "send_end": "until"},
    )
    client = bench.client(source.url, streams)
    seen = asked(client, source, since="2024-01-01", until="2024-03-31")
    assert (seen.path, seen.query) == ("/2024-01-01..2024-03-31", {"until": ["2024-03-31"]})
    assert seen.json == {"filter": {"value": "2024-01-01"}}
    list(client.pages("things"))
    assert source.seen[1].path.startswith("/2020-01-01..20")


def test_a_typed_cursor_keeps_its_type_in_a_body(bench: Bench, source: Source) -> None:
    streams = stream(request="POST /search", body={"gte": "<cursor>"}, cursor={**SINCE, "format": "unix_ms"})
    client = bench.client(source.url, streams)
    assert asked(client, source).json == {"gte": 1577836800000}


def test_a_position_remembers_the_cursor_it_was_read_with(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": [{"id": len(seen.query)}], "next": None if seen.one("after") else "t"})
    form = {"type": "cursor", "read": "next", "send": "after"}
    streams = stream(records="items", pagination=form, cursor={"field": "at", "send": "since"})
    client = bench.client(source.url, streams)
    page = next(iter(client.pages("things", since="S1")))
    source.seen.clear()
    list(client.pages("things", position=page.next))
    assert source.seen[0].query == {"since": ["S1"], "after": ["t"]}


def test_a_page_replaces_a_cursor_sent_at_the_same_place(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": [], "next": None if seen.one("after") == "t" else "t"})
    form = {"type": "cursor", "read": "next", "send": "after"}
    streams = stream(records="items", pagination=form, cursor={"field": "at", "send": "after"})
    list(bench.client(source.url, streams).pages("things", since="S1"))
    assert [seen.query for seen in source.seen] == [{"after": ["S1"]}, {"after": ["t"]}]


FULL: dict[str, Any] = {
    "request": "POST /events",
    "query": {"types[]": ["a"], "keep": 1},
    "headers": {"X-A": "1", "X-B": "2"},
    "body": {"filter": {"a": 1, "b": 2}, "sort": "x"},
}


@pytest.mark.parametrize(
    ("full", "method", "query", "body"),
    [
        ({"request": "GET /all", "query": {"types[]": None}, "body": None}, "GET", {"keep": ["1"]}, b""),
        ({"query": None}, "POST", {}, b'{"filter":{"a":1,"b":2},"sort":"x"}'),
        (
            {"body": {"filter": {"a": None}}},
            "POST",
            {"types[]": ["a"], "keep": ["1"]},
            b'{"filter":{"b":2},"sort":"x"}',
        ),
        (
            {"query": {"more": 2}},
            "POST",
            {"types[]": ["a"], "keep": ["1"], "more": ["2"]},
            b'{"filter":{"a":1,"b":2},"sort":"x"}',
        ),
    ],
)
def test_a_full_refresh_differs_as_declared(
    bench: Bench, source: Source, full: dict[str, Any], method: str, query: dict[str, Any], body: bytes
) -> None:
    seen = asked(bench.client(source.url, stream(**FULL, full=full)), source, full=True)
    assert (seen.method, seen.query, seen.body) == (method, query, body)


def test_an_incremental_run_is_untouched_by_full(bench: Bench, source: Source) -> None:
    seen = asked(bench.client(source.url, stream(**FULL, full={"request": "GET /all", "body": None})), source)
    assert (seen.method, seen.path, seen.json) == ("POST", "/events", FULL["body"])


def test_full_has_its_own_records_and_pagination(bench: Bench) -> None:
    source = bench.source(
        lambda seen: {"all": [{"id": 1}], "data": [{"object": {"id": 2}}], "next": None if seen.one("p") else "2"}
    )
    streams = stream(
        records={"path": "data", "unwrap": "object"},
        full={"records": "all", "pagination": {"type": "cursor", "read": "next", "send": "p"}},
    )
    client = bench.client(source.url, streams)
    assert [page.rows for page in client.pages("things")] == [[{"id": 2}]]
    assert [page.rows for page in client.pages("things", full=True)] == [[{"id": 1}], [{"id": 1}]]


def test_a_child_list_is_read_for_its_parent(bench: Bench) -> None:
    source = bench.source(lambda seen: {"notes": [{"id": 1, "contact": "old"}], "meta": {"page": 7}})
    include = {"contact": "parent id", "page": "body meta.page", "tag": "header X-None"}
    streams = {
        "contacts": {"request": "GET /contacts", "records": ".", "primary_key": "id"},
        "things": {
            "request": "GET /contacts/<contacts.ref.id>/notes",
            "query": {"zone": "<contacts.zone>"},
            "records": {"path": "notes", "include": include},
            "primary_key": "id",
        },
    }
    client = bench.client(source.url, streams)
    parent = {"id": 9, "ref": {"id": "a/b"}, "zone": "eu"}
    pages = list(client.pages("things", parent=parent))
    assert (source.seen[0].path, source.seen[0].query) == ("/contacts/a%2Fb/notes", {"zone": ["eu"]})
    assert pages[0].rows == [{"id": 1, "contact": 9, "page": 7}]
    assert parent == {"id": 9, "ref": {"id": "a/b"}, "zone": "eu"}
    with pytest.raises(DataError, match=r"<contacts.ref.id> has no value.*acme/things"):
        list(client.pages("things", parent={"zone": "eu"}))


def test_a_declared_call_to_another_origin_is_refused(bench: Bench, source: Source) -> None:
    other = bench.source(lambda seen: [])
    client = bench.client(source.url, auth={"type": "bearer", "token": "$t"}, secrets={"t": "tok-12345"})
    with pytest.raises(ContractError, match="not an origin"):
        client.send(call(request=f"GET {other.url}/x"), {})
    assert other.seen == []
    allowed = bench.client(source.url, origins=[other.url])
    allowed.send(call(request=f"GET {other.url}/x"), {})
    assert len(other.seen) == 1


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"type": "bearer", "token": "$t"}, "Authorization", "Bearer tök-12345"),
        ({"type": "basic", "username": "ann", "password": "$t"}, "Authorization", "Basic YW5uOnTDtmstMTIzNDU="),
        ({"type": "basic", "username": "$t"}, "Authorization", "Basic dMO2ay0xMjM0NTo="),
        ({"type": "api_key", "send": "header X-Key", "key": "$t", "prefix": "Key "}, "X-Key", "Key tök-12345"),
        ({"type": "none"}, "Authorization", None),
    ],
)
def test_each_kind_of_proof(bench: Bench, source: Source, auth: dict[str, Any], name: str, value: str | None) -> None:
    seen = asked(bench.client(source.url, auth=auth, secrets={"t": "tök-12345"}), source)
    assert seen.headers.get(name) == value


def test_a_key_in_query_or_body(bench: Bench, source: Source) -> None:
    secrets = {"t": "a&b"}
    in_query = bench.client(source.url, auth={"type": "api_key", "send": "query key", "key": "$t"}, secrets=secrets)
    assert asked(in_query, source).query == {"key": ["a&b"]}
    auth = {"type": "api_key", "send": "body auth.key", "key": "$t"}
    in_body = bench.client(source.url, stream(request="POST /things", body={"q": 1}), auth=auth, secrets=secrets)
    source.seen.clear()
    assert asked(in_body, source).json == {"q": 1, "auth": {"key": "a&b"}}


def test_an_undeclared_secret_is_a_mistake_of_the_file(bench: Bench, source: Source) -> None:
    with pytest.raises(ConfigError, match=r"\$other is used"):
        bench.client(source.url, auth={"type": "bearer", "token": "$other"})
