"""Nothing in the repository is bound to one machine, one package index or one person's account."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from integrations_pipeline_tests.house.tree import ROOT, kept_files, shown

INDEX_HOSTS = re.compile(
    r"\b(?:pypi\.(?:org|io)|pythonhosted\.org|registry\.npmjs|npmjs\.org|crates\.io|rubygems\.org|proxy\.golang\.org"
    r"|repo\.maven|anaconda\.org|docker\.io|ghcr\.io)"
)
MACHINE_PATHS = re.compile(r"(?<![\w.>-])/(?:root|home|Users|work|opt)/[\w.-]")
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b|\bsk_live_[A-Za-z0-9]{10,}|\bxox[bp]-[0-9]{8,}"
)


def text_of(path: Path) -> str:
    """The file's text, or nothing where it isn't text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (INDEX_HOSTS, "a package index is each machine's own setting"),
        (MACHINE_PATHS, "a path of one machine"),
        (SECRETS, "a secret is named by its variable, never written down"),
    ],
    ids=["package index", "machine path", "secret"],
)
def test_no_kept_file_holds(pattern: re.Pattern[str], reason: str) -> None:
    wrong = [
        f"{shown(path, number)}: {found[0]}"
        for path in kept_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (found := pattern.search(line))
    ]
    assert not wrong, f"{reason}: " + "\n".join(wrong)


def test_the_lock_names_no_address_and_every_hash() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [
        line for line in lines if "://" in line or line.lstrip().startswith(("-i", "--index", "--extra", "--find"))
    ]
    pinned = [number for number, line in enumerate(lines) if "==" in line and not line.startswith(" ")]
    assert len(pinned) > 50
    assert all(lines[number + 1].lstrip().startswith("--hash=sha256:") for number in pinned)


def test_the_lock_holds_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    declared = {re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in wanted}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert declared <= set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", lock, re.MULTILINE))
