"""What is hidden in texts for people, and what in data; and what must stay as it is."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from integrations_pipeline.client.redaction import Redactor, redactor_of
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret

KEY = "planted/key+7&f=="
HEADER = SendPlace("header", name="Authorization")


def connection(auth: dict[str, Any], **api: Any) -> Connection:
    """With the secrets user, password and app."""
    streams = {"orders": {"request": "GET /orders", "records": "items", "primary_key": "id"}}
    names = {"user": {"env": "U"}, "password": {"env": "P"}, "app": {"env": "A"}}
    api = {"url": "https://api.example.com", "auth": auth, "pagination": {"type": "single_page"}, **api}
    return Connection.model_validate({"connection": "c", "secrets": names, "api": api, "streams": streams})


def written(secret: str) -> list[str]:
    """In each form that a source may repeat it in."""
    quoted = quote(secret, safe="")
    texts = [secret, quoted, re.sub("%..", lambda found: found[0].lower(), quoted), json.dumps(secret)[1:-1]]
    texts += [json.dumps(secret)[1:-1].replace("/", "\\/"), html.escape(secret)]
    texts += [base64.b64encode(f"{before}{secret}{after}".encode()).decode()
              for before in ("", "a", "ab", "ann:") for after in ("", "x", "xy")]  # fmt: skip
    return [*texts, base64.urlsafe_b64encode(f"ann:{secret}".encode()).decode()]


@pytest.mark.parametrize("form", written(KEY))
def test_each_form_of_a_secret_is_hidden(form: str) -> None:
    told = Redactor([Secret(KEY)]).text(f"<p>you sent {form}, which is wrong</p>")
    assert "***" in told and told.startswith("<p>you sent ") and told.endswith(", which is wrong</p>")
    assert form not in told and len(told) < 60
    kept = Redactor(credentials=[Secret(KEY)]).data({"note": [f"see {form}"]})
    assert kept["note"][0].startswith("see ") and "***" in kept["note"][0] and form not in kept["note"][0]


def test_a_short_secret_hides_no_ordinary_word_but_where_a_name_tells_it() -> None:
    knows = Redactor([Secret("k"), Secret("shop")], places=[("header", "X-Shop"), ("query", "api")])
    plain = "the shop keeps books: skip k"
    assert knows.text(plain) == plain
    assert knows.text('{"X-Shop": "k", "api_key": "shop", "kind": "k"}') == (
        '{"X-Shop": "***", "api_key": "***", "kind": "k"}'
    )
    assert knows.text("GET /x?api=k&page=2") == "GET /x?api=***&page=2"
    assert knows.document({"X-Shop": "k", "name": "k"}) == {"X-Shop": "***", "name": "k"}


def test_data_keep_what_only_says_who_somebody_is() -> None:
    """A source writes our user's name into records; a number or a word may be anybody's."""
    found = connection({"type": "basic", "username": "$user", "password": "$password"}, headers={"X-App-Key": "$app"})
    secrets = {
        "user": Secret("robot-42@acme.example"),
        "password": Secret("planted-pass-71"),
        "app": Secret("20240101"),
    }
    knows = redactor_of(found, secrets)
    record = {"by": "robot-42@acme.example", "day": "20240101", "note": "planted-pass-71 for robot-42@acme.example"}
    assert knows.data(record) == {**record, "note": "*** for robot-42@acme.example"}
    assert knows.text(str(record)) == "{'by': '***', 'day': '***', 'note': '*** for ***'}", "people are told neither"


def test_what_requests_show_is_hidden_in_data_once_it_was_shown() -> None:
    knows = Redactor()
    tenant = (SendPlace("header", name="X-Tenant"), Secret("tenant-4711-berlin"))
    cookie = (SendPlace("header", name="Cookie"), Secret("lang=en-US-2024; sid=8c1ef0a2b7d94410"))
    knows.showing(((HEADER, Secret("Bearer granted-e7b2-91")), tenant, cookie))
    record = {"token": "granted-e7b2-91", "tenant": "tenant-4711-berlin", "lang": "en-US-2024", "s": "8c1ef0a2b7d94410"}
    assert knows.repeated_in(json.dumps(record).encode())
    assert knows.data(record) == {**record, "token": "***", "s": "***"}
    assert not knows.repeated_in(b'{"tenant": "tenant-4711-berlin"}')


def test_a_text_that_is_json_stays_json() -> None:
    text = json.dumps({"a": 'say token=abc" now', "b": f"{KEY}", "secret": 'x"y', "c": f'\\{KEY}"'})
    assert json.loads(Redactor([Secret(KEY)]).text(text)) == {
        "a": 'say token=***" now', "b": "***", "secret": "***", "c": '\\***"'
    }  # fmt: skip


def test_no_part_of_a_secret_is_left_by_a_cut() -> None:
    knows = Redactor([Secret(KEY)])
    for before in range(0, 60):
        shown = knows.excerpt("x" * before + KEY + "y" * 5_000, 40)
        assert "planted" not in shown and len(shown) <= 41
