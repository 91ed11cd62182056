"""The call log, as it stands in the database after a sync, compared with what the source was really asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.rows import dict_row

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.limits import BODY_CHARACTERS, CALLS_HELD
from integrations_pipeline.spec.ports import HttpCall
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.store import calls
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.conftest import HastyClock, LocalLimiter
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import Bench, made

KEY = "planted-key-77aa/1f&x"
THINGS = {"request": "GET /things", "records": "items", "primary_key": "id"}


def logged(bench: Bench) -> list[dict[str, Any]]:
    with psycopg.connect(bench.database_url, autocommit=True, row_factory=dict_row) as session:
        return session.execute("SELECT * FROM integrations.http_log ORDER BY at, attempt").fetchall()


@contextmanager
def client(bench: Bench, store: Store, stream: dict[str, Any] = THINGS, **more: Any) -> Iterator[Client]:
    """A client of one stream. ``more``: keys of the connection; of `api` where it is an object there."""
    api = {"url": bench.source.url, "pagination": {"type": "cursor", "read": "next", "send": "after"}}
    api |= {"limits": ["1000 per 1s"], **more.pop("api", {})}
    given = {"connection": "acme", "api": api, "streams": {"things": stream}, "secrets": {"key": {"env": "X"}}, **more}
    made = Client(
        Connection.model_validate(given),
        limiter=LocalLimiter(),
        tokens=store.tokens(Connection.model_validate(given)),
        log=store.calls,
        secrets={"key": Secret(KEY)},
        clock=HastyClock(),
    )
    try:
        yield made
    finally:
        made.close()


def synced(bench: Bench, stream: dict[str, Any] = THINGS, **more: Any) -> StreamResult:
    with Store(bench.database_url) as store, client(bench, store, stream, **more) as one:
        return sync(one._connection, one, store, {}).streams[0]


def test_each_call_with_its_try_its_wait_and_its_run(bench: Bench) -> None:
    asked: list[str] = []

    def answer(seen: Seen) -> Reply:
        asked.append(seen.one("after"))
        if len(asked) == 2:
            return Reply({"error": "slow down"}, status=429, headers={"Retry-After": "7", "X-Request-Id": "req_2"})
        if len(asked) == 3:
            return Reply(status=302, headers={"Location": "/things?after=2&moved=1"})
        after = {"next": "2"} if not seen.one("after") else {}
        return Reply({"items": made(3 if after else 2), **after}, headers={"X-Request-Id": f"req_{len(asked)}"})

    bench.source.answer = answer
    result = synced(bench)
    assert result.status == "succeeded"
    calls = logged(bench)
    assert len(calls) == len(bench.source.seen) == 4
    assert [one["status"] for one in calls] == [200, 429, 302, 200]
    assert [one["attempt"] for one in calls] == [1, 1, 2, 2]
    assert [one["outcome"] for one in calls] == ["ok", "rate_limited", "ok", "ok"]
    assert [one["rows"] for one in calls] == [3, None, None, 2]
    assert [one["request_id"] for one in calls] == ["req_1", "req_2", None, "req_4"]
    assert calls[2]["waited_seconds"] >= 7
    assert "the source answered 429" in calls[2]["wait_reason"]
    assert [one["url"].removeprefix(bench.source.url) for one in calls] == [
        "/things", "/things?after=2", "/things?after=2", "/things?after=2&moved=1",
    ]  # fmt: skip
    assert {(one["connection"], one["stream"], one["method"]) for one in calls} == {("acme", "things", "GET")}
    assert {(one["run_id"],) for one in calls} == set(bench.rows("SELECT run_id FROM integrations.run_log"))
    assert all(one["received_bytes"] for one in calls if one["status"] == 200)


def test_calls_of_pages_read_ahead_belong_to_their_run(bench: Bench) -> None:
    def answer(seen: Seen) -> Reply:
        page = int(seen.one("page", "1"))
        return Reply({"items": [{"id": f"{page}-{n}"} for n in range(4)] if page <= 6 else [], "total": 24})

    bench.source.answer = answer
    pages = {"type": "page_number", "send": "page", "total": "total", "size": {"send": "per", "value": 4}}
    result = synced(bench, api={"pagination": pages, "concurrency": 3})
    assert result.counters.created == 24
    runs = {one["run_id"] for one in logged(bench)}
    assert {(one,) for one in runs} == set(bench.rows("SELECT run_id FROM integrations.run_log"))


def test_a_failed_runs_calls_are_kept_with_their_bodies(bench: Bench) -> None:
    long = {"error": "no such page", "filler": "ä" * BODY_CHARACTERS}
    bench.source.answer = lambda seen: Reply(long, status=400)
    assert synced(bench).status == "failed"
    (call,) = logged(bench)
    assert (call["status"], call["outcome"]) == (400, "config")
    assert "no such page" in call["error"]
    assert call["response_body"].startswith('{"error": "no such page"')
    assert len(call["response_body"]) <= BODY_CHARACTERS + 1


def test_calls_without_an_answer_say_why(bench: Bench) -> None:
    bench.source.answer = lambda seen: Reply(raw=[b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
    assert synced(bench, api={"retry": {"attempts": 3}}).status == "deferred"
    assert [(one["status"], one["outcome"], one["error"], one["attempt"]) for one in logged(bench)] == [
        (None, "transient", "the answer was cut off", attempt) for attempt in (1, 2, 3)
    ]


def test_bodies_of_good_calls_are_kept_where_asked_for(bench: Bench) -> None:
    bench.source.answer = lambda seen: Reply({"items": made(1), "you_sent": KEY, "password": "hunter2-hunter2"})
    posted = {**THINGS, "request": "POST /things", "body": {"filter": "new", "api_key": "$key"}}
    synced(bench, posted)
    synced(bench, posted, log_bodies="all")
    plain, all_bodies = logged(bench)
    assert json.loads(plain["request_body"])["filter"] == "new"  # it only says what is asked for
    assert plain["response_body"] is None
    assert json.loads(all_bodies["response_body"])["items"] == made(1)
    assert "hunter2" not in all_bodies["response_body"]


@pytest.mark.parametrize("log_bodies", ["failures", "all"])
@pytest.mark.parametrize("status", [200, 400])
def test_no_secret_of_a_request_is_in_the_log(bench: Bench, status: int, log_bodies: str) -> None:
    """Sent in the query, the headers and the body; repeated in the answer, in a next link and as a request id."""

    def answer(seen: Seen) -> Reply:
        shown = quote(seen.one("api"), safe="")
        link = f"{bench.source.url}/things?api={shown}&signature={shown}x&page=2"
        told = {"items": made(2), "next": None if seen.one("page") else link, "saw": str(seen.query) + str(seen.body)}
        return Reply(told, status=status, headers={"X-Request-Id": f"for {seen.one('api')}"})

    bench.source.answer = answer
    synced(
        bench,
        {**THINGS, "request": "POST /things", "headers": {"X-Key": "$key"}, "body": {"inside": "$key"}},
        api={
            "auth": {"type": "api_key", "send": "query api", "key": "$key"},
            "pagination": {"type": "link_body", "read": "next"},
        },
        log_bodies=log_bodies,
    )
    assert len(logged(bench)) == (2 if status == 200 else 1)
    text = json.dumps(logged(bench), default=str)
    for form in (KEY, "planted-key-77aa%2F1f%26x", "planted-key"):
        assert form not in text


def test_what_a_login_sends_and_answers_is_never_kept(bench: Bench) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.path == "/login":
            return Reply({"ticket": "fresh-ticket-123456"})
        return Reply({"items": made(1)})

    bench.source.answer = answer
    login = {"request": "POST /login", "body": {"pass": "$key"}, "keep": {"ticket": "ticket"}}
    auth = {"type": "session", "login": [login], "send": {"header X-Ticket": "<kept.ticket>"}}
    assert synced(bench, api={"auth": auth}, log_bodies="all").status == "succeeded"
    calls = logged(bench)
    assert [one["url"].removeprefix(bench.source.url) for one in calls] == ["/login", "/things"]
    assert (calls[0]["request_body"], calls[0]["response_body"], calls[0]["stream"]) == (None, None, None)
    assert len({one["run_id"] for one in calls}) == 1, "the login belongs to the run that needed it"
    assert "fresh-ticket" not in json.dumps(calls, default=str)


def test_a_log_that_cannot_be_written_fails_nothing_and_is_told(bench: Bench) -> None:
    bench.source.answer = lambda seen: Reply({"items": made(3)})
    with psycopg.connect(bench.database_url, autocommit=True) as session:
        session.execute("ALTER TABLE integrations.http_log RENAME TO away")
        with Store(bench.database_url) as store, client(bench, store) as one:
            result = sync(one._connection, one, store, {}).streams[0]
            assert result.status == "succeeded"
            assert result.counters.created == 3
            assert "HTTP calls not written to the call log yet: 1" in str(result.note)
            assert logged_in(session, "away") == 0
            session.execute("ALTER TABLE integrations.away RENAME TO http_log")
            again = sync(one._connection, one, store, {}).streams[0]
            assert again.note is None
            assert logged_in(session, "http_log") == 2, "what waited is written when it can be"


def test_a_locked_log_holds_up_no_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE", "SET LOCAL lock_timeout = '50ms'")
    bench.source.answer = lambda seen: Reply({"items": made(3)})
    with psycopg.connect(bench.database_url) as session:
        session.execute("LOCK integrations.http_log")
        result = synced(bench)
    assert result.status == "succeeded"
    assert "lock timeout" in str(result.note)


def logged_in(session: psycopg.Connection[Any], table: str) -> int:
    row = session.execute(f"SELECT count(*) FROM integrations.{table}").fetchone()
    assert row is not None
    return int(row[0])


def test_calls_are_dropped_and_counted_rather_than_filling_the_memory(bench: Bench) -> None:
    with psycopg.connect(bench.database_url, autocommit=True) as session, Store(bench.database_url) as store:
        session.execute("ALTER TABLE integrations.http_log RENAME TO away")
        for number in range(CALLS_HELD + 3):
            url = "http://127.0.0.1/ä\x00\ud800"
            store.calls.note(HttpCall(number, datetime.now(UTC), "acme", None, None, "GET", url))
        assert "missing" not in str(store.calls.flush())
        session.execute("ALTER TABLE integrations.away RENAME TO http_log")
        assert "missing from the call log: 3 HTTP calls" in str(store.calls.flush())
        assert logged_in(session, "http_log") == CALLS_HELD
        assert session.execute("SELECT min(id) FROM integrations.http_log").fetchone() == (3,), "the oldest are dropped"


def test_a_call_that_no_column_holds_keeps_no_other_from_the_log(bench: Bench) -> None:
    with psycopg.connect(bench.database_url, autocommit=True) as session, Store(bench.database_url) as store:
        for number in range(5):
            rows = 2**40 if number in (1, 3) else number
            at = datetime.now(UTC)
            store.calls.note(HttpCall(number, at, "acme", None, None, "GET", "http://127.0.0.1/", rows=rows))
        assert "missing from the call log: 2 HTTP calls" in str(store.calls.flush())
        assert session.execute("SELECT array_agg(id ORDER BY id) FROM integrations.http_log").fetchone() == ([0, 2, 4],)
        store.calls.note(HttpCall(9, datetime.now(UTC), "acme", None, None, "GET", "http://127.0.0.1/"))
        assert store.calls.flush() is None
        assert logged_in(session, "http_log") == 4
