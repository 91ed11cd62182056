"""The lines of the log: none of a command unless asked for, then JSON on stderr, with the trace of what failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.client.source import Reply
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

MAIN = "from integrations_pipeline.cli import main; main()"


def synced(level: str | None) -> subprocess.CompletedProcess[str]:
    """`integrations sync acme` in a process of its own, since lines are set up once per process."""
    environment = {**os.environ, **({"INTEGRATIONS_LOG": level} if level else {})}
    return subprocess.run(
        [sys.executable, "-c", MAIN, "sync", "acme", "--json"], env=environment, capture_output=True, text=True
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_command_says_nothing_but_its_result_unless_lines_are_asked_for(bench: Bench, command: Command) -> None:
    bench.source.answer = paged(made(3))
    command("check", "acme")
    done = synced(None)
    assert (done.stderr, done.returncode) == ("", 0)
    assert json.loads(done.stdout)["streams"][0]["created"] == 3
    told = lines(synced("info"))
    (run_id,) = {one["run_id"] for one in told}
    (request,) = (one for one in told if one["event"] == "request")
    assert (request["connection"], request["stream"], request["status"], request["rows"]) == ("acme", "things", 200, 3)
    assert (request["level"], request["method"], request["outcome"]) == ("info", "GET", "ok")
    assert request["url"] == f"{bench.source.url}/things"
    (end,) = (one for one in told if one["event"] == "stream synced")
    assert (end["status"], end["unchanged"], end["timestamp"][-1]) == ("succeeded", 3, "Z")
    assert (run_id,) in bench.rows("SELECT run_id::text FROM integrations.run_log")


def test_a_failure_is_one_line_for_people_and_a_trace_in_the_log(bench: Bench, command: Command) -> None:
    bench.source.answer = lambda seen: Reply({"error": "no"}, status=400)
    command("check", "acme")
    told = lines(synced("warning"))
    assert [one["event"] for one in told] == ["request", "stream stopped"]
    assert (told[0]["level"], told[0]["response_body"]) == ("warning", '{"error": "no"}')
    assert (told[1]["level"], told[1]["class"], told[1]["stream"]) == ("error", "config", "things")
    assert "Traceback" in told[1]["exception"]
    assert "exchange.py" in told[1]["exception"]
    assert "Traceback" not in command("sync", "acme", expect=1)


def test_a_wrong_level_is_refused_before_any_work(bench: Bench, command: Command) -> None:
    command("check", "acme")
    done = synced("loud")
    assert done.returncode == 2
    assert "set it to one of: debug, info, warning, error, off" in done.stdout + done.stderr
    assert bench.source.seen == []
