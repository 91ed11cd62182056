"""`integrations alerts list` of a home with a broken file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.cli import main
from integrations_pipeline_tests.sync.test_alerting_home import FILE, NO_YAML


@pytest.mark.parametrize("more", ["evry: 5m\n", NO_YAML])
def test_a_broken_file_is_never_nothing_wrong(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", database_url)
    file = tmp_path / "connections" / "acme.yaml"
    file.parent.mkdir()
    whole = FILE.replace("NAME", "acme").replace("ALERTS", "[]")

    def listed(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["alerts", "list", *words])
        assert not ended.value.code
        return capsys.readouterr().out

    file.write_text(whole + more)
    said = listed()
    assert "connections/acme.yaml: broken_file since" in said and "connections/acme.yaml:5: " in said
    assert "whoever edits the connection: mend the file" in said.replace("\n", " ")
    (found,) = json.loads(listed("--json"))["alerts"]
    wanted: dict[str, Any] = {"connection": None, "stream": None, "file": "connections/acme.yaml"}
    assert {name: found[name] for name in wanted} == wanted
    file.write_text(whole)
    assert listed() == "nothing is wrong\n"
