"""Bad input of every sort ends with one clear error, the contract's exit code, and nothing half-written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.cli import main
from integrations_pipeline.store.lease import LOCK

ERROR = {"class", "message", "where", "who", "next"}
DOCUMENT_ERROR = ERROR | {"file", "line"}
CONNECTION = """
connection: NAME
secrets: {token: {env: BAD_INPUT_TOKEN}}
api:
  url: URL
  auth: {type: bearer, token: $token}
  retry: {attempts: 1}
  pagination: {type: single_page}
streams:
  people: {request: GET /people, records: data, primary_key: id}
"""
GOOD = (200, b'{"data": [{"id": 1}]}', {})


class Source(BaseHTTPRequestHandler):
    answer: tuple[int, bytes, dict[str, str]] = GOOD

    def do_GET(self) -> None:
        status, body, headers = self.answer
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@dataclass
class Ended:
    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


Run = Callable[..., Ended]


@pytest.fixture
def source() -> Iterator[str]:
    Source.answer = GOOD
    with ThreadingHTTPServer(("127.0.0.1", 0), Source) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path, source: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / "crm.yaml").write_text(CONNECTION.replace("NAME", "crm").replace("URL", source))
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", database_url)
    monkeypatch.setenv("BAD_INPUT_TOKEN", "do-not-tell")
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def ended(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert "do-not-tell" not in printed.out + printed.err
        return Ended(int(str(left.value.code)), printed.out, printed.err)

    return ended


@pytest.mark.parametrize(
    ("answer", "code", "found"),
    [
        ((200, b"<!doctype html><p>Log in", {"Content-Type": "text/html"}), 1, ("contract", "an HTML page")),
        ((302, b"", {"Location": "https://login.example.org/"}), 1, ("contract", "https://login.example.org")),
        ((200, b"", {}), 1, ("contract", "the answer is empty")),
        ((200, b"42", {}), 1, ("contract", "nothing at `data`")),
        ((200, b'{"data": [', {}), 1, ("contract", "with broken JSON: it ends early")),
        ((200, b'{"data": "\xe9"}', {}), 1, ("contract", "with text that is not UTF-8")),
        ((401, b'{"message": "who is do-not-tell?"}', {}), 1, ("credentials", "answered 401")),
        ((404, b"{}", {}), 1, ("not_found", "answered 404")),
        ((429, b"{}", {"Retry-After": "900"}), 3, ("rate_limited", "answered 429")),
        ((503, b"", {}), 3, ("transient", "answered 503")),
    ],
)
def test_what_a_source_answers_wrongly(
    run: Run, database_url: str, answer: Any, code: int, found: tuple[str, str]
) -> None:
    Source.answer = answer
    ended = run("sync", "crm", "--json")
    [stream] = ended.document["streams"]
    error = stream["error"]
    assert (ended.code, error["class"]) == (code, found[0])
    assert set(error) == ERROR and all(error.values())
    assert found[1] in error["message"]
    assert (stream["resume_at"] is not None) == (code == 3)
    assert stream["fetched"] == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM raw.crm__people").fetchone() == (0,)


def test_a_source_that_is_not_there_is_named(run: Run, home: Path) -> None:
    (home / "connections" / "gone.yaml").write_text(
        CONNECTION.replace("NAME", "gone").replace("URL", "http://127.0.0.1:1")
    )
    ended = run("sync", "gone", "--json")
    [stream] = ended.document["streams"]
    assert ended.code == 3
    assert stream["error"]["message"] == "the source at 127.0.0.1:1 can't be reached"


def test_nobody_resumes_a_connect_so_it_says_when_to_run_it_again(run: Run) -> None:
    Source.answer = (503, b"", {"Retry-After": "900"})
    ended = run("connect", "crm", "--json")
    [error] = ended.document["errors"]
    assert ended.code == 3
    assert set(error) == DOCUMENT_ERROR
    assert error["next"].startswith("run it again after 2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sync", "crn"), "there is no connection crn (did you mean 'crm'?)"),
        (("sync", "crm", "pepole"), "pepole"),
        (("sync", "crm", "--no-such-option"), "No such option"),
        (("disconnect", "crm"), "what should become of the data of crm?"),
        (("check", "--schema", "conection"), "there is no schema conection"),
    ],
)
def test_a_wrong_command_is_two_with_one_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = run(*arguments, "--json")
    [error] = ended.document["errors"]
    assert ended.code == 2
    assert set(error) == DOCUMENT_ERROR
    assert message in error["message"]


def test_no_command_shows_the_help_and_no_error(run: Run) -> None:
    ended = run()
    assert ended.code == 2
    assert "config" not in ended.stderr


def test_a_missing_secret_names_its_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAD_INPUT_TOKEN")
    ended = run("sync", "crm", "--json")
    [error] = ended.document["errors"]
    assert ended.code == 2
    assert error["where"] == "crm"
    assert "BAD_INPUT_TOKEN is not set" in error["message"]
    assert run("check").code == 0, "a warning there"


def test_a_short_secret_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD_INPUT_TOKEN", "k3y")
    ended = run("check", "crm", "--json")
    (warning,) = [one for one in ended.document["connections"][0]["warnings"] if "shorter than 8" in one]
    assert ended.code == 0 and "k3y" not in ended.stdout + ended.stderr and "it is hidden only where" in warning
    monkeypatch.setenv("BAD_INPUT_TOKEN", "k3y-of-12-ch")
    assert "shorter" not in run("check", "crm", "--json").stdout


def test_a_broken_file_takes_no_other_down(run: Run, home: Path) -> None:
    (home / "connections" / "broken.yaml").write_text("connection: broken\nstreams: [")
    (home / "connections" / "gone.yaml").symlink_to(home / "nowhere")
    checked, status, synced = run("check", "--json"), run("status", "--json"), run("sync", "crm", "--json")
    assert (checked.code, status.code, synced.code) == (2, 0, 0)
    assert [one["connection"] for one in checked.document["connections"] if one["ok"]] == ["crm"]
    assert {(one["file"], one["line"]) for one in checked.document["errors"]} == {
        ("connections/broken.yaml", 2),
        ("connections/gone.yaml", None),
    }
    assert [one["connection"] for one in status.document["streams"]] == ["crm"]
    assert len(status.document["errors"]) == 2


def test_only_broken_files_are_not_taken_for_none(run: Run, home: Path) -> None:
    (home / "connections" / "crm.yaml").write_text("connection: crm\nstreams: [")
    ended = run("status")
    assert "no connections yet" not in ended.stdout
    assert "connections/crm.yaml:2" in ended.stderr


def test_a_secret_in_the_file_is_refused_and_not_shown(run: Run, home: Path) -> None:
    file = home / "connections" / "crm.yaml"
    file.write_text(file.read_text().replace("{env: BAD_INPUT_TOKEN}", "do-not-tell"))
    ended = run("check", "--json")
    assert ended.code == 2
    assert "a secret never stands in the YAML itself" in ended.stdout


def test_a_table_of_80_columns_cuts_nothing(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a_customer_relations_system_of_the_south"
    file = home / "connections" / "long.yaml"
    file.write_text(CONNECTION.replace("NAME", name).replace("URL", "http://127.0.0.1:1"))
    run("sync", "crm")
    Source.answer = (401, b"{}", {})
    run("sync", "crm")
    shown = run("status").stdout
    assert "…" not in shown
    assert max(map(len, shown.split("crm/people: ")[0].splitlines())) <= 80
    assert "crm/people: credentials: the source answered 401" in shown


def test_an_account_without_rights_is_told_to_whoever_runs_the_database(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA integrations CASCADE")
        connection.execute("CREATE ROLE powerless LOGIN PASSWORD 'none'")
        try:
            info = connection.info
            monkeypatch.setenv(
                "INTEGRATIONS_DATABASE_URL", f"postgresql://powerless:none@{info.host}:{info.port}/{info.dbname}"
            )
            ended = run("status", "--json")
        finally:
            connection.execute("DROP ROLE powerless")
    [error] = ended.document["errors"]
    assert (ended.code, error["class"]) == (1, "destination")
    assert "permission denied" in error["message"]
    assert "grant" in error["next"]


def test_a_run_whose_process_is_gone_is_not_told_to_be_under_way(run: Run, database_url: str) -> None:
    run("sync", "crm")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE integrations.run_log SET status = 'running', finished_at = NULL")
        assert run("status", "--json").document["streams"][0]["state"] == "interrupted"
        connection.execute(LOCK, ["crm", "people"])
        assert run("status", "--json").document["streams"][0]["state"] == "under way"


def test_ctrl_c_says_that_nothing_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("integrations_pipeline.cli.syncing.run_sync", stopped)
    ended = run("sync", "crm")
    assert ended.code == 130
    assert "the next sync goes on from there" in ended.stderr


def test_a_hook_that_isnt_there_is_told_before_the_first_request(run: Run, home: Path) -> None:
    file = home / "connections" / "crm.yaml"
    file.write_text(file.read_text() + "hooks: {record: quirks.tidy}\n", encoding="utf-8")
    for command in (("check", "crm", "--json"), ("sync", "crm", "--json")):
        ended = run(*command)
        assert ended.code == 2
        [error] = ended.document["errors"]
        assert (error["file"], error["line"], error["where"]) == ("connections/crm.yaml", 11, "hooks.record")
        assert "hooks/quirks.py" in error["message"]
