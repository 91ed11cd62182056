"""Tables that an asset shows: the mapping as the file says it, and a few stored records without what looks personal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from dagster import MetadataValue, TableColumn, TableMetadataValue, TableRecord, TableSchema

from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.mapping import MapField, Transform
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.sync.samples import masked

SAMPLES = 3
COLUMNS = 12
CHARACTERS = 40
VALUES = 8


def mapping_table(stream: Stream) -> dict[str, TableMetadataValue]:
    """Raw path → canonical field, and the steps between; nothing where the stream feeds no kind."""
    if stream.map is None:
        return {}
    raw, canonical = "raw field", f"field of {stream.map.to}"
    rows = [
        {raw: ", ".join(sources(how)) or "–", canonical: name, "steps": " → ".join(steps(how)) or "as it is"}
        for name, how in stream.map.fields.items()
    ]
    return {"mapping": table([raw, canonical, "steps"], rows)}


def sources(how: MapField) -> Iterator[str]:
    """The raw paths a canonical field is made of."""
    for path in ([how.from_] if how.from_ else []) + (how.first or []) + (how.join or []):
        yield str(path)


def steps(how: MapField) -> Iterator[str]:
    """What is done on the way, in order, in the words of the grammar."""
    if how.first:
        yield "the first that has a value"
    if how.join:
        yield f"join with {json.dumps(how.with_, ensure_ascii=False)}"
    if "value" in how.model_fields_set:
        yield f"always {how.value}"
    if how.where:
        yield f"where {how.where.text}, take {how.take}"
    yield from map(step, how.apply)
    if how.values is not None:
        pairs = [f"{theirs} = {ours}" for theirs, ours in [*how.values.items()][:VALUES]]
        more = [f"and {len(how.values) - VALUES} more"] if len(how.values) > VALUES else []
        otherwise = [f"else {how.else_}"] if "else_" in how.model_fields_set else []
        yield ", ".join([*pairs, *more, *otherwise])
    if how.lookup:
        yield f"look up in {how.lookup}"
    if how.required:
        yield "required"


def step(one: Transform) -> str:
    return one.name if one.argument is None else f"{one.name} {json.dumps(one.argument, ensure_ascii=False)}"


def sample_table(stream: Stream, records: Sequence[tuple[str, str]], redactor: Redactor) -> dict[str, Any]:
    """External ids and JSON texts of stored records as a table, the first declared fields as its columns."""
    documents = [decode(text.encode()) for _, text in records[:SAMPLES]]
    found = [Path((name,)) for one in documents[:1] if isinstance(one, dict) for name in one]
    paths = ([parse_path(name) for name in stream.fields] or found)[:COLUMNS]
    rows = [{str(path): cell(path, document, redactor) for path in paths} for document in documents]
    return {"sample": table([str(path) for path in paths], rows)} if rows and paths else {}


def cell(path: Path, document: Any, redactor: Redactor) -> str:
    """One value, masked where it looks personal; empty where there is none."""
    value = path.get(document)
    if value is MISSING or value is None:
        return ""
    shown = masked(value, str(path))
    text = redactor.text(shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, default=str))
    return text if len(text) <= CHARACTERS else text[:CHARACTERS] + " …"


def table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> TableMetadataValue:
    schema = TableSchema(columns=[TableColumn(name) for name in columns])
    return MetadataValue.table([TableRecord(row) for row in rows], schema=schema)
