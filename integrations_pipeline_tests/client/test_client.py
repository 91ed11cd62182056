"""The client's other calls: one record, any declared call, the check, the probe, deleted keys, opaque cursors."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, ContractError, CredentialsError, PermissionDenied
from integrations_pipeline.spec.forms import Call
from integrations_pipeline_tests.client.conftest import Bench, LocalLimiter, rows
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.patience import until


def stream(**parts: Any) -> dict[str, Any]:
    return {"things": {"request": "GET /things", "records": ".", "primary_key": "id", **parts}}


def test_one_record_by_id_and_by_the_fields_of_its_key(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        return Reply({"data": {"id": 1}}) if seen.path == "/things/a%2Fb" and seen.one("c") == "de" else Reply({}, 404)

    get = {"request": "GET /things/<external_id>", "query": {"c": "<key.country>"}, "record": "data"}
    client = bench.client(bench.source(answer).url, stream(get=get))
    assert client.get("things", "a/b", {"country": "de"}) == {"id": 1}
    assert client.get("things", "other", {"country": "de"}) is None


def test_a_record_that_is_no_object_is_a_contract_error(bench: Bench) -> None:
    client = bench.client(bench.source(lambda seen: [1]).url, stream(get="GET /things/<external_id>"))
    with pytest.raises(ContractError, match="no object"):
        client.get("things", "1", {})


def test_a_record_of_a_stream_without_get(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="has no `get`"):
        bench.client(bench.source(lambda seen: []).url).get("things", "1", {})


def test_any_declared_call(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(status=204, headers={"X-Request-Id": "r1"}))
    answer = bench.client(source.url).send(Call.model_validate("DELETE /things/<external_id>"), {"external_id": "7"})
    assert (answer.status, answer.document, answer.request_id) == (204, None, "r1")
    assert answer.request == "DELETE /things/7"


def test_check_asks_what_is_declared_for_it(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 200 if seen.path == "/me" else 500))
    client = bench.client(source.url, check="GET /me")
    client.check()
    assert [seen.path for seen in source.seen] == ["/me"]


def test_check_reads_one_page_of_a_stream_that_needs_no_parent(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(1), "next": str(len(source.seen))})
    form = {"type": "cursor", "read": "next", "send": "after"}
    streams = {
        "notes": {"request": "GET /things/<things.id>/notes", "records": ".", "primary_key": "id"},
        **stream(records="items", pagination=form),
    }
    client = bench.client(source.url, streams)
    client.check()
    assert [seen.path for seen in source.seen] == ["/things"]


@pytest.mark.parametrize(("status", "expected"), [(401, CredentialsError), (403, PermissionDenied)])
def test_check_fails_as_it_should(bench: Bench, status: int, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        bench.client(bench.source(lambda seen: Reply({}, status)).url).check()


def test_a_missing_secret_is_found_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_TOKEN", raising=False)
    connection = Connection.model_validate(
        {
            "connection": "acme",
            "secrets": {"token": {"env": "ACME_TOKEN"}},
            "api": {"url": "http://127.0.0.1:1", "auth": {"type": "bearer", "token": "$token"}},
            "streams": stream(),
        }
    )
    with pytest.raises(ConfigError, match="ACME_TOKEN is not set"):
        Client(connection, limiter=LocalLimiter())


@pytest.mark.parametrize(
    ("probe", "given", "asked"),
    [
        ("etag", ("ETag", 'W/"v1"'), "If-None-Match"),
        ("last_modified", ("Last-Modified", "Tue, 02 Jan 2024 00:00:00 GMT"), "If-Modified-Since"),
    ],
)
def test_a_probe_asks_whether_anything_is_new(bench: Bench, probe: str, given: tuple[str, str], asked: str) -> None:
    def answer(seen: Seen) -> Reply:
        same = seen.headers.get(asked) == given[1]
        return Reply(status=304) if same else Reply(rows(2), headers=dict([given]))

    source = bench.source(answer)
    client = bench.client(source.url, stream(probe=probe))
    [page] = client.pages("things")
    assert page.validator == {probe: given[1]}
    assert not page.not_modified
    [again] = client.pages("things", probe=json.loads(json.dumps(page.validator)))
    assert (again.rows, again.next, again.not_modified) == ([], None, True)


def test_a_probe_is_sent_with_the_first_request_only(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page"))
        return {"items": rows(1, page), "more": page < 3}

    source = bench.source(answer)
    form = {"type": "page_number", "send": "page", "more": "more"}
    client = bench.client(source.url, stream(probe="etag", records="items", pagination=form))
    pages = list(client.pages("things", probe={"etag": "x"}))
    assert [seen.headers.get("If-None-Match") for seen in source.seen] == ["x", None, None]
    source.seen.clear()
    list(client.pages("things", probe={"etag": "x"}, position=pages[0].next))
    assert [seen.headers.get("If-None-Match") for seen in source.seen] == [None, None, None]


COUNT = {"request": "GET /things/count", "query": {"since": "<cursor>"}, "read": "meta.count"}


def test_a_count_is_asked_from_the_cursor_on(bench: Bench) -> None:
    source = bench.source(lambda seen: {"meta": {"count": 7}} if seen.path == "/things/count" else rows(2))
    client = bench.client(source.url, stream(probe=COUNT, cursor={"field": "at", "send": "since"}))
    assert client.count("things", "2024-01-02T00:00:00Z") == 7
    assert source.seen[0].query == {"since": ["2024-01-02T00:00:00Z"]}
    [page] = client.pages("things")
    assert page.validator is None and len(page.rows) == 2


@pytest.mark.parametrize("read", ["meta.count", "header X-Total"])
def test_a_count_may_be_text_and_stand_in_a_header(bench: Bench, read: str) -> None:
    source = bench.source(lambda seen: Reply({"meta": {"count": "12"}}, headers={"X-Total": "12"}))
    assert bench.client(source.url, stream(probe={**COUNT, "read": read})).count("things", "x") == 12


@pytest.mark.parametrize("answer", [{}, {"meta": {"count": None}}, {"meta": {"count": -1}}, {"meta": {"count": True}}])
def test_what_is_no_count_is_a_broken_contract(bench: Bench, answer: Any) -> None:
    client = bench.client(bench.source(lambda seen: answer).url, stream(probe=COUNT))
    with pytest.raises(ContractError, match="where a count should be"):
        client.count("things", "x")


@pytest.mark.parametrize(("keep", "kept"), [("first", "s1"), ("last", "s3")])
def test_an_opaque_cursor_is_kept_through_the_list_and_its_positions(bench: Bench, keep: str, kept: str) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page", "1"))
        return {
            "items": rows(1, page),
            "sync": f"s{page}" if page != 2 else None,
            "next": page + 1 if page < 3 else None,
        }

    form = {"type": "cursor", "read": "next", "send": "page"}
    cursor = {"read": "sync", "keep": keep, "send": "syncToken"}
    source = bench.source(answer)
    client = bench.client(source.url, stream(records="items", pagination=form, cursor=cursor))
    pages = list(client.pages("things", since="s0"))
    assert pages[-1].cursor_value == kept
    assert source.seen[0].one("syncToken") == "s0"
    assert list(client.pages("things", position=pages[1].next))[-1].cursor_value == kept


def test_the_time_of_reading_is_the_sources_own(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(raw=[RAW]))
    [page] = bench.client(source.url).pages("things")
    assert page.read_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


RAW = b"HTTP/1.1 200 OK\r\nConnection: close\r\nDate: Tue, 02 Jan 2024 03:04:05 GMT\r\nContent-Length: 2\r\n\r\n[]"


def test_deleted_keys_are_a_list_like_any_other(bench: Bench) -> None:
    source = bench.source(lambda seen: {"gone": [{"key": 4}], "next": None if seen.one("p") else "2"})
    feed = {"call": "GET /deleted", "records": "gone", "key": "key", "cursor": {"field": "at", "send": "since"}}
    pagination = {"type": "cursor", "read": "next", "send": "p"}
    client = bench.client(source.url, stream(deletes={"feed": feed}), pagination=pagination)
    assert [page.rows for page in client.deleted_keys("things", since="S")] == [[{"key": 4}], [{"key": 4}]]
    assert source.seen[1].query == {"since": ["S"], "p": ["2"]}


def test_an_unknown_stream_is_named(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="no stream thingies"):
        list(bench.client("http://127.0.0.1:1").pages("thingies"))


def test_rows_inside_parents_have_no_list(bench: Bench) -> None:
    streams = {**stream(), "lines": {"parent": "things", "records": "lines", "primary_key": "id"}}
    with pytest.raises(ConfigError, match="lies inside the records of things"):
        list(bench.client("http://127.0.0.1:1", streams).pages("lines"))


def test_a_closed_client_ends_a_read_under_way(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(1), "next": "2"} if not seen.one("p") else Reply({}, delay=30))
    form = {"type": "cursor", "read": "next", "send": "p"}
    client = bench.client(source.url, stream(records="items", pagination=form))
    pages = client.pages("things")
    next(pages)
    until(lambda: len(source.seen) == 2)
    began = time.monotonic()
    client.close()
    pages.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 15
