"""The examples in the documents do what the documents say."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from integrations_pipeline.mapping import Mapping
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all, load_connection
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline_tests.house.tree import ROOT, documents, shown

DOCS = ROOT / "docs"


def transform_examples() -> list[tuple[str, str, str]]:
    """How it is written, what it is given and what it gives, from each row of docs/transforms.md."""
    rows = re.findall(
        r"^\| (?:`\w+` )?\| `(.+?)` \| `(.+?)` \| (.+?) \|$",
        (DOCS / "transforms.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [(written, given, gives.strip("`")) for written, given, gives in rows]


def outcome(written: str, given: str) -> str:
    """What a map field with this one transform says about a value, in the words of the document."""
    field = {"from": "value", "apply": [yaml.safe_load(written)]}
    stream = Stream.model_validate(
        {"request": "GET /x", "records": ".", "primary_key": "id", "map": {"to": "kind", "fields": {"value": field}}}
    )
    name = re.search(r"\w+", written)
    column = name[0] if name and name[0] in ("date", "timestamp") else "json"
    kind = Kind.model_validate({"kind": "kind", "fields": {"value": {"type": column}}})
    mapped = Mapping(stream, kind).apply({"value": json.loads(given), "currency": "EUR"})
    if mapped.problems:
        return f"refused: {mapped.problems[0]['message']}"
    value = mapped.values["value"]
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else json.dumps(value)


@pytest.mark.parametrize(("written", "given", "gives"), transform_examples())
def test_each_example_of_a_transform_is_true(written: str, given: str, gives: str) -> None:
    assert outcome(written, given) == gives


def yaml_blocks() -> list[tuple[str, str]]:
    """Each YAML block of the documents, with the place it stands at."""
    return [
        (shown(path, text.count("\n", 0, found.start()) + 1), found[1])
        for path in documents()
        for text in [path.read_text(encoding="utf-8")]
        for found in re.finditer(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def home_with(folder: Path, part: str, text: str) -> Home:
    """A home with the repository's kinds and one more file."""
    shutil.copytree(ROOT / "models", folder / "models")
    name = re.search(r"^\w+: *(\w+)", text, re.MULTILINE)
    assert name is not None
    (folder / part).mkdir(exist_ok=True)
    (folder / part / f"{name[1]}.yaml").write_text(text, encoding="utf-8")
    return Home(folder)


@pytest.mark.parametrize(("place", "text"), yaml_blocks())
def test_each_yaml_block_loads_as_it_stands(place: str, text: str, tmp_path: Path) -> None:
    first = next(line for line in text.splitlines() if line and not line.startswith("#"))
    part = {"connection": "connections", "connector": "connectors", "kind": "models"}.get(first.split(":")[0])
    if part is None:
        assert isinstance(yaml.safe_load(text), dict), place
        return
    loaded = load_all(home_with(tmp_path, part, text))
    assert not loaded.broken, f"{place}: {loaded.broken}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.name)
def test_each_example_file_loads(path: Path) -> None:
    assert load_connection(str(path), Home(ROOT)).streams
