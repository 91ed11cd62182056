"""What the UI says of an asset before it ever ran: where it comes from, its columns, whose it is."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    BetaWarning,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableConstraints,
    TableSchema,
)
from dagster._core.definitions.metadata import CodeReferencesMetadataSet, TableMetadataSet

from integrations_pipeline.orchestration.tabulating import mapping_table, sources
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.streams import Stream

# Links to files are new in Dagster; the version is pinned, so a change there is met by the tests, not by users.
warnings.filterwarnings("ignore", category=BetaWarning, module=__name__)

MappedStream = tuple[Connection, str]
"""A connection and the name of one of its streams."""


def stream_key(connection: str, stream: str) -> AssetKey:
    return AssetKey([connection, stream])


def kind_key(kind: str) -> AssetKey:
    return AssetKey(["canonical", kind])


def pool_of(connection: str, stream: str) -> str:
    """One run at a time reads a stream."""
    return f"{connection}__{stream}"


def tags_of(connection: Connection) -> dict[str, str]:
    """`key` or `key=value` as Dagster's pairs."""
    return {key: value for key, _, value in (tag.partition("=") for tag in connection.tags)}


def icons(connection: Connection) -> set[str]:
    """The provider's and the database's; the UI has icons for many names."""
    return {connection.uses or "api", "postgresql"}


def stream_description(connection: Connection, name: str, stream: Stream) -> str:
    """Its own words, then what is always worth knowing."""
    target = f", mapped to **{stream.map.to}**" if stream.map else ""
    read = f"`{stream.request}`" if stream.request else f"inside the records of `{stream.parent}`"
    lines = [
        stream.description or f"{name.replace('_', ' ').capitalize()} of {connection.name}.",
        f"Raw records as the source gave them: {read}{target}.",
        f"Primary key: `{', '.join(str(path) for path in stream.primary_key)}`. {how_it_is_read(stream)}",
    ]
    return "\n\n".join([line for line in lines if line])


def how_it_is_read(stream: Stream) -> str:
    if stream.cursor is None:
        return "Read whole each time."
    mark = f"`{stream.cursor.field}`" if stream.cursor.field else "the source's own mark"
    return f"Incremental by {mark}."


def stream_metadata(connection: Connection, name: str, stream: Stream) -> dict[str, Any]:
    schema = TableSchema(columns=[column(path, field) for path, field in stream.fields.items()])
    table = TableMetadataSet(table_name=f"raw.{connection.name}__{name}", column_schema=schema)
    return {**mapping_table(stream), **table, **references([connection.file]), "url": connection.api.url}


def kind_metadata(kind: Kind, feeders: Iterable[MappedStream]) -> dict[str, Any]:
    feeders = list(feeders)
    schema = TableSchema(
        columns=[column(name, field) for name, field in kind.fields.items()],
        constraints=TableConstraints(other=["a deleted record keeps its row, with deleted_at set"]),
    )
    table = TableMetadataSet(table_name=f"canonical.{kind.kind}", column_schema=schema, column_lineage=lineage(feeders))
    return {**table, **references(connection.file for connection, _ in feeders)}


def column(name: str, field: Field) -> TableColumn:
    """A declared field with the rules that the boundary holds it to."""
    rules = {"format": field.format, "at least": field.min, "at most": field.max, "characters": field.max_length}
    other = [f"{rule} {value}" for rule, value in rules.items() if value is not None]
    if field.values:
        other.append("one of " + ", ".join(map(str, field.values)))
    constraints = TableColumnConstraints(nullable=not field.required, other=other)
    return TableColumn(name=name, type=field.type, description=field.description or None, constraints=constraints)


def lineage(feeders: Iterable[MappedStream]) -> TableColumnLineage:
    """From each raw field to the canonical field it becomes."""
    found: dict[str, list[TableColumnDep]] = {}
    for connection, name in feeders:
        stream = connection.streams[name]
        for target, how in (stream.map.fields if stream.map else {}).items():
            for source in sources(how):
                dep = TableColumnDep(stream_key(connection.name, name), source)
                found.setdefault(target, []).append(dep)
    return TableColumnLineage(found)


def references(files: Iterable[Path | None]) -> Mapping[str, Any]:
    """Links to the YAML."""
    found = [
        LocalFileCodeReference(file_path=str(file.absolute()), line_number=1, label=file.name)
        for file in dict.fromkeys(files)
        if file
    ]
    return {**CodeReferencesMetadataSet(code_references=CodeReferencesMetadataValue(code_references=found))}
