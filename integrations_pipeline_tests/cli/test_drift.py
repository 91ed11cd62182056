"""`integrations drift`: what differs is listed, told in the status, and accepted from the terminal."""

from __future__ import annotations

from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import Bench, made, paged


def test_findings_are_listed_and_accepted(bench: Bench, command: Command) -> None:
    bench.things(paged(made(30)))
    assert "no drift" in command("drift", "list")
    bench.things(paged(made(30, colour="red", phone="+33 1 23 45 67 89")))
    found = {one["path"]: one for one in command("drift", "list", "acme", "--json")["drift"]}
    assert {path: (one["kind"], one["severity"], one["rows"]) for path, one in found.items()} == {
        "colour": ("new_field", "warning", 30),
        "phone": ("new_field", "warning", 30),
    }
    assert (found["colour"]["samples"], found["phone"]["samples"]) == (["red"], ["+99 9 99 99 99 99"])
    assert "2 findings of drift: integrations drift list acme/things" in command("status")
    assert command("status", "--json")["streams"][0]["drift_open"] == 2
    assert "1 accepted" in command("drift", "accept", str(found["colour"]["id"]))
    assert "no open finding" in command("drift", "accept", str(found["colour"]["id"]), expect=2)
    done = command("drift", "accept", "acme/things", "--json")
    assert done == {"accepted": [{"connection": "acme", "stream": "things", "accepted": 1}]}
    assert "no drift" in command("drift", "list")
