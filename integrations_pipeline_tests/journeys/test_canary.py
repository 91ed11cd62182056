"""Secrets planted in each kind of credentials, and all that sources granted for them, are found nowhere afterwards.

The sources are as unkind as can be: in failures they repeat everything that was sent to them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations_pipeline.simulator.answer import Answer
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.simulator.tokens import COOKIE
from integrations_pipeline.simulator.views import Request
from integrations_pipeline_tests.journeys.accounts import ACCOUNTS, Account
from integrations_pipeline_tests.journeys.searching import everything_in, files_below, leaks, pages_of
from integrations_pipeline_tests.orchestration.conftest import House
from integrations_pipeline_tests.orchestration.conftest import house as desk  # noqa: F401
from integrations_pipeline_tests.orchestration.conftest import template as template  # with Dagster's tables

SHORTEST = 8
PAGES = ("/", "/quarantine", "/conflicts", "/outbox", "/dead-letters", "/metrics")
FIXED = (
    Account("bearer", "{type: bearer, token: $token}", {"token": "planted-token-5d41402abc"}),
    Account("basic", "{type: basic, username: ann, password: $password}", {"password": "planted-pass-b19e&7"}),
    Account("api_key", "{type: api_key, send: query api, key: $key}", {"key": "planted-api-key-1f/3c"}),
)
COMMANDS = """
import sys
from integrations_pipeline.cli import main
for arguments in sys.argv[1:]:
    sys.argv = ["integrations", *arguments.split()]
    try:
        main()
    except SystemExit:
        pass
"""


class Unkind:
    """A source that writes down what is shown to it, and repeats it in what it refuses."""

    def __init__(self, source: Simulation):
        self.source, self.plain = source, source.answer
        self.status, self.shown = 0, set[str]()
        source.answer = self.answer  # type: ignore[method-assign]

    def answer(self, request: Request) -> Answer:
        sent = f"{dict(request.headers)} {request.query_string} {request.content.decode('utf-8', 'replace')}"
        for name in ("authorization", "cookie", "x-ticket"):
            values = re.split(r"[ ;]+", request.headers.get(name, "").replace(f"{COOKIE}=", ""))
            self.shown.update(value for value in values if len(value) > SHORTEST)
        answer = self.plain(request)
        if re.search(r"oauth/token|/login|/session", request.path):
            granted = json.loads(answer.body)
            self.shown.update(one for one in leaves(granted) if len(one) > SHORTEST and " " not in one)
        if self.status and not re.search(r"oauth/token|/login|/session", request.path):
            headers = {"X-Request-Id": request.headers.get("authorization", "none")[-60:]}
            return Answer(self.status, json.dumps({"error": "no", "you_sent": sent}).encode(), headers)
        return answer


def leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value


def test_planted_secrets_are_found_nowhere(
    desk: House,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    sources = {}
    for account in (*ACCOUNTS, *FIXED):
        for name, value in account.secrets.items():
            monkeypatch.setenv(f"{account.name}_{name}".upper(), value)
        text = account.text.replace("connection: shop", f"connection: {account.name}\nlog_bodies: all")
        text = text.replace("{url}", "URL")
        source = desk.add(text.replace("SHOP_", f"{account.name}_".upper()), records=12, secrets=account.secrets)
        sources[account.name] = Unkind(source)
    texts = [str(event) for event in desk.run().all_events]
    assert {one.source.requests()[-1].status for one in sources.values()} == {200}
    seen = dict(zip(sources, (401, 403, 422, 401, 401, 401, 422, 401), strict=True))
    for name, one in sources.items():
        one.status = seen[name]
    result = desk.run()
    assert not result.success
    texts += [str(event) for event in result.all_events]
    verbs = (("sync", " --debug"), ("check", " --live"), ("why", " orders nobody --json"))
    commands = [f"{verb} {name}{more}" for name in sources for verb, more in verbs]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *commands], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "INTEGRATIONS_LOG": "debug"},
        timeout=240,
    )  # fmt: skip
    assert done.stderr.count("the source answered") >= len(sources), done.stdout + done.stderr
    told = {"Dagster's events": "\n".join(texts), "terminal": done.stdout + done.stderr, "log": caplog.text}
    shows = dict(pages_of(desk.url, desk.home.root, PAGES))
    assert all(name in shows["page /"] for name in sources)
    places = {**told, **shows, **dict(everything_in(desk.url)), **dict(files_below(tmp_path))}
    assert places["integrations.http_log"].count("\n") > 10 * len(sources)
    assert done.stderr.count('"event": "request"') > len(sources), "lines were written"
    planted = {value for account in (*ACCOUNTS, *FIXED) for value in account.secrets.values()}
    shown = {value for one in sources.values() for value in one.shown}
    assert len(shown) > len(sources), "tokens, tickets and cookies were shown"
    assert not leaks(places, planted | shown)
    assert any(place == "integrations.token" and text for place, text in places.items())
    assert any(place.startswith("dagster.") and text for place, text in places.items())
