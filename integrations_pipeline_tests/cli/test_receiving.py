"""`integrations receive` and `integrations inbox`: events applied, looked at, decided about from the terminal."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from integrations_pipeline.cli import main
from integrations_pipeline.spec.limits import EVENT_TRIES
from integrations_pipeline.store import inbox
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import THINGS, Bench

HOOK = {
    "verify": {"type": "standard_webhooks", "secret": "$signing"},
    "event_type": "type",
    "events": {"thing.*": {"upsert": "things", "record": "thing"}},
}


@pytest.fixture
def hooked(
    bench: Bench, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The same command line on a connection with a webhook and a secret."""
    monkeypatch.setenv("ACME_SIGNING", "whsec_bm90LWZvci1hbnlib2R5")
    api = {"url": bench.source.url, "pagination": {"type": "single_page"}, "retry": {"attempts": 1}}
    document = {"connection": "acme", "secrets": {"signing": {"env": "ACME_SIGNING"}}, "api": api, "webhook": HOOK}
    (tmp_path / "connections" / "acme.yaml").write_text(yaml.safe_dump({**document, "streams": {"things": THINGS}}))

    def run(*words: str, expect: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        assert ended.value.code == expect, said
        return json.loads(said.out) if "--json" in words else said.out + said.err

    return run


def arrive(bench: Bench, type: str, **more: Any) -> None:
    """As the gateway stores it."""
    payload = json.dumps({"type": type, **more})
    event = inbox.Event("acme", more.get("event"), sha256(payload.encode()).digest(), type, None, payload, "{}")
    with Store(bench.database_url) as store, store.borrow() as session:
        inbox.append(session, [event])


def test_waiting_events_are_applied_and_counted(bench: Bench, hooked: Command) -> None:
    assert "no event waits" in hooked("receive", "acme")
    arrive(bench, "thing.changed", thing={"id": "a"})
    arrive(bench, "nobody.knows")
    done = hooked("receive", "acme", "--json")
    assert done["events"] == {"applied": 1, "ignored": 1}
    assert [(one["stream"], one["created"]) for one in done["streams"]] == [("things", 1)]
    assert bench.live() == {"a"}


def test_events_are_listed_and_shown_without_secrets(bench: Bench, hooked: Command) -> None:
    assert "no events" in hooked("inbox", "list")
    arrive(bench, "thing.changed", thing={"id": "a", "api_token": "not-for-anybody"})
    hooked("receive", "acme")
    (group,) = hooked("inbox", "list", "acme", "--json")["inbox"]
    assert (group["event_type"], group["status"], group["outcome"], group["events"]) == (
        "thing.changed", "done", "applied", 1
    )  # fmt: skip
    assert hooked("inbox", "list", "--status", "dead", "--json") == {"inbox": []}
    number = str(group["ids"][0])
    shown = hooked("inbox", "show", number, "--json")["event"]
    assert (shown["stream"], shown["external_id"]) == ("things", "a")
    assert "not-for-anybody" not in shown["payload"] + hooked("inbox", "show", number)
    assert "has the id 99" in hooked("inbox", "show", "99", expect=2)


def test_a_dead_event_is_replayed_or_discarded_with_a_reason(bench: Bench, hooked: Command) -> None:
    arrive(bench, "thing.changed", event="poison")
    for code in [0] * (EVENT_TRIES - 1) + [1]:  # the last try tells that it is given up
        hooked("receive", "acme", expect=code)
        bench.rows("UPDATE integrations.inbox SET next_try_at = NULL RETURNING 1")
    (group,) = hooked("inbox", "list", "--status", "dead", "--json")["inbox"]
    (number,) = group["ids"]
    assert "no object at" in hooked("inbox", "show", str(number))
    assert hooked("inbox", "replay", "acme", "--json") == {"replayed": [number]}
    assert hooked("inbox", "list", "--status", "received", "--json")["inbox"][0]["events"] == 1
    assert "a reason was expected" in hooked("inbox", "discard", str(number), "--reason", " ", expect=2)
    done = hooked("inbox", "discard", str(number), "--reason", "a test of the provider", "--json")
    assert done == {"discarded": [number]}
    assert "can be so decided about" in hooked("inbox", "discard", str(number), "--reason", "twice", expect=2)
    assert bench.rows("SELECT status, reason ->> 'message' FROM integrations.inbox") == [
        ("discarded", "a test of the provider")
    ]
