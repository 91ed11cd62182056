"""`integrations why`: read by a person, and by a program."""

from __future__ import annotations

from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made, paged


def test_a_life_is_told_and_an_unknown_id_too(bench: Bench, command: Command) -> None:
    bench.streams = {"things": {**THINGS, "skip": {"draft": True}}}
    bench.source.answer = paged([*made(3, name="old"), {"id": "d1", "draft": True}])
    command("sync", "acme")
    bench.source.answer = paged(made(3, name="new"))
    command("sync", "acme")
    said = command("why", "acme", "things", "k00001")
    lines = said.splitlines()
    assert lines[0] == "acme/things k00001: it is here"
    assert [line.split()[3] for line in lines[1:5]] == ["request", "decision", "request", "decision"]
    assert "updated (raw); name: 'old' → 'new'" in lines[4]
    assert "The record as the source gave it:" in said
    assert [line.split()[:4] for line in command("why", "acme", "things").splitlines()[3:4]] == [
        ["d1", "skipped", "draft:", "true"]
    ]
    (left_out,) = command("why", "acme", "things", "--json")["left_out"]
    assert (left_out["external_id"], left_out["decision"], left_out["reason"]) == ("d1", "skipped", "draft: true")
    assert "d1: it was skipped at 20" in command("why", "acme", "things", "d1")
    document = command("why", "acme", "things", "nobody", "--json")
    assert document["state"] == "unknown" and "nothing was ever seen of it" in document["answer"]
    assert set(document) == {
        "connection", "stream", "external_id", "state", "answer", "raw", "canonical", "mapping", "moments", "drift"
    }  # fmt: skip
    assert "did you mean things" in command("why", "acme", "thing", "k1", expect=2)
