"""From records to the body of an answer: wrapped items, objects keyed by fields, envelopes; and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from integrations_pipeline.simulator.records import Plan, Tree, put
from integrations_pipeline.simulator.values import inferred
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.streams import Records

Row = dict[str, Any]


class Shape:
    """The form that one `records` or `record` block gives its rows. ``around`` are the constants of a page."""

    def __init__(self, plan: Plan, records: Records, around: Mapping[str, Any]):
        self.records = records
        self.is_single = plan.stream.record is not None
        self.included = {name: place.path for name, place in records.include.items() if place.kind == "here"}
        self.unknown = [name for name in plan.included if name not in self.included]
        self.elsewhere = [(place, around[name]) for name, place in records.include.items() if name in around]
        self.is_plain = not (self.included or self.unknown or records.unwrap)

    def item(self, row: Row, item_id: str | None = None) -> Any:
        """One entry of the list, as it stands before `unwrap`."""
        if self.is_plain:
            return row
        included = [(path, row.pop(name)) for name, path in self.included.items() if name in row]
        for name in self.unknown:
            row.pop(name, None)
        item = row
        if self.records.unwrap and self.records.unwrap.parts:
            item = {} if item_id is None else {"id": item_id}
            put(item, self.records.unwrap.parts, row)
        for path, value in included:
            put(item, path.parts, value)
        return item

    def listed(self, items: Sequence[Any]) -> Any:
        """The value that stands at the records' path: a list, an object of objects, or one record."""
        if self.is_single:
            return items[0] if items else None
        if not self.records.keyed_by:
            return items
        nested: Tree = {}
        for item in items:
            parts = [as_text(item.pop(name, "")) for name in self.records.keyed_by]
            put(nested, parts, item.get(self.records.value) if self.records.value else item)
        return nested

    def body(self, items: Sequence[Any]) -> Any:
        """The whole body; what pagination adds to it is put in afterwards, where the body is an object."""
        path = self.records.path
        if not path.parts:
            return self.listed(items)
        body: Tree = {}
        if items or not self.records.optional:
            put(body, path.parts, self.listed(items))
        for place, value in self.elsewhere:
            if place.kind == "body":
                put(body, place.path.parts, value)
        return body

    @property
    def headers(self) -> dict[str, str]:
        """Included values that the reader finds in headers."""
        return {place.name: as_text(value) for place, value in self.elsewhere if place.kind == "header"}


def around_of(plan: Plan, parent: Row | None) -> dict[str, Any]:
    """The values that all rows of a page share, by the name they are included under."""
    found: dict[str, Any] = {}
    for name, place in plan.around.items():
        if place.kind == "parent":
            found[name] = None if parent is None else place.path.get(parent)
        else:
            found[name] = constant_of(plan, name, place.path.parts[-1] if place.path.parts else place.name)
    return found


def constant_of(plan: Plan, name: str, last: str) -> Any:
    """A page's constant: echoed from the fixed query where a parameter has its name, else made once."""
    for key in (name, last):
        if isinstance(plan.stream.query.get(key), str | int):
            return plan.stream.query[key]
    field = plan.declared.get(Path((name,)), inferred(name)).model_copy(update={"required": True})
    return plan.plain_maker(Path((name,)), field)(0, plan.start)


def embedded(plan: Plan, rows: Sequence[Row]) -> Any:
    """Child rows as they lie inside their parent's record."""
    shape = Shape(plan, plan.stream.rows, {})
    return shape.listed([shape.item(row) for row in rows])


def rows_in(plan: Plan, found: Any) -> list[Row]:
    """The rows that lie at the records' path of a parent, as a reader takes them out."""
    records = plan.stream.rows
    if records.keyed_by:
        return list(unnested(found, records.keyed_by, records.value))
    items = found if isinstance(found, list) else [found] if isinstance(found, dict) else []
    return [row_of(item, records) for item in items]


def row_of(item: Any, records: Records) -> Row:
    row: Row = item if records.unwrap is None else records.unwrap.get(item)
    return row | {name: place.path.get(item) for name, place in records.include.items() if place.kind == "here"}


def unnested(found: Any, names: Sequence[str], value: str | None) -> Iterator[Row]:
    """The rows of an object of objects."""
    for key, inner in found.items() if isinstance(found, dict) else ():
        if len(names) > 1:
            yield from ({names[0]: key} | row for row in unnested(inner, names[1:], value))
        else:
            yield {names[0]: key} | ({value: inner} if value else inner)


def composite_parts(text: str) -> list[Any]:
    """The parts of a composite external id. Raises ValueError where it is no JSON array."""
    try:
        parts = decode(text.encode())
    except ContractError as error:
        raise ValueError(error.what) from None
    if not isinstance(parts, list):
        raise ValueError("no list")
    return parts
