"""`integrations conflicts`: what both sides changed, and a person's decision in both tables and at the source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline_tests.cli.conftest import Command, bench, command
from integrations_pipeline_tests.client.source import Seen
from integrations_pipeline_tests.sync.conftest import Bench

__all__ = ["bench", "command"]
THINGS = {
    "request": "GET /things",
    "records": "items",
    "primary_key": "id",
    "map": {"to": "thing", "fields": {"stage": "stage", "count": "count", "text": "text"}},
    "write": {
        "fields": ["stage", "count", "text"],
        "update": "PATCH /things/<external_id>",
        "conflict": {"default": "review"},
    },
}
LONG = "one line that nobody touches\nand another one that both of them will want to have otherwise\nthe end"


@pytest.fixture(autouse=True)
def conflicts(bench: Bench, command: Command, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Two fields of record a and one of b, changed on both sides."""
    (tmp_path / "models").mkdir()
    fields = {"stage": {"type": "string", "values": ["new", "mine", "yours", "won"]}, "count": {"type": "integer"},
              "text": {"type": "string"}}  # fmt: skip
    (tmp_path / "models" / "thing.yaml").write_text(json.dumps({"kind": "thing", "fields": fields}))
    rows: dict[str, dict[str, Any]] = {
        key: {"id": key, "stage": "new", "count": n, "text": LONG} for n, key in enumerate("ab")
    }

    def answer(seen: Seen) -> Any:
        if seen.method == "PATCH":
            rows[seen.path.split("/")[-1]].update(seen.json)
            return rows[seen.path.split("/")[-1]]
        return {"items": list(rows.values())}

    bench.streams, bench.source.answer = {"things": THINGS}, answer
    command("sync", "acme")
    bench.rows("UPDATE canonical.thing SET stage = 'mine' WHERE count = 0 RETURNING id")
    bench.rows("UPDATE canonical.thing SET count = 10 WHERE count = 1 RETURNING id")
    bench.rows("UPDATE canonical.thing SET text = replace(text, 'will want', 'want') WHERE count = 0 RETURNING id")
    rows["a"] |= {"stage": "yours", "text": LONG.replace("otherwise", "so")}
    rows["b"] |= {"count": 20}
    command("sync", "acme")
    return rows


def ids(command: Command) -> dict[tuple[str, str], str]:
    found = command("conflicts", "list", "acme/things", "--json")["conflicts"]
    return {(one["external_id"], one["field"]): str(one["id"]) for one in found}


def test_conflicts_are_told_with_all_three_values(command: Command) -> None:
    known = ids(command)
    assert set(known) == {("a", "stage"), ("a", "text"), ("b", "count")}
    said = command("conflicts", "list")
    assert all(word in said for word in ("acme/things", "agreed last", "ours", "theirs", "mine", "yours"))
    assert command("conflicts", "list", "other").strip() == "no conflict is open"
    whole = command("conflicts", "show", known["a", "stage"])
    assert "mine *" in whole
    assert "yours *" in whole
    text = command("conflicts", "show", known["a", "text"])
    assert "-and another one that both of them will want to have otherwise" in text
    assert "+and another one that both of them want to have otherwise" in text
    assert "+and another one that both of them will want to have so" in text
    one = command("conflicts", "show", known["b", "count"], "--json")["conflict"]
    assert (one["base"], one["ours"], one["theirs"], one["status"]) == (1, 10, 20, "open")


def test_a_decision_reaches_both_sides(bench: Bench, command: Command, conflicts: dict[str, dict[str, Any]]) -> None:
    known = ids(command)
    command("conflicts", "resolve", known["a", "stage"], "--theirs")
    command("conflicts", "resolve", known["a", "text"], "--ours")
    said = command("conflicts", "resolve", known["b", "count"], "--value", "15")
    assert "goes out with the next push" in said
    command("push", "acme")
    ours = bench.rows("SELECT stage, count, text FROM canonical.thing ORDER BY count")
    assert ours == [(conflicts[key]["stage"], conflicts[key]["count"], conflicts[key]["text"]) for key in "ab"]
    assert [(row[0], row[1]) for row in ours] == [("yours", 0), ("new", 15)]
    assert "will want" not in ours[0][2]
    assert ids(command) == {}
    assert "(value by" in command("conflicts", "show", known["b", "count"])


def test_what_can_not_be_decided_so(command: Command) -> None:
    known = ids(command)
    assert "--ours" in command("conflicts", "resolve", known["a", "stage"], expect=2)
    assert "--ours" in command("conflicts", "resolve", known["a", "stage"], "--ours", "--theirs", expect=2)
    assert "ids were expected" in command("conflicts", "resolve", "acme", "--ours", expect=2)
    assert "no conflict has the id" in command("conflicts", "show", "999", expect=2)
    assert "can't be 'ten'" in command("conflicts", "resolve", known["b", "count"], "--value", "ten", expect=2)
    assert "one of new" in command("conflicts", "resolve", known["a", "stage"], "--value", "odd", expect=2)
    both = command("conflicts", "resolve", known["a", "stage"], "999", "--ours", expect=2)
    assert "999" in both
    assert len(ids(command)) == 3
    command("conflicts", "resolve", known["a", "stage"], "--ours")
    assert "isn't open" in command("conflicts", "resolve", known["a", "stage"], "--ours", expect=2)
