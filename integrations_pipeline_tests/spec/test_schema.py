"""The JSON Schema that editors use agrees with the loader on the grammar's files and on plain mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.schema import SCHEMAS, json_schema
from integrations_pipeline.spec.yaml_text import parse_document, read_document
from integrations_pipeline_tests.spec.test_loading import CONNECTOR, WRONG
from integrations_pipeline_tests.spec.written import EXAMPLES, SHOP

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def is_type(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def wrong(value: Any, schema: Any, root: Any, path: str = "") -> Iterator[str]:
    """What a value breaks of a schema, for the keywords that pydantic writes."""
    if "$ref" in schema:
        yield from wrong(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "if" in schema:
        branch = "else" if list(wrong(value, schema["if"], root)) else "then"
        yield from wrong(value, schema[branch], root, path)
    for choice, most in (("anyOf", 99), ("oneOf", 1)):
        if choice in schema:
            fits = sum(not list(wrong(value, one, root, path)) for one in schema[choice])
            if not 1 <= fits <= most:
                yield f"{path}: {fits} of {choice} fit"
    names = schema.get("type", [])
    if names and not any(is_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        yield f"{path}: {names} was expected"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: one of {schema['enum']} was expected"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {schema['const']} was expected"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: {schema['pattern']} was expected"
    if isinstance(value, dict):
        yield from wrong_keys(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from wrong(item, schema["items"], root, f"{path}[{index}]")


def wrong_keys(value: dict[str, Any], schema: Any, root: Any, path: str) -> Iterator[str]:
    yield from (f"{path}.{key} is required" for key in schema.get("required", []) if key not in value)
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, inner in value.items():
        if key in known:
            yield from wrong(inner, known[key], root, f"{path}.{key}")
        elif others is False:
            yield f"{path}.{key} is unknown"
        elif isinstance(others, dict):
            yield from wrong(inner, others, root, f"{path}.{key}")


def complaints(which: str, data: Any) -> list[str]:
    schema = json_schema(which)
    return list(wrong(data, schema, schema))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("connections/*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_the_grammar_are_valid(path: Path) -> None:
    assert complaints("connection", read_document(path, path.name).data) == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("models/*.yaml")), ids=lambda path: path.stem)
def test_the_kinds_are_valid(path: Path) -> None:
    assert complaints("kind", read_document(path, path.name).data) == []


def test_a_connector_may_be_incomplete() -> None:
    assert complaints("connector", parse_document(CONNECTOR, "c").data) == []
    assert complaints("connector", {"connector": "a", "streams": {"b": {"primary_key": "id"}}}) == []
    assert complaints("connector", {"connector": "a", "secrets": {}}) == [".secrets is unknown"]


def test_what_another_file_gives_is_required_only_without_it() -> None:
    assert complaints("connection", {"connection": "a", "uses": "b", "streams": {"c": {"query": {"d": 1}}}}) == []
    assert ".api is required" in complaints("connection", {"connection": "a", "streams": {}})


def test_mistakes_are_seen() -> None:
    found = complaints("connection", parse_document(WRONG, "w").data)
    for place in (".alerts[0].form is unknown", ".api.pagination: 0 of anyOf fit", ".streams.orders.fields.id.type"):
        assert any(line.startswith(place) or place in line for line in found), place
    shop = parse_document(SHOP, "s").data
    shop["streams"]["orders"]["get"] = "FETCH /orders"
    assert complaints("connection", shop) == [".streams.orders.get: 0 of anyOf fit"]


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from ([schema["$ref"]] if isinstance(schema.get("$ref"), str) else [])
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else []:
        yield from references(inner)


@pytest.mark.parametrize("which", SCHEMAS)
def test_each_reference_leads_somewhere(which: str) -> None:
    schema = json_schema(which)
    assert {one.removeprefix("#/$defs/") for one in references(schema)} <= set(schema["$defs"])


def test_each_key_is_offered() -> None:
    offered = json_schema("connection")["else"]["properties"]
    assert {field.alias or name for name, field in Connection.model_fields.items()} == set(offered)


def test_another_name_has_no_schema() -> None:
    with pytest.raises(KeyError):
        json_schema("stream")
