"""What a sender meets: accepted and stored, or refused with nothing stored and nothing told."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from integrations_pipeline.gateway import application, bodies, serving
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import WEBHOOK_BYTES, WEBHOOK_EVENTS
from integrations_pipeline.spec.lines import log_lines
from integrations_pipeline_tests.client.test_signatures import CALLBACK, FORM, SCHEMES
from integrations_pipeline_tests.gateway import conftest
from integrations_pipeline_tests.gateway.conftest import Door, connection, scheme, until

EVENT = b'{"id": "evt_1", "type": "order.updated", "created": 1714564800, "data": {"id": 7}}'


def body_of(name: str) -> tuple[bytes, list[tuple[str, str]]]:
    if name == "twilio":
        return b"id=evt_1&type=order.updated", [("content-type", FORM)]
    if name == "dropbox_sign":
        body = b'--b\r\nContent-Disposition: form-data; name="json"\r\n\r\n' + CALLBACK + b"\r\n--b--\r\n"
        return body, [("content-type", "multipart/form-data; boundary=b")]
    return EVENT, []


def genuine(door: Door, name: str, at: datetime | None = None) -> tuple[bytes, list[tuple[str, str]]]:
    """Body and headers of a delivery that its scheme accepts; Dropbox Sign's carries its proof in the body."""
    body, headers = body_of(name)
    if name == "dropbox_sign":
        return body, headers
    return body, list(door.signed(name, body, at, headers).headers)


def test_a_genuine_delivery_is_one_row_and_the_same_again_is_none(door: Door) -> None:
    for name in SCHEMES:
        sent = genuine(door, name)
        assert [door.send(name, *sent)[0] for _ in range(2)] == [202, 202], name
    rows = door.rows()
    assert [one["connection"] for one in rows] == list(SCHEMES)
    assert {(one["status"], one["tries"]) for one in rows} == {("received", 0)}
    told = {(one["event_id"], one["event_type"]) for one in rows if one["connection"] != "dropbox_sign"}
    assert told == {("evt_1", "order.updated")}
    assert [one["headers"] for one in rows] == [{}] * len(rows)


def unproven(door: Door, name: str) -> Iterator[tuple[bytes, list[tuple[str, str]]]]:
    """Unsigned, empty, tampered with, stale, from the future, signed and not readable."""
    body, headers = genuine(door, name)
    yield body.replace(b"event_hash", b"event_hush"), [("x", "y")]
    yield b"", headers
    if name != "plain":  # whose secret proves nothing about the body
        yield body.replace(b"order", b"order2").replace(b"request_sent", b"request_gone"), headers
    if "<timestamp>" in str(SCHEMES[name]) or name == "standard_webhooks":
        for away in (-3600, 3600):
            yield genuine(door, name, datetime.now(UTC) + timedelta(seconds=away))
    for garbage in (b"{", b"\xff\xfe", b'{"a": ' * 300, b'"'):
        if name not in ("twilio", "dropbox_sign"):
            yield garbage, list(door.signed(name, garbage).headers)


def test_all_that_proves_nothing_gets_one_and_the_same_answer(door: Door) -> None:
    answers = [(name, door.send(name, *sent)) for name in SCHEMES for sent in unproven(door, name)]
    assert len(answers) > 70
    assert [name for name, (status, _, _) in answers if status != 401] == []
    told = {(text, tuple(sorted(h.items() - {("date", h["date"])}))) for _, (_, text, h) in answers}
    assert [text for text, _ in told] == [b"the delivery could not be verified"]
    assert door.rows() == []


def test_what_is_told_of_a_wrong_address_method_or_size(door: Door) -> None:
    assert door.send("nobody", EVENT)[0] == 404
    assert door.send("stripe/", EVENT)[0] == 404
    assert door.send("", EVENT)[0] == 404
    status, _, headers = door.send("stripe", b"", method="GET")
    assert (status, headers["allow"]) == (405, "POST")
    assert door.send("stripe", b"", method="DELETE")[0] == 405
    large = b'"' + b"x" * WEBHOOK_BYTES + b'"'
    assert door.deliver("github", large[:-3] + b'"') == 202
    try:
        assert door.deliver("github", large) == 413
    except ConnectionError:
        pass  # told, and the connection closed, while we were still sending
    assert len(door.rows()) == 1


