"""Whatever is thrown at the door: no 500, no row, and the next genuine delivery is accepted."""

from __future__ import annotations

import json
import logging
import random
import select
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.gateway.door import Door as OneDoor
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.inbox import append
from integrations_pipeline_tests.client.test_signatures import FORM, SCHEMES
from integrations_pipeline_tests.gateway.conftest import Door, connection, until
from integrations_pipeline_tests.gateway.test_door import EVENT, genuine

ANSWER_SECONDS = 20.0
TARGETS = [*SCHEMES, "nobody", "", "..%2f..", "%00", "%ff%fe", "stripe/x", "a" * 9_000]
HEADERS = [
    "Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Connection", "Upgrade", "Host", "Cookie",
    "Stripe-Signature", "X-Hub-Signature-256", "X-Slack-Signature", "X-Slack-Request-Timestamp", "webhook-signature",
    "webhook-timestamp", "webhook-id", "X-HubSpot-Request-Timestamp", "X-HubSpot-Signature-v3", "X-Twilio-Signature",
    "X-DocuSign-Signature-1", "X-DocuSign-Signature-99", "Authorization", "x-square-hmacsha256-signature",
]  # fmt: skip
VALUES = [
    "", "0", "-1", "99999999999999999999", "5", "chunked", "gzip, chunked", "100-continue", "close", "websocket",
    "h2c", FORM, "multipart/form-data; boundary=", "multipart/form-data; boundary=b", "application/json", "t=,v1=",
    "t=1,v1=" + "00" * 32, "v1,AAAA v1,AAAA", "sha256=" + "0" * 64, "sha256=zz", "Bearer ", "Bearer k2", "\x00",
    "é" * 50, "v0=" + "f" * 64, "1e9", "NaN", "١٢٣", "A" * 44, "=" * 44,
]  # fmt: skip
BODIES = [
    b"", b"{", b"null", b"[]", EVENT, EVENT[:-1], b"\xff" * 9, b"\x00", b'{"a":' * 5_000, b"[" * 100_000,
    b"1e999999999",
    b'"\\ud800"', b"--b\r\n\r\nx\r\n--b--", b'--b\r\nContent-Disposition: form-data; name="json"\r\n\r\n{\r\n--b--\r\n',
    b"json={", b"&&&=&" * 400, b"%zz=%", b"a[b]=c", b"9" * 5_000, b'{"event": {"event_hash": {}}}', b"\xef\xbb\xbf{}",
]  # fmt: skip


def garbage(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(1, 400))


def broken_http(dice: random.Random) -> bytes:
    """A request with something wrong in its form: bytes changed, cut, doubled."""
    whole = bytearray(sound(dice))
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(whole))
        piece = dice.choice(
            [b"", b"\r\n", b"\n", b"\x00", b" ", b":", dice.randbytes(3), b"HTTP/9.9", bytes(whole[:40])]
        )
        whole[at : at + dice.randrange(0, 12)] = piece
    return b"X" + bytes(whole[: dice.randrange(1, len(whole) + 1)])


def sound(dice: random.Random, headers: Any = (), body: bytes | None = None, target: str | None = None) -> bytes:
    """A request that HTTP allows, though its headers are anything."""
    body = dice.choice(BODIES) if body is None else body
    target = dice.choice(TARGETS) if target is None else target
    given = headers or [(dice.choice(HEADERS), dice.choice(VALUES)) for _ in range(dice.randrange(0, 7))]
    method = dice.choice(["POST"] * 9 + ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "FOO"])
    query = dice.choice(["", "", "?", "?a=%zz&&=", "?hub.mode=subscribe&hub.challenge=1", "?" + "a=1&" * 1_500])
    lines = [f"{method} /webhooks/{target}{query} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in given)]
    if dice.random() < 0.9:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body


def tampered(dice: random.Random, door: Door) -> bytes:
    """A genuine delivery with another body, or to another connection."""
    name = dice.choice([one for one in SCHEMES if one != "plain"])
    body, headers = genuine(door, name)
    if dice.random() < 0.3:
        other = dice.choice([one for one in SCHEMES if one not in (name, "dropbox_sign")])
        return sound(dice, headers, body, other)
    changed = body.replace(b"event_type", dice.choice([b"event_typ", b"event_type2", b"\xff"])).replace(
        b"evt_", b"evt-"
    )
    return sound(dice, headers, changed, name)


def cases(door: Door, seed: int, count: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    for _ in range(count):
        kind = dice.randrange(4)
        if kind == 0:
            yield garbage(dice)
        elif kind == 1:
            yield broken_http(dice)
        elif kind == 2:
            yield sound(dice)
        else:
            yield tampered(dice, door)


def statuses(port: int, sent: bytes) -> list[int]:
    """What came back within a moment; a request that is not whole gets nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as link:
        try:
            link.sendall(sent)
            answer = link.recv(65_536) if select.select([link], [], [], 0.05)[0] else b""
        except ConnectionError:
            return []
    found = [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(one) for one in found]


ALLOWED = {100, 200, 400, 401, 404, 405, 408, 413}


def fuzz(door: Door, caplog: pytest.LogCaptureFixture, seed: int, count: int) -> None:
    caplog.set_level(logging.ERROR, "uvicorn.error")
    met: set[int] = set()
    for sent in cases(door, seed, count):
        found = statuses(door.port, sent)
        assert set(found) <= ALLOWED, (found, sent[:2_000])
        met.update(found)
    assert 401 in met
    until(lambda: door.health() == 200)
    assert caplog.records == [] and door.rows() == []
    assert door.deliver("stripe", EVENT) == 202


def test_malformed_requests_make_no_500_and_leave_no_row(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    fuzz(door, caplog, 1, 1_000)


@pytest.mark.long
def test_ten_thousand_malformed_requests(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    fuzz(door, caplog, 2, 10_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


PLACES = st.sampled_from(["id", "type", "a.0", "."])


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=JSON, places=st.tuples(PLACES, PLACES, PLACES))
def test_whatever_is_signed_and_can_be_read_is_kept(
    own_door: Callable[..., OneDoor], session: psycopg.Connection[Any], document: Any, places: tuple[str, str, str]
) -> None:
    """Ids, types and orders of any type, NaN and lone surrogates included: the database holds them all."""
    door = own_door(*places)
    text = json.dumps({"id": document, "type": document, "a": [document]})
    sent = Delivery("POST", "/webhooks/any", [], text.encode("ascii"))
    events = door.events(sent)
    assert len(events) == 1 and append(session, events) == frozenset()


@pytest.fixture
def session(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield session


@pytest.fixture
def own_door(tmp_path: Path) -> Callable[..., OneDoor]:
    """A door that reads id, type and order at the places given."""

    @cache
    def door(event_id: str, event_type: str, order_by: str) -> OneDoor:
        text = connection("any", {"verify": {"type": "none"}})
        document = json.loads(text)
        document["webhook"] |= {"event_id": event_id, "event_type": event_type, "order_by": order_by}
        file = tmp_path / "any.yaml"
        file.write_text(json.dumps(document))
        loaded = load_connection(str(file), Home(tmp_path))
        assert loaded.webhook is not None
        return OneDoor(loaded, loaded.webhook, None)

    return door
