"""Each answer means one class of the grammar, and its error names the place without a secret."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec import errors
from integrations_pipeline_tests.client.conftest import Bench, HastyClock, LocalLimiter, rows
from integrations_pipeline_tests.client.source import Reply

TABLE = [
    (400, {}, errors.SourceConfigError),
    (401, {}, errors.CredentialsError),
    (402, {}, errors.SourceConfigError),
    (403, {}, errors.PermissionDenied),
    (403, {"Retry-After": "9"}, errors.RateLimited),
    (403, {"X-RateLimit-Remaining": "0"}, errors.RateLimited),
    (404, {}, errors.NotFound),
    (405, {}, errors.SourceConfigError),
    (408, {}, errors.Transient),
    (409, {}, errors.Conflict),
    (410, {}, errors.CursorExpired),
    (412, {}, errors.Conflict),
    (422, {}, errors.DataError),
    (425, {}, errors.Transient),
    (429, {}, errors.RateLimited),
    (500, {}, errors.Transient),
    (503, {}, errors.Transient),
    (304, {}, errors.ContractError),
]


def first(client: Client) -> Any:
    return next(iter(client.pages("things")))


@pytest.mark.parametrize(("status", "headers", "expected"), TABLE)
def test_the_usual_table(bench: Bench, status: int, headers: dict[str, str], expected: type[Exception]) -> None:
    source = bench.source(lambda seen: Reply({"message": "no"}, status, headers))
    with pytest.raises(expected) as caught:
        first(bench.client(source.url, clock=HastyClock()))
    assert type(caught.value) is expected
    assert f"answered {status}" in str(caught.value)
    repeated = issubclass(expected, errors.Deferred)
    assert len(source.seen) == (5 if repeated else 1)


def test_a_bookmark_gone_is_told_from_a_record_gone(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({}, 410))
    streams = {
        "things": {"request": "GET /things", "records": ".", "primary_key": "id", "get": "GET /things/<external_id>"}
    }
    client = bench.client(source.url, streams)
    with pytest.raises(errors.CursorExpired):
        first(client)
    assert client.get("things", "7", {"id": 7}) is None


CLASSES = {
    "rate_limited": errors.RateLimited,
    "transient": errors.Transient,
    "credentials": errors.CredentialsError,
    "permission": errors.PermissionDenied,
    "config": errors.SourceConfigError,
    "contract": errors.ContractError,
    "data": errors.DataError,
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
    "exists": errors.Exists,
    "cursor_expired": errors.CursorExpired,
}


@pytest.mark.parametrize(("name", "expected"), CLASSES.items())
@pytest.mark.parametrize("status", [200, 418])
def test_each_declared_class_also_on_200(bench: Bench, name: str, expected: type[Exception], status: int) -> None:
    source = bench.source(lambda seen: Reply({"error": {"code": "LIMIT_HIT"}}, status))
    rules = [{"status": status, "when": {"error.code": {"contains": "LIMIT"}}, "is": name}]
    with pytest.raises(expected):
        first(bench.client(source.url, errors=rules, clock=HastyClock()))


def test_the_first_rule_that_matches_wins_and_a_streams_rules_go_first(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply({"code": "B"}, 403))
    api_rules = [{"status": "4xx", "is": "config"}]
    stream_rules = [
        {"status": 403, "when": {"code": "A"}, "is": "data"},
        {"status": [402, 403], "when": {"code": "B"}, "is": "conflict"},
        {"when": {"code": "B"}, "is": "exists"},
    ]
    streams = {"things": {"request": "GET /things", "records": ".", "primary_key": "id", "errors": stream_rules}}
    with pytest.raises(errors.Conflict):
        first(bench.client(source.url, streams, errors=api_rules))


def test_a_condition_on_a_body_that_is_no_json_does_not_hold(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(b"<html><title>Gone fishing</title>", 403))
    with pytest.raises(errors.PermissionDenied, match="an HTML page, 'Gone fishing'"):
        first(bench.client(source.url, errors=[{"status": 403, "when": {"a": 1}, "is": "transient"}]))


def test_ignored_answers_end_a_list_or_are_read(bench: Bench) -> None:
    replies = [Reply({"note": "old"}, 404), Reply({"note": "old", "items": rows(2)})]
    source = bench.source(lambda seen: replies.pop(0))
    streams = {"things": {"request": "GET /things", "records": "items", "primary_key": "id"}}
    client = bench.client(source.url, streams, errors=[{"when": {"note": "old"}, "is": "ignore"}])
    assert [page.rows for page in client.pages("things")] == [[]]
    assert [page.rows for page in client.pages("things")] == [rows(2)]


def test_an_error_names_place_request_id_and_what_the_source_said_without_secrets(bench: Bench) -> None:
    key = "k3y/with+signs=="
    forms = [key, base64.b64encode(f"ann:{key}".encode()).decode(), "k3y%2Fwith%2Bsigns%3D%3D"]

    def answer(seen: Any) -> Reply:
        said = f"no access for {' '.join(forms)} at /x?api_key=abcdef&page=2 with Bearer abcdefghijkl"
        return Reply({"message": said, "token": "t0ps3cret", "padding": "x" * 900}, 401, {"X-Request-Id": "req-77"})

    source = bench.source(answer)
    auth = {"type": "basic", "username": "ann", "password": "$key"}
    client = bench.client(source.url, auth=auth, secrets={"key": key})
    with pytest.raises(errors.CredentialsError) as caught:
        first(client)
    text = str(caught.value)
    assert caught.value.where == "acme/things GET /things, request id req-77"
    assert "no access for *** *** *** at /x?api_key=***&page=2" in text
    assert "abcdefghijkl" not in text
    assert "t0ps3cret" not in text
    assert len(caught.value.what) < 600
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("failure", ["refused", "cut", "500"])
def test_no_error_shows_a_key_sent_in_the_query(bench: Bench, failure: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    reply = Reply(raw=[b"HTTP/1.1 200 OK\r\nContent-Le"]) if failure == "cut" else Reply({}, 500)
    url = "http://127.0.0.1:1" if failure == "refused" else bench.source(lambda seen: reply).url
    auth = {"type": "api_key", "send": "key", "key": "$key"}
    client = bench.client(url, auth=auth, secrets={"key": "sec-777"}, clock=HastyClock())
    with pytest.raises(errors.Transient) as caught:
        first(client)
    chain, error = [], caught.value
    while error is not None:
        chain.append(repr(error) + str(error))
        error = error.__cause__
    assert "sec-777" not in "".join(chain) + caplog.text


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (Reply({"error": "slow down"}, 403), {"status": 403, "when": {"error": {"contains": "slow"}}}),
        (Reply({}, 403, {"X-Reason": "throttled"}), {"status": 403, "when": {"header X-Reason": "throttled"}}),
        (Reply({"ok": False, "error": "busy"}), {"status": 200, "when": {"error": "busy"}}),
        (Reply([], headers={"X-Throttled": "1"}), {"when": {"header x-throttled": 1}}),
        (Reply({}, 420), {"status": 420}),
    ],
)
def test_throttling_in_disguise_is_declared_by_status_body_or_header(
    bench: Bench, reply: Reply, rule: dict[str, Any]
) -> None:
    """It is waited for as the source says, and read afterwards."""
    told = Reply(reply.body, reply.status, {**reply.headers, "Retry-After": "20"})
    replies, clock = [told], HastyClock()
    limiter = LocalLimiter(clock)
    source = bench.source(lambda seen: replies.pop() if replies else rows(1))
    client = bench.client(source.url, clock=clock, limiter=limiter, errors=[{**rule, "is": "rate_limited"}])
    assert first(client).rows == rows(1)
    assert 20 <= clock.slept <= 21
    assert len(limiter.told) == 1
