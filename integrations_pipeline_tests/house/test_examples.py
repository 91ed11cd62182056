"""The examples in the documents do what the documents say."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal

import pytest
import yaml

from integrations_pipeline.mapping import Mapping
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline_tests.house.tree import ROOT

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
