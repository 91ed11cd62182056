"""The hook `verify`: a scheme of the provider's own, and what its function's mistakes do to a sender."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.gateway.conftest import Door, connection, serving, until

BODY = b'{"type": "order.updated", "order": {"id": "o"}}'
EVENTS = {"order.updated": {"upsert": "orders", "record": "order"}}
GENUINE = """
import hashlib
import hmac


def is_genuine(delivery, secrets):
    key = secrets["signing"].reveal().encode()
    wanted = hmac.new(key, delivery.content[::-1], hashlib.sha256).hexdigest()
    return delivery.method == "POST" and hmac.compare_digest(wanted, delivery.headers["x-odd-signature"])
"""
WRONG = {
    "says no": "def is_genuine(delivery):\n    return False\n",
    "says nothing": "def is_genuine(delivery):\n    pass\n",
    "says something else": "def is_genuine(delivery):\n    return 'yes'\n",
    "raises": "def is_genuine(delivery):\n    raise ValueError(delivery.content)\n",
}


def signature(body: bytes) -> dict[str, str]:
    return {"X-Odd-Signature": hmac.new(b"odd-key", body[::-1], hashlib.sha256).hexdigest()}


def save(home: Path, text: str) -> None:
    (home / "hooks").mkdir(exist_ok=True)
    file = home / "hooks" / "odd.py"
    file.with_suffix(".tmp").write_text(text)
    file.with_suffix(".tmp").replace(file)


@pytest.fixture
def odd(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A gateway with one connection, verified by its hook alone."""
    monkeypatch.setenv("ODD_SIGNING", "odd-key")
    (tmp_path / "connections").mkdir()
    save(tmp_path, GENUINE)
    door = Door(tmp_path, database_url)
    hook = {"verify": {"type": "none"}, "event_type": "type", "events": EVENTS}
    document = json.loads(connection("odd", hook, signing="ODD_SIGNING"))
    door.write("odd", json.dumps({**document, "hooks": {"verify": "odd.is_genuine"}}))
    with serving(door, Gateway(Doors(Home(tmp_path)), Store(database_url).connect)):
        yield door


def test_a_genuine_delivery_is_kept_and_any_other_is_the_same_401(odd: Door) -> None:
    assert odd.send("odd", BODY, signature(BODY))[0] == 202
    answers = [odd.send("odd", BODY + b" ", signature(BODY)), odd.send("odd", BODY)]  # the second makes it raise
    assert [(status, body) for status, body, _ in answers] == [(401, b"the delivery could not be verified")] * 2
    assert [row["event_type"] for row in odd.rows()] == ["order.updated"]


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_hook_that_says_anything_but_true_refuses(odd: Door, text: str) -> None:
    save(odd.home, text)
    until(lambda: odd.send("odd", BODY, signature(BODY))[0] == 401)  # a saved file is live within a second
    kept = len(odd.rows())
    assert odd.send("odd", BODY.replace(b"updated", b"created"), signature(BODY))[0] == 401
    assert len(odd.rows()) == kept


def test_a_hook_that_breaks_asks_senders_to_come_again(odd: Door) -> None:
    save(odd.home, "def is_genuine(:\n")
    until(lambda: odd.send("odd", BODY, signature(BODY))[0] == 503)
    save(odd.home, GENUINE)
    until(lambda: odd.send("odd", BODY, signature(BODY))[0] == 202)


def test_without_the_hook_the_same_file_is_refused(odd: Door) -> None:
    file = odd.home / "connections" / "odd.yaml"
    document = json.loads(file.read_text())
    assert load_connection("odd", Home(odd.home)).hooks.verify == "odd.is_genuine"
    del document["hooks"]
    odd.write("odd", json.dumps(document))
    with pytest.raises(ConfigError, match="doesn't cover the body"):
        load_connection("odd", Home(odd.home))
