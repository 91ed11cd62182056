"""`integrations quarantine`: what was set aside is listed, shown, tried again and discarded from the terminal."""

from __future__ import annotations

from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, paged

FIELDS = {"id": {"type": "string"}, "email": {"type": "string", "format": "email"}, "n": {"type": "integer"}}
ROWS = [
    {"id": "a", "email": "jane at example.org", "n": 1, "api_token": "not-for-anybody"},
    {"id": "b", "email": "jo@example.org", "n": "many"},
    {"id": "c", "email": "jo@example.org", "n": "few"},
]


def test_rows_are_listed_by_rule_and_shown_whole(bench: Bench, command: Command) -> None:
    bench.things(paged(ROWS), fields=FIELDS)
    listed = {(one["field"], one["rule"]): one for one in command("quarantine", "list", "--json")["quarantine"]}
    assert {key: one["rows"] for key, one in listed.items()} == {("email", "format"): 1, ("n", "type"): 2}
    assert listed["email", "format"]["samples"] == ["xxxx xx xxxxxxx.xxx"]
    assert sorted(listed["n", "type"]["samples"]) == ["few", "many"]
    assert "acme/things" in command("quarantine", "list", "acme/things")
    assert command("quarantine", "list", "other") == "nothing is in quarantine\n"
    (number,) = listed["email", "format"]["ids"]
    row = command("quarantine", "show", str(number), "--json")["row"]
    assert (row["external_id"], row["status"], row["stage"]) == ("a", "open", "boundary")
    assert "jane at example.org" in row["payload"]
    assert "not-for-anybody" not in row["payload"] + command("quarantine", "show", str(number))


def test_rows_are_tried_again_and_discarded(bench: Bench, command: Command) -> None:
    bench.things(paged(ROWS), fields=FIELDS)
    kept = {"connection": "acme", "stream": "things", "healed": 0, "open": 3}
    assert command("quarantine", "retry", "acme", "--json") == {"retried": [kept]}
    bench.streams = {"things": {**THINGS, "fields": {**FIELDS, "n": {"type": "json"}}}}
    asked = len(bench.source.seen)
    assert "2 healed, 1 still open" in command("quarantine", "retry", "acme/things")
    assert (bench.live(), len(bench.source.seen)) == ({"b", "c"}, asked)
    ((number,),) = bench.rows("SELECT id FROM integrations.quarantine WHERE status = 'open'")
    assert "a reason was expected" in command("quarantine", "discard", str(number), "--reason", " ", expect=2)
    done = command("quarantine", "discard", str(number), "--reason", "a test record", "--json")
    assert done == {"discarded": [{"connection": "acme", "stream": "things", "discarded": 1}]}
    assert command("status", "acme", "--json")["streams"][0]["quarantine_open"] == 0


def test_what_is_not_there_is_said(bench: Bench, command: Command) -> None:
    bench.things(paged(ROWS), fields=FIELDS)
    assert "has the id 99" in command("quarantine", "retry", "99", expect=2)
    assert "has the id 99" in command("quarantine", "show", "99", expect=2)
    assert "not both" in command("quarantine", "retry", "1", "acme", expect=2)
    command("quarantine", "retry", "acne", expect=2)
    bench.streams = {"other": THINGS}
    assert "no stream things any more" in command("quarantine", "retry", "acme", expect=2)
