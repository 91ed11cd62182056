"""Whatever happens on the wire: no hang, no bomb, no half answer taken for a whole one, no credential elsewhere."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import pytest

from integrations_pipeline.spec.errors import ContractError, SourceConfigError, Transient
from integrations_pipeline_tests.client.conftest import Bench, HastyClock, rows
from integrations_pipeline_tests.client.source import Reply, Seen, zipped

ONE_TRY = {"attempts": 1}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = json.dumps([{"id": 1}, {"id": 2}]).encode()


def first(client: Any) -> Any:
    return next(iter(client.pages("things")))


@pytest.mark.parametrize(
    "pieces",
    [
        [OK, 30.0],
        [b"HTTP/1.1 200 OK\r\n", *([b"X-Drip: drop\r\n", 0.3] * 90)],
        [OK + b"Content-Length: 1000\r\n\r\n", *([b" ", 0.1] * 300)],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n", *([b"1\r\n \r\n", 0.1] * 300)],
    ],
    ids=["silent", "dripping headers", "dripping body", "dripping chunks"],
)
def test_the_deadline_covers_the_whole_answer(bench: Bench, pieces: list[bytes | float]) -> None:
    source = bench.source(lambda seen: Reply(raw=pieces))
    client = bench.client(source.url, timeout="600ms", retry=ONE_TRY)
    began = time.monotonic()
    with pytest.raises(Transient, match=r"in time|not complete"):
        first(client)
    assert time.monotonic() - began < 15


def test_an_answer_after_a_slow_one_has_its_full_time(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply([{"id": 1}], delay=1.0))
    client = bench.client(source.url, timeout="2500ms", retry=ONE_TRY)
    for _ in range(3):
        assert first(client).rows == [{"id": 1}]


TRUNCATED = {
    "content length": [OK + b"Content-Length: 500\r\n\r\n" + BODY],
    "chunk": [OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + BODY],
    "chunk seam": [OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(BODY), BODY)],
    "gzip": [OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY * 50)[:40]],
    "gzip with its length": [OK + b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + gzip.compress(BODY)[:30]],
    "broken gzip": [OK + b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + b"\x1f\x8b\x08" + b"x" * 27],
    "close": [OK + b"\r\n" + BODY[:-3]],
    "headers": [b"HTTP/1.1 200 OK\r\nContent-Le"],
    "nothing": [],
}


@pytest.mark.parametrize("pieces", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_a_cut_answer_is_asked_for_again(bench: Bench, pieces: list[bytes | float]) -> None:
    replies = [Reply(raw=pieces), Reply([{"id": 1}, {"id": 2}])]
    source = bench.source(lambda seen: replies.pop(0))
    assert first(bench.client(source.url, clock=HastyClock())).rows == [{"id": 1}, {"id": 2}]
    assert len(source.seen) == 2


@pytest.mark.parametrize("pieces", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_a_source_that_always_cuts_its_answer_defers(bench: Bench, pieces: list[bytes | float]) -> None:
    source = bench.source(lambda seen: Reply(raw=pieces))
    with pytest.raises(Transient) as caught:
        first(bench.client(source.url, clock=HastyClock()))
    assert len(source.seen) == 5
    assert caught.value.resume_at is not None
    assert "acme/things GET /things" in str(caught.value)


def test_gzip_in_several_members_and_large_ratios(bench: Bench) -> None:
    half = len(BODY) // 2
    members = gzip.compress(BODY[:half]) + gzip.compress(BODY[half:])
    packed = iter([Reply(members, headers={"Content-Encoding": "gzip"}), zipped([{"id": 1, "text": "x" * 5_000_000}])])
    client = bench.client(bench.source(lambda seen: next(packed)).url)
    assert [row["id"] for row in first(client).rows] == [1, 2]
    assert len(first(client).rows[0]["text"]) == 5_000_000


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"[" + b" " * 300_000 + b"]"),
        zipped(" " * 50_000_000),
        Reply(raw=[OK + b"Transfer-Encoding: chunked\r\n\r\n", *([b"10000\r\n" + b" " * 65536 + b"\r\n"] * 50)]),
    ],
    ids=["plain", "bomb", "endless chunks"],
)
def test_an_answer_too_large_is_refused(bench: Bench, reply: Reply) -> None:
    source = bench.source(lambda seen: reply)
    with pytest.raises(ContractError, match=r"larger than 0\.2 MB"):
        first(bench.client(source.url, max_response="200kB"))
    assert len(source.seen) == 1


def test_a_packing_not_asked_for_is_refused(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(b"xx", headers={"Content-Encoding": "br"}))
    with pytest.raises(ContractError, match="'br', which was not asked for"):
        first(bench.client(source.url))
    assert source.seen[0].headers["Accept-Encoding"] == "gzip"


HTML = b"<!DOCTYPE html><html><title>Back soon</title></html>"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            Reply(HTML, headers={"Content-Type": "text/html"}),
            r"200 with an HTML page, not JSON \(content type text/html",
        ),
        (Reply(HTML), "an HTML page, not JSON"),
        (Reply(b'"ok"', headers={"Content-Type": "text/html"}), "with text/html, not JSON"),
        (Reply(b"id;name\n1;x", headers={"Content-Type": "text/csv"}), "content type text/csv"),
        (Reply(b""), "the answer is empty"),
        (Reply(b"null"), "empty, where a list should be"),
        (Reply(b'[{"name": "\xe4"}]'), "not UTF-8"),
        (Reply(b'[{"name": "\xe4"}]', headers={"Content-Type": "application/json; charset=ISO-8859-1"}), "iso-8859-1"),
        (Reply({"items": []}), "an object at `.`, not a list"),
    ],
)
def test_what_is_no_json_list_is_a_contract_error(bench: Bench, reply: Reply, said: str) -> None:
    source = bench.source(lambda seen: reply)
    with pytest.raises(ContractError, match=said) as caught:
        first(bench.client(source.url))
    assert caught.value.where == "acme/things GET /things"
    assert len(source.seen) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"\xef\xbb\xbf" + BODY),
        Reply(BODY, headers={"Content-Type": "text/html"}),
        Reply(BODY, headers={"Content-Type": 'application/vnd.acme+json; charset="UTF-8"'}),
        Reply(BODY, headers={"Content-Type": "application/json; charset=latin1"}),
        Reply(raw=[b"HTTP/1.0 200 OK\r\n\r\n" + BODY]),
    ],
    ids=["BOM", "JSON named HTML", "vendor type", "plain ASCII in another charset", "HTTP/1.0 without headers"],
)
def test_json_is_taken_as_it_is_meant(bench: Bench, reply: Reply) -> None:
    assert first(bench.client(bench.source(lambda seen: reply).url)).rows == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_origin_is_followed(bench: Bench, status: int) -> None:
    def answer(seen: Seen) -> Any:
        return Reply(status=status, headers={"Location": "/v2/things?a=1"}) if seen.path == "/things" else rows(2)

    source = bench.source(answer)
    client = bench.client(source.url, auth={"type": "bearer", "token": "$t"}, secrets={"t": "tok-12345"})
    assert len(first(client).rows) == 2
    assert source.seen[1].headers["Authorization"] == "Bearer tok-12345"
    assert client.meter.requests == 2


def test_a_key_in_the_query_follows_a_redirect_within_the_origin_once(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        return Reply(status=302, headers={"Location": "/v2/things?key=old&a=1"}) if seen.path == "/things" else rows(2)

    source = bench.source(answer)
    client = bench.client(source.url, auth={"type": "api_key", "send": "key", "key": "$t"}, secrets={"t": "sec-777"})
    assert len(first(client).rows) == 2
    assert source.seen[1].query == {"a": ["1"], "key": ["sec-777"]}


AUTHS = [
    {"type": "bearer", "token": "$t"},
    {"type": "basic", "username": "ann", "password": "$t"},
    {"type": "api_key", "send": "header X-Key", "key": "$t"},
    {"type": "api_key", "send": "key", "key": "$t"},
]


@pytest.mark.parametrize("auth", AUTHS, ids=["bearer", "basic", "header key", "query key"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_sees_nothing(bench: Bench, auth: dict[str, Any], status: int) -> None:
    other = bench.source(lambda seen: rows(2))
    source = bench.source(lambda seen: Reply(status=status, headers={"Location": other.url + "/things"}))
    client = bench.client(source.url, auth=auth, secrets={"t": "tok-12345"})
    with pytest.raises(ContractError, match="not an origin of this connection") as caught:
        first(client)
    assert other.seen == []
    assert "tok-12345" not in str(caught.value)


def test_redirects_in_a_circle_end(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(status=302, headers={"Location": "/things"}))
    with pytest.raises(ContractError, match="redirected 5 times"):
        first(bench.client(source.url))
    assert len(source.seen) == 6


def test_a_post_is_never_redirected(bench: Bench) -> None:
    source = bench.source(lambda seen: Reply(status=307, headers={"Location": "/other"}))
    streams = {"things": {"request": "POST /things", "records": ".", "primary_key": "id"}}
    with pytest.raises(ContractError, match="redirects POST /things"):
        first(bench.client(source.url, streams))
    assert len(source.seen) == 1


def test_the_environment_adds_no_credential_and_no_proxy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    other = bench.source(lambda seen: rows(1))
    source = bench.source(lambda seen: Reply(rows(2), headers={"Set-Cookie": "sid=1; Path=/"}))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password stolen\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url)
    monkeypatch.setenv("NETRC", str(netrc))
    client = bench.client(source.url)
    assert len(first(client).rows) == 2
    assert len(first(client).rows) == 2
    assert other.seen == []
    assert not any("Authorization" in seen.headers or "Cookie" in seen.headers for seen in source.seen)


def test_an_unreachable_source_defers(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = bench.client(f"http://127.0.0.1:{port}", clock=HastyClock())
    with pytest.raises(Transient, match="can't be reached"):
        first(client)
    assert client.meter.requests == 5


def test_a_name_that_does_not_resolve_defers(bench: Bench) -> None:
    client = bench.client("http://source.invalid", retry=ONE_TRY)
    with pytest.raises(Transient, match="can't be resolved"):
        first(client)


def test_a_server_without_tls_is_no_source_of_https(bench: Bench) -> None:
    source = bench.source(lambda seen: rows(1))
    client = bench.client(source.url.replace("http:", "https:"), retry=ONE_TRY)
    with pytest.raises((SourceConfigError, Transient)):
        first(client)
    assert source.seen == []


def test_connections_are_kept_alive(bench: Bench) -> None:
    ports = set()

    def answer(seen: Seen) -> Any:
        return {"items": rows(1, int(seen.one("page"))), "more": int(seen.one("page")) < 10}

    source = bench.source(answer)
    original = source.answer
    source.answer = lambda seen: (ports.add(seen.peer), original(seen))[1]
    form = {"type": "page_number", "send": "page", "more": "more"}
    streams = {"things": {"request": "GET /things", "records": "items", "primary_key": "id", "pagination": form}}
    assert len(list(bench.client(source.url, streams).pages("things"))) == 10
    assert len(ports) == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.5/",
        "http://[::1]:{port}/things",
        "http://localhost:{port}/things",
        "http://127.1:{port}/things",
        "http://2130706433:{port}/things",
        "http://0x7f000001:{port}/things",
        "http://[::ffff:127.0.0.1]:{port}/things",
        "//169.254.169.254/",
        "http://127.0.0.1:{other}/things",
        "https://127.0.0.1:{port}/things",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("by", ["redirect", "next link"])
def test_private_addresses_that_an_answer_names_are_not_asked(bench: Bench, target: str, by: str) -> None:
    other = bench.source(lambda seen: [])
    port = {"other": other.url.rsplit(":", 1)[1]}

    def answer(seen: Seen) -> Any:
        url = target.format(port=source.url.rsplit(":", 1)[1], **port)
        return Reply(status=302, headers={"Location": url}) if by == "redirect" else {"items": [{"id": 1}], "next": url}

    source = bench.source(answer)
    streams = {"things": {"request": "GET /things", "records": "items", "primary_key": "id"}}
    pages = {"type": "link_body", "read": "next"}
    client = bench.client(source.url, streams, pagination=pages, auth={"type": "bearer", "token": "$t"},
                          secrets={"t": "planted-token"})  # fmt: skip
    with pytest.raises(ContractError, match="the source points to"):
        list(client.pages("things"))
    assert (len(source.seen), other.seen) == (1, [])
