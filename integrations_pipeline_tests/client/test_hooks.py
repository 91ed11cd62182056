"""A team's own functions: what they are given, what becomes of what they do, and how their mistakes are told."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.hooks import load_hooks
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline_tests.client.conftest import Bench, LocalLimiter, rows
from integrations_pipeline_tests.client.source import Source

THINGS = {"request": "GET /things", "records": "items", "primary_key": "id", "get": "GET /things/<external_id>"}
Make = Callable[..., Client]


@pytest.fixture
def source(bench: Bench) -> Source:
    return bench.source(lambda seen: {"id": 7} if seen.path.endswith("/7") else {"items": rows(3)})


@pytest.fixture
def make(bench: Bench, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A client with these hooks, whose functions are in the text."""
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    (tmp_path / "hooks").mkdir()

    def build(text: str, auth: Any = None, streams: Any = None, **hooks: str) -> Client:
        (tmp_path / "hooks" / "quirks.py").write_text(text, encoding="utf-8")
        api = {"url": source.url, "pagination": {"type": "single_page"}, "auth": auth or {"type": "none"}}
        declared = {"connection": "acme", "api": api, "streams": streams or {"things": THINGS}, "hooks": hooks}
        secrets = {"key": Secret("canary-key"), "signing": Secret("canary-signing")}
        return Client(Connection.model_validate(declared), limiter=LocalLimiter(), secrets=secrets)

    return build


def read(client: Client) -> list[Any]:
    return [row for page in client.pages("things") for row in page.rows]


def test_a_request_is_changed_before_its_credentials_are_added(make: Make, source: Source) -> None:
    text = """
def sign(request, secrets):
    request.headers["X-Signature"] = secrets["signing"].reveal()[:6] + request.method
    request.headers["X-Seen"] = ",".join(sorted(request.headers)) + request.url + repr(secrets)
    request.url += "?page=1"
"""
    header = make(text, {"type": "bearer", "token": "$key"}, request="quirks.sign")
    assert read(header) == rows(3)
    [seen] = source.seen
    assert (seen.headers["X-Signature"], seen.one("page")) == ("canaryGET", "1")
    assert seen.headers["Authorization"] == "Bearer canary-key"
    assert "Authorization" not in seen.headers["X-Seen"] and "canary" not in seen.headers["X-Seen"]
    read(make(text, {"type": "api_key", "send": "query k", "key": "$key"}, request="quirks.sign"))
    assert (source.seen[1].one("k"), source.seen[1].one("page")) == ("canary-key", "1")
    assert "canary" not in source.seen[1].headers["X-Seen"]


def test_a_request_led_elsewhere_is_refused(make: Make, source: Source, bench: Bench) -> None:
    other = bench.source(lambda seen: {"items": []})
    text = f"def away(request):\n    request.url = {other.url + '/things'!r}\n"
    with pytest.raises(IntegrationError, match="origin"):
        read(make(text, {"type": "bearer", "token": "$key"}, request="quirks.away"))
    assert other.seen == source.seen == []


def test_a_page_and_its_records_are_given_another_form(make: Make) -> None:
    text = """
def unpack(document, stream):
    return {"items": [*document["items"], {"id": 9, "of": stream}, "no object"]}

def tidy(record):
    return {**record, "id": str(record["id"])}
"""
    client = make(text, page="quirks.unpack", record="quirks.tidy")
    assert read(client) == [{"id": "0"}, {"id": "1"}, {"id": "2"}, {"id": "9", "of": "things"}, "no object"]
    assert client.get("things", "7", {}) == {"id": "7"}


def test_the_feed_of_deletions_is_left_alone(make: Make) -> None:
    feed = {"call": "GET /gone", "records": "items", "key": "id"}
    text = "def broken(value):\n    raise ValueError\n"
    streams = {"things": {**THINGS, "deletes": {"feed": feed}}}
    client = make(text, streams=streams, page="quirks.broken", record="quirks.broken")
    assert [page.rows for page in client.deleted_keys("things")] == [rows(3)]


