"""Commands on a connection whose file was deleted or is broken, and a declaration that can't be put to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations_pipeline.cli import main
from integrations_pipeline.client import Client
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline_tests.cli.conftest import Command
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made, paged


def without_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    (tmp_path / "connections" / "acme.yaml").unlink(missing_ok=True)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_a_connection_without_its_file_is_shown_and_dropped(
    bench: Bench, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.streams = {"things": THINGS}
    bench.source.answer = paged(made(7))
    command("sync", "acme")
    for words in (("status",), ("status", "acme")):
        code, said = without_file(tmp_path, capsys, *words)
        assert code == 0 and "acme" in said and " 7 " in said
        assert "no file names it" in said and "integrations disconnect acme" in said
    code, said = without_file(tmp_path, capsys, "disconnect", "acme", "--drop-data")
    assert code == 0 and "dropped" in said
    assert bench.rows("SELECT count(*) FROM integrations.run_log") == [(0,)]
    assert bench.rows("SELECT to_regclass('raw.acme__things')") == [(None,)]
    assert "acme" not in without_file(tmp_path, capsys, "status")[1]
    code, said = without_file(tmp_path, capsys, "disconnect", "acme", "--drop-data")
    assert code == 2 and "there is no connection acme" in said


def test_a_broken_file_doesnt_keep_a_connection_from_being_stopped(
    bench: Bench, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.streams = {"things": THINGS}
    bench.source.answer = paged(made(3))
    command("sync", "acme")
    (tmp_path / "connections" / "acme.yaml").write_text("connection: acme\napi: {\n", encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["disconnect", "acme", "--keep-data"])
    assert ended.value.code in (None, 0)
    assert bench.rows("SELECT active FROM integrations.stream_state") == [(False,)]


def test_now_has_no_meaning_without_full(command: Command, bench: Bench) -> None:
    bench.streams = {"things": THINGS}
    said = command("sync", "acme", "--now", "--json", expect=2)
    assert "--full" in said["errors"][0]["message"]
    assert bench.source.seen == []


def test_a_declaration_that_cant_be_put_to_work_is_a_configuration_error(command: Command, bench: Bench) -> None:
    """Found when the list is planned, which no rule of the files foresees: a keyset by two keys."""
    pages = {"type": "keyset", "send": "after"}
    bench.streams = {"good": THINGS, "bad": {**THINGS, "primary_key": ["a", "b"], "pagination": pages}}
    said = command("sync", "acme", "--json", expect=2)
    assert "composite primary key" in said["errors"][0]["message"]
    assert said["errors"][0]["where"] == "acme/bad"
    assert bench.source.seen == [], "nothing was asked of the source"


def test_what_goes_wrong_before_a_streams_first_request_is_configuration_too(
    command: Command, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit(*_: object, **__: object) -> None:
        raise ConfigError("no value fits here")

    bench.streams = {"things": THINGS}
    monkeypatch.setattr(Client, "pages", unfit)
    said = command("sync", "acme", "--json", expect=2)
    assert said["streams"][0]["error"]["class"] == "config"
    assert bench.source.seen == []
