"""`integrations push` and `integrations outbox`: what a person sees of changes on their way out, and decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integrations_pipeline.cli import main
from integrations_pipeline_tests.client.source import Reply, Source
from integrations_pipeline_tests.sync.provider import LOST, STREAM, Desk, Provider

Command = Callable[..., Any]


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    provider = Provider()
    provider.add(name="Anna")
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        yield desk


@pytest.fixture
def command(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command; its document, or its text."""
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", desk.database_url)
    pages = {"type": "single_page"}
    document = {
        "connection": "crm",
        "api": {"url": desk.source.url, "pagination": pages, "retry": {"attempts": 1}},
        "streams": {"people": {**STREAM, "write": desk.write}},
    }
    fields = {"name": {"type": "string"}, "email": {"type": "string"}, "boss": {"type": "string", "format": "uuid"}}
    for folder, name, text in (
        ("connections", "crm", document),
        ("models", "person", {"kind": "person", "fields": fields}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")

    def command(*words: str, expect: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        assert ended.value.code == expect, said
        return json.loads(said.out) if "--json" in words else said.out + said.err

    return command


def parked(desk: Desk, command: Command) -> int:
    """The id of a create whose answer was lost, at a source that can't be asked."""
    desk.provider.after = lambda seen: LOST if seen.method == "POST" else None
    desk.insert("Cleo")
    said = command("push", "crm", expect=1)
    assert "1 parked" in said and "integrations outbox list" in said
    desk.provider.after = lambda seen: None
    (group,) = command("outbox", "list", "--json")["outbox"]
    assert (group["status"], group["operation"], group["changes"]) == ("parked", "create", 1)
    return int(group["ids"][0])


def test_push_sends_what_all_connections_have_and_says_so(desk: Desk, command: Command) -> None:
    desk.edit("Anna", email="a@b.example")
    (done,) = command("push", "--json")["pushes"]
    assert (done["connection"], done["status"], done["changes"], done["landed"]) == ("crm", "succeeded", {"sent": 1}, 1)
    assert "nothing to send" in command("push")
    assert command("outbox", "list") == "no changes\n"
    assert "done" in command("outbox", "list", "crm", "--status", "done")


def test_a_parked_create_says_who_must_act_and_is_found_by_its_id(desk: Desk, command: Command) -> None:
    number = parked(desk, command)
    said = command("outbox", "show", str(number))
    assert (
        "the person who runs this connection" in said and f"resolve {number} --external-id" in said and "Cleo" in said
    )
    assert "knows no record" in command("outbox", "resolve", str(number), "--external-id", "p9", expect=2)
    assert command("outbox", "show", str(number), "--json")["change"]["status"] == "parked"
    assert "resolved" in command("outbox", "resolve", str(number), "--external-id", "p2")
    command("push")
    assert desk.outbox() == [("create", "done", "resolved")]
    assert [one["name"] for one in desk.provider.people.values()] == ["Anna", "Cleo"]
    assert desk.rows("SELECT count(*) FROM integrations.link") == [(2,)]


def test_a_parked_create_that_is_not_there_is_sent_again(desk: Desk, command: Command) -> None:
    number = parked(desk, command)
    del desk.provider.people["p2"]
    assert "was expected" in command("outbox", "resolve", str(number), expect=2)
    command("outbox", "resolve", str(number), "--not-there")
    assert "1 sent" in command("push")
    assert [one["name"] for one in desk.provider.people.values()] == ["Anna", "Cleo"]


def test_a_dead_change_is_sent_again_once_its_cause_is_mended_or_given_up(desk: Desk, command: Command) -> None:
    desk.provider.instead = lambda seen: Reply({"error": "no"}, 422) if seen.method == "POST" else None
    desk.insert("Cleo")
    desk.insert("Dora")
    assert "2 dead" in command("push", "crm", expect=1)
    first = desk.outbox("id")[0][0]
    assert command("outbox", "discard", str(first), "--reason", "a test", "--json") == {"discarded": [first]}
    desk.provider.instead = lambda seen: None
    assert "1 retried" in command("outbox", "retry", "crm")
    assert "1 sent" in command("push")
    assert len(desk.provider.people) == 2
    assert "can be so decided about" in command("outbox", "retry", str(first), expect=2)
    assert "no change has the id" in command("outbox", "show", "999", expect=2)