def test_a_delivery_of_many_events_is_a_row_each(door: Door) -> None:
    each = {"each": ".", "event_type": "kind", "event_id": ["n", "body 0.n"], "order_by": "at"}
    door.write("hubspot", scheme("hubspot", **each))
    events = [{"n": n, "kind": "contact.creation", "at": f"2024-05-0{n + 1}T00:00:00Z"} for n in range(3)]

    def stored() -> list[dict[str, Any]]:
        assert door.deliver("hubspot", json.dumps(events).encode()) == 202
        return [one for one in door.rows() if one["event_type"] == "contact.creation"]

    rows = until(stored)
    assert [one["event_id"] for one in rows] == ["0.0", "1.0", "2.0"]
    assert rows[1]["order_value"] == "2024-05-02T00:00:00.000000Z"
    assert rows[2]["payload"] == events[2]
    assert door.deliver("hubspot", b"[]") == 202
    assert door.deliver("hubspot", json.dumps(list(range(WEBHOOK_EVENTS + 1))).encode()) == 401


def test_type_and_id_from_headers_and_only_those_are_kept(door: Door) -> None:
    places = {"event_type": ["header X-GitHub-Event", "action"], "event_id": "header X-GitHub-Delivery"}
    door.write("github", scheme("github", **places))
    sent = [
        ("x-github-event", "issues"),
        ("x-github-delivery", "d-1"),
        ("cookie", "c=1"),
        ("authorization", "Bearer t"),
    ]

    def stored() -> list[dict[str, Any]]:
        assert door.deliver("github", b'{"action": "opened"}', headers=sent) == 202
        return door.rows("SELECT * FROM integrations.inbox WHERE event_id = 'd-1'")

    (row,) = until(stored)
    assert row["event_type"] == "issues.opened"
    assert row["headers"] == {"x-github-event": "issues", "x-github-delivery": "d-1"}


def test_an_event_without_id_or_order_is_kept_by_its_hash(door: Door) -> None:
    assert door.deliver("stripe", b'{"zen": "Keep it logically awesome."}') == 202
    assert door.deliver("stripe", b'{"id": null, "type": {"odd": [1]}, "n": NaN, "s": "\\ud800\\u0000"}') == 202
    first, second = door.rows()
    assert first["event_id"] == first["hash"].hex() and first["event_type"] is None
    assert second["event_id"] == second["hash"].hex() and second["payload"]["n"] == "NaN"


SLACK = {"handshake": {"when": {"type": "url_verification"}, "echo": "challenge"}, "event_id": "event_id"}
META = {
    "methods": ["GET", "POST"],
    "handshake": {
        "when": {"hub.mode": "subscribe"},
        "echo": "query hub.challenge",
        "token": "query hub.verify_token",
        "secret": "$token",
    },
}


