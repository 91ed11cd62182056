"""`integrations plan`: what people and programs read of it, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integrations_pipeline_tests.cli.conftest import Command, bench, command
from integrations_pipeline_tests.client.source import Reply
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

__all__ = ["bench", "command"]
THINGS = {
    "request": "GET /things",
    "records": "items",
    "primary_key": "id",
    "map": {"to": "thing", "fields": {"name": "name", "token": "token"}},
}


@pytest.fixture(autouse=True)
def things(bench: Bench, command: Command, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    fields = {"name": {"type": "string"}, "token": {"type": "string"}}
    (tmp_path / "models" / "thing.yaml").write_text(json.dumps({"kind": "thing", "fields": fields}))
    bench.streams = {"things": THINGS}
    bench.source.answer = paged(made(12, name="a", token="not-for-people"))


def test_a_plan_is_read_by_people_and_programs(command: Command) -> None:
    said = command("plan", "acme")
    assert "nothing is written" in said
    assert "3 requests" in said
    assert 'things in, created: k00000 name "a"' in said
    assert command("plan", "acme", "--json")["streams"][0]["in"]["created"] == 12
    part = command("plan", "acme", "--requests", "1")
    assert "5 rows were read" in part
    assert "5+" in part
    for text in (said, part, json.dumps(command("plan", "acme", "things", "--full", "--json"))):
        assert "not-for-people" not in text


def test_an_edited_mapping_in_words(bench: Bench, command: Command) -> None:
    command("sync", "acme")
    assert "0 of 12 rows change; 0 newly fail" in command("plan", "acme", "--mapping")
    edited = {"name": {"value": "b"}, "token": {"from": "token", "values": {"x": "y"}}}
    bench.streams = {"things": {**THINGS, "map": {"to": "thing", "fields": {**edited, "token": "token"}}}}
    said = command("plan", "acme", "--mapping")
    assert "12 of 12 rows change; 0 newly fail" in said
    assert "12× name" in said
    assert 'name "a" → "b"' in said
    bench.streams = {"things": {**THINGS, "map": {"to": "thing", "fields": edited}}}
    assert command("plan", "acme", "--mapping", "--json")["streams"][0]["fails"] == 12


def test_how_a_plan_ends(bench: Bench, command: Command) -> None:
    assert "asks the source nothing" in command("plan", "acme", "--mapping", "--full", expect=2)
    assert "no stream" in command("plan", "acme", "nothing", expect=2)
    bench.source.answer = lambda seen: Reply(status=503)
    assert "transient" in command("plan", "acme", expect=3)
    bench.source.answer = lambda seen: Reply(status=401)
    assert command("plan", "acme", "--json", expect=1)["streams"][0]["error"]["class"] == "credentials"
