"""JSON Schema of the files, for editors: completion and a red line while typing. The loader stays the judge."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.spec.connection import Connection, Connector, Kind

SCHEMAS = ("connection", "connector", "kind")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(which: str) -> dict[str, Any]:
    """The schema of one of ``SCHEMAS``. Raises KeyError for another name.

    A connector, and a connection that `uses` one, may leave out any key, since the other file may give it.
    """
    if which == "kind":
        return {"$schema": DIALECT, **Kind.model_json_schema()}
    whole = Connection.model_json_schema()
    partial = {f"{name}-part": in_part(one) for name, one in whole["$defs"].items()}
    if which == "connector":
        return {"$schema": DIALECT, **connector_schema(whole), "$defs": partial}
    if which != "connection":
        raise KeyError(which)
    definitions = whole.pop("$defs")
    return {
        "$schema": DIALECT,
        "title": "Connection",
        "type": "object",
        "required": ["connection"],
        "if": {"required": ["uses"]},
        "then": in_part(whole),
        "else": whole,
        "$defs": {**definitions, **partial},
    }


def connector_schema(whole: dict[str, Any]) -> dict[str, Any]:
    """Its own keys, the shared ones described as in a connection."""
    schema = Connector.model_json_schema()
    shared = {key: in_part(whole["properties"][key]) for key in ("api", "streams", "webhook", "hooks")}
    return {**schema, "properties": {**schema["properties"], **shared}}


def in_part(schema: Any) -> Any:
    """The same with nothing required: a block may be completed by the other file."""
    if isinstance(schema, list):
        return [in_part(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            changed[key] = f"{value}-part"
        elif key == "properties":
            changed[key] = {name: in_part(one) for name, one in value.items()}
        elif key == "oneOf":
            changed["anyOf"] = in_part(value)
        elif key not in ("required", "discriminator"):
            changed[key] = in_part(value)
    return changed
