"""`integrations prune`: what is over and old goes, and is counted."""

from __future__ import annotations

from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import Bench, made, paged


def test_old_calls_go_and_the_record_stays(bench: Bench, command: Command) -> None:
    bench.source.answer = paged(made(3))
    command("sync", "acme")
    assert "nothing is old enough to be pruned" in command("prune")
    bench.rows("UPDATE integrations.http_log SET at = at - '15 days'::interval RETURNING 1")
    assert command("prune", "--json")["pruned"]["http_log"] == 1
    assert "k00001: it is here" in command("why", "acme", "things", "k00001")