@pytest.mark.parametrize(
    ("text", "hook", "said"),
    [
        ("def f(row):\n    return 1 / row['id']\n", "record", ["ZeroDivisionError", "quirks.py:2", "at the record 0"]),
        ("def f(row):\n    pass\n", "record", ["returned NoneType instead of a record", "at the record 0"]),
        ("def f(page):\n    return page['nothing']\n", "page", ["KeyError", "quirks.py:2"]),
        ("def f(request):\n    return request\n", "request", ["in place"]),
        ("def f(request):\n    request.content = 'text'\n", "request", ["not bytes"]),
        ("def f(r, secrets):\n    raise ValueError(secrets['key'].reveal())\n", "request", ["ValueError: ***"]),
    ],
)
def test_a_hook_that_fails_is_named_with_the_record_or_request(
    make: Make, text: str, hook: str, said: list[str]
) -> None:
    with pytest.raises(IntegrationError) as caught:
        read(make(text, **{hook: "quirks.f"}))
    error = caught.value
    assert (error.error_class, error.exit_code, error.who) == ("config", 1, "whoever wrote the hook")
    for words in [f"the hook {hook} (quirks.f)", "GET /things", *said]:
        assert words in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize("hook", ["page", "record"])
def test_a_hook_that_quotes_what_it_was_given_gives_no_secret_away(make: Make, source: Source, hook: str) -> None:
    """The source repeats what it was asked with, and the hook fails with all of it."""
    source.answer = lambda seen: {"items": [{"id": 1, "you_sent": seen.headers["Authorization"]}]}
    text = "def f(given):\n    raise ValueError(given)\n"
    client = make(text, {"type": "bearer", "token": "$key"}, **{hook: "quirks.f"})
    with pytest.raises(IntegrationError) as caught:
        read(client)
    shown = "".join(traceback.format_exception(caught.value))
    assert "you_sent" in str(caught.value) and "quirks.py:2" in shown and "canary-key" not in shown


FILE = """connection: acme
api: {url: "http://127.0.0.1:1", pagination: {type: single_page}}
streams: {things: {request: GET /things, records: ., primary_key: id}}
hooks:
  page: PATH
"""
QUIRKS = (
    "import json\nlimit = 5\n\n\ndef unpack(document):\n    return document\n\n\ndef two(one, other):\n    return one\n"
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("quirk.unpack", "a module was expected, as hooks/quirk.py or installed, not quirk (did you mean 'quirks'?)"),
        ("quirks.unpak", "quirks has no unpak (did you mean 'unpack'?)"),
        ("quirks.limit", "a function was expected: quirks.limit is of type int"),
        ("quirks.two", "a function of one value was expected, which may also ask for stream: quirks.two(one, other)"),
        ("broken.f", "broken can't be imported: SyntaxError"),
        ("lacking.f", "lacking can't be imported: No module named 'nowhere'"),
        ("json.nothing", "json has no nothing"),
    ],
)
def test_a_hook_that_cant_be_used_is_told_with_file_and_line(tmp_path: Path, path: str, said: str) -> None:
    for name, text in {"quirks": QUIRKS, "broken": "def f(:\n", "lacking": "import nowhere\n"}.items():
        (tmp_path / "hooks").mkdir(exist_ok=True)
        (tmp_path / "hooks" / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / "acme.yaml").write_text(FILE.replace("PATH", path), encoding="utf-8")
    home = Home(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_hooks(load_connection("acme", home), home)
    [problem] = caught.value.problems
    assert (problem.file, problem.line, problem.path) == ("connections/acme.yaml", 5, "hooks.page")
    assert said in problem.message


def test_an_installed_module_may_hold_them_and_connectors_name_them(tmp_path: Path) -> None:
    (tmp_path / "connections").mkdir()
    (tmp_path / "connectors").mkdir()
    (tmp_path / "connectors" / "shop.yaml").write_text(
        FILE.replace("connection: acme", "connector: shop").replace("PATH", "json.dumpss"), encoding="utf-8"
    )
    (tmp_path / "connections" / "acme.yaml").write_text("connection: acme\nuses: shop\n", encoding="utf-8")
    home = Home(tmp_path)
    with pytest.raises(ConfigError, match=r"connectors/shop\.yaml:5: hooks\.page: .*did you mean 'dumps'"):
        load_hooks(load_connection("acme", home), home)