def test_handshakes_are_declared(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY", "v3rify")
    door.write("slack", scheme("slack", **SLACK))
    github = json.loads(scheme("github", **META))
    github["secrets"]["token"] = {"env": "VERIFY"}
    door.write("github", json.dumps(github))
    door.write("dropbox_sign", scheme("dropbox_sign", reply={"status": 200, "body": "Hello API Event Received"}))
    door.write("square", scheme("square", methods=["HEAD", "POST"]))
    ask = b'{"type": "url_verification", "challenge": "<b>3eZ"}'
    _, told, headers = until(lambda: (found := door.send("slack", ask))[0] == 200 and found)
    assert (told, headers["content-type"], headers["x-content-type-options"]) == (
        b"<b>3eZ",
        "text/plain; charset=utf-8",
        "nosniff",
    )
    query = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    assert door.send("github", b"", method="GET", query=query + "v3rify")[:2] == (200, b"1158201444")
    assert door.send("github", b"", method="GET", query=query + "guess")[0] == 401
    assert door.send("github", b"", method="GET", query="?hub.mode=subscribe")[0] == 401
    assert door.send("github", b"", method="GET", query="?" + "a=1&" * 3_000)[0] == 401
    body, form = body_of("dropbox_sign")
    assert door.send("dropbox_sign", body, form)[:2] == (200, b"Hello API Event Received")
    assert door.send("square", b"", method="HEAD")[0] == 200
    assert [one["connection"] for one in door.rows()] == ["dropbox_sign"]


def test_a_saved_file_is_live_and_a_broken_one_stays_as_it_was(door: Door) -> None:
    assert door.send("fresh", EVENT)[0] == 404
    door.write("fresh", scheme("stripe").replace('"stripe"', '"fresh"', 1))
    sent = door.signed("stripe", EVENT)
    until(lambda: door.send("fresh", sent.body, sent.headers)[0] == 202)
    door.write("fresh", "connection: fresh\nnonsense: [")
    door.write("marker", scheme("stripe").replace('"stripe"', '"marker"', 1))
    until(lambda: door.send("marker", b"")[0] == 401)  # the edit was seen
    assert door.send("fresh", sent.body, sent.headers)[0] == 202
    (door.home / "connections" / "fresh.yaml").unlink()
    until(lambda: door.send("fresh", EVENT)[0] == 404)
    door.write("marker", connection("marker", {"verify": {"type": "none"}}))
    until(lambda: door.send("marker", b"{}")[0] == 202)


def test_what_cannot_be_verified_now_is_asked_to_come_again(door: Door, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    text = json.loads(scheme("stripe"))
    text["connection"], text["secrets"] = "late", {"signing": {"file": str(secret)}}
    door.write("late", json.dumps(text))
    until(lambda: door.send("late", EVENT)[0] == 503)
    secret.write_text("k\n")
    sent = door.signed("stripe", EVENT)
    until(lambda: door.send("late", sent.body, sent.headers)[0] == 202)
    secret.write_text("rotated")
    until(lambda: door.send("late", sent.body, sent.headers)[0] == 401)


def test_a_secret_that_is_written_while_its_door_is_made_opens_it_at_the_next_look(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    text = json.loads(scheme("stripe"))
    text["secrets"] = {"signing": {"file": str(secret)}}
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / f"{text['connection']}.yaml").write_text(json.dumps(text))

    class Slow(Doors):
        def _tell(self, doors: Any) -> None:
            if not secret.exists():
                secret.write_text("k")

    doors = Slow(Home(tmp_path))
    assert doors.refresh() and not isinstance(doors.find("stripe"), application.Door)
    assert doors.refresh() and isinstance(doors.find("stripe"), application.Door)
    assert not doors.refresh()


def test_without_the_public_address_a_scheme_that_signs_it_is_closed(
    door: Door, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INTEGRATIONS_PUBLIC_URL", raising=False)
    doors = Doors(Home(door.home))
    doors.refresh()
    closed = [name for name in doors.names() if not isinstance(doors.find(name), application.Door)]
    assert closed == ["hubspot", "square", "twilio"]
    assert "INTEGRATIONS_PUBLIC_URL" in str(doors.find("square").reason)  # type: ignore[union-attr]
    monkeypatch.setenv("INTEGRATIONS_PUBLIC_URL", conftest.PUBLIC + "/")
    assert Doors(Home(door.home)).public_url == conftest.PUBLIC


def test_a_lost_database_is_503_and_health_says_so(tmp_path: Path, door: Door) -> None:
    def lost() -> Any:
        raise DestinationError("the database can't be reached")

    other = Door(tmp_path, door.database_url)
    with conftest.serving(other, Gateway(Doors(Home(door.home), conftest.PUBLIC), lost)):
        assert other.deliver("stripe", EVENT) == 503
        assert other.health() == 503
    assert door.health() == 200
    assert door.rows() == []


def closed_within(link: socket.socket, seconds: float) -> bool:
    link.settimeout(seconds)
    try:
        while link.recv(65_536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_who_is_too_slow_is_closed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WEBHOOK_SECONDS", 0.3)
    monkeypatch.setattr(serving, "WEBHOOK_SECONDS", 0.3)
    starts = [
        b"",
        b"POST /webh",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nX-A: ",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ]
    for start in starts:
        with socket.create_connection(("127.0.0.1", door.port)) as link:
            link.sendall(start)
            assert closed_within(link, 30), start
    assert door.rows() == []


def test_a_head_that_never_ends_is_closed(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as link:
        try:
            link.sendall(b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\n")
            for _ in range(400):
                link.sendall(b"X-A: " + b"a" * 1_000 + b"\r\n")
                time.sleep(0)
        except ConnectionError:
            return
        assert closed_within(link, 5)


def test_more_than_can_be_held_is_asked_to_come_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "HELD_BYTES", 10)
    assert door.deliver("stripe", EVENT) == 503
    monkeypatch.undo()
    assert door.deliver("stripe", EVENT) == 202


@pytest.fixture
def lines() -> Iterator[None]:
    log_lines("info")
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("lines")
def test_no_secret_and_no_payload_reaches_the_log(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "s3cr3t-signing-value"
    door.deliver("stripe", b'{"id": "evt_9", "card": "4242424242424242"}')
    door.send("plain", EVENT, {"Authorization": f"Bearer {secret}"})
    door.raw(b"GARBAGE " + secret.encode() + b"\r\n\r\n")
    door.write(
        "broken", scheme("stripe").replace("SIGNING_STRIPE", "NOT_SET_ANYWHERE").replace('"stripe"', '"broken"', 1)
    )
    until(lambda: door.send("broken", EVENT)[0] == 503)
    said = "".join(capsys.readouterr())
    assert "NOT_SET_ANYWHERE" in said
    assert secret not in said and "4242" not in said
