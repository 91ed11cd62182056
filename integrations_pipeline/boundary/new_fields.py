"""Fields of a row that the connection doesn't name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from integrations_pipeline.spec.paths import Path, parse_path
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.write import set_leaves

Names = tuple[str, ...]
Tree = dict[str, Any]


def named_paths(stream: Stream) -> Iterator[Path]:
    """Every path of a record that the stream's own keys name: declared, keys, conditions, what its mapping reads, and
    what a write puts beside the fields."""
    for name in stream.fields:
        yield parse_path(name)
    yield from stream.primary_key
    if stream.version:
        yield stream.version
    if stream.cursor and stream.cursor.field:
        yield stream.cursor.field
    for condition in (stream.skip, stream.deletes and stream.deletes.when):
        if condition:
            yield from (path for path, _ in condition.tests)
    for records in (stream.rows, stream.full and stream.full.records):
        if records:
            yield from (Path((name,)) for name in (*records.include, *(records.keyed_by or ()), records.value) if name)
    yield from mapped_paths(stream)
    if write := stream.write:
        for one in (write, write.create, write.update, write.upsert, write.batch):
            yield from (path for path, _ in set_leaves(one.set if one else {}))


def mapped_paths(stream: Stream) -> Iterator[Path]:
    """Every path of a record that its mapping reads."""
    for field in stream.map.fields.values() if stream.map else ():
        yield from (path for path in (field.from_, *(field.first or ()), *(field.join or ())) if path)
        for step in field.apply:
            if step.name == "minor_units" and isinstance(step.argument, str):
                yield parse_path(step.argument)


def tree_of(paths: Iterable[Path]) -> Tree:
    """Names within names; an empty one is the end of a path, and all that lies below it is known."""
    tree: Tree = {}
    for path in sorted((path.parts for path in paths if path.parts), key=len):
        inner, end = tree, False
        for part in path:
            end = end or (part in inner and not inner[part])
            if end:
                break
            inner = inner.setdefault(part, {})
    return tree


def find_new(rows: list[dict[str, Any]], tree: Tree, prefix: Names = ()) -> dict[Names, Any]:
    """Paths that no row should have, each with one value found there."""
    new = set().union(*rows) - tree.keys()
    found: dict[Names, Any] = {}
    for row in rows if new else ():
        for name in new.intersection(row):
            found[(*prefix, name)] = row[name]
        new.difference_update(row)
        if not new:
            break
    for name, inner in tree.items():
        below = [value for row in rows if inner and isinstance(value := row.get(name), dict)]
        if below:
            found |= find_new(below, inner, (*prefix, name))
    return found


def new_in(row: dict[str, Any], tree: Tree, prefix: Names = ()) -> Iterator[Names]:
    """The paths of one row that it should not have."""
    for name, value in row.items():
        if name not in tree:
            yield (*prefix, name)
        elif tree[name] and isinstance(value, dict):
            yield from new_in(value, tree[name], (*prefix, name))
