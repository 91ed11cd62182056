"""`integrations delivery`: changes that no address took are listed, shown and sent once more from the terminal."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import deliver as delivering
from integrations_pipeline.sync.deliver import deliver
from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.simulator.test_webhooks import receiving
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made, paged
from integrations_pipeline_tests.sync.test_deliver import KEY, MAP, TOLD, kind


@pytest.fixture
def dead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two changes that were given up, since nobody takes any."""
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + base64.b64encode(KEY).decode())
    monkeypatch.setenv("TEAM_URL", "http://127.0.0.1:9/nobody")
    monkeypatch.setattr(delivering, "DELIVERY_TRIES", 1)
    bench.streams, bench.kinds = {"things": {**THINGS, "map": MAP}}, {"thing": kind(TOLD)}
    bench.sync(paged(made(2, name="a")))
    assert delivered(bench) == {"dead": 2}
    return bench


def delivered(bench: Bench) -> dict[str, int]:
    with Store(bench.database_url) as store:
        return dict(deliver(store, bench.kinds))


def listed(command: Command, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = command("delivery", "list", *words, "--json")["deliveries"]
    return found


def test_dead_changes_are_listed_shown_and_sent_once_more(
    dead: Bench, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group,) = listed(command, "--status", "dead")
    assert (group["kind"], group["target"], group["changes"]) == ("thing", "env TEAM_URL", 2)
    assert listed(command, "other") == listed(command, "--status", "queued") == []
    assert "env TEAM_URL" in command("delivery", "list")
    first, second = group["ids"]
    shown = command("delivery", "show", str(first), "--json")["delivery"]
    assert (shown["change"], shown["status"], shown["before"]) == ("created", "dead", None)
    assert '"name": "a"' in command("delivery", "show", str(first))
    assert command("delivery", "replay", str(first), "--json") == {"replayed": [first]}
    assert "no dead change has the id" in command("delivery", "replay", str(first), expect=2)
    assert "1 replayed" in command("delivery", "replay", "thing")
    with receiving() as receiver:
        monkeypatch.setenv("TEAM_URL", receiver.url)
        assert delivered(dead) == {"delivered": 2}
        assert len(receiver.documents()) == 2
    assert listed(command)[0]["status"] == "delivered"
    assert {status for (status,) in dead.rows("SELECT status FROM integrations.dead_letter")} == {"replayed"}
    assert second != first


def test_what_is_not_there_is_said(dead: Bench, command: Command) -> None:
    assert "has the id 99" in command("delivery", "show", "99", expect=2)
    assert "not both" in command("delivery", "replay", "1", "thing", expect=2)
    assert command("delivery", "replay", "nothing", "--json") == {"replayed": []}
