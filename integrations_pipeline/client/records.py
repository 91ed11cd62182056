"""Where the rows of an answer are, and what form they have: `path`, `keyed_by`, `value`, `unwrap`, `include`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.places import ReadPlace
from integrations_pipeline.spec.streams import Records


def extract(records: Records, document: Any, *, parent: Any = None) -> list[Any]:
    """The rows inside a document that is no answer of its own, such as a stored parent record."""

    def read(place: ReadPlace) -> Any:
        return MISSING if place.kind == "header" else place.path.get(parent if place.kind == "parent" else document)

    return rows_of(records, items_of(records, document, single=False), read)


def items_of(records: Records, document: Any, *, single: bool) -> list[Any]:
    """The items of a page as the source counts them: list elements, or the leaves of `keyed_by`.

    Raises ContractError where there is no list (``single``: no object), unless it is `optional` and absent.
    """
    found = records.path.get(document)
    if found is MISSING or found is None:
        if records.optional:
            return []
        what = "nothing" if found is MISSING else "null"
        raise ContractError(f"the answer has {what} at `{records.path}`, where the records should be")
    if records.keyed_by:
        return list(leaves(found, records, {}, records.keyed_by))
    if single:
        if not isinstance(found, dict):
            raise ContractError(f"the answer has {kind_of(found)} at `{records.path}`, not one object")
        return [found]
    if not isinstance(found, list):
        raise ContractError(f"the answer has {kind_of(found)} at `{records.path}`, not a list")
    return found


def leaves(found: Any, records: Records, keys: dict[str, Any], names: list[str]) -> Iterator[Any]:
    """The innermost values of an object of objects, each with the keys that led to it."""
    if not isinstance(found, dict):
        if keys:  # one odd entry costs one row: a list is no record, so it is quarantined with its keys
            yield [keys, found]
            return
        raise ContractError(f"the answer has {kind_of(found)} at `{records.path}`, not an object keyed by {names[0]}")
    for key, inner in found.items():
        here = {**keys, names[0]: key}
        if len(names) > 1:
            yield from leaves(inner, records, here, names[1:])
        elif records.value:
            yield {**here, records.value: inner}
        else:
            yield {**inner, **here} if isinstance(inner, dict) else [here, inner]


def rows_of(records: Records, items: list[Any], read: Callable[[ReadPlace], Any]) -> list[Any]:
    """The rows of the items; ``read`` finds what stands around them, in the page or the parent."""
    if records.unwrap is None and not records.include:
        return items
    page = {name: read(place) for name, place in records.include.items() if place.kind != "here"}
    around = {name: place.path for name, place in records.include.items() if place.kind == "here"}
    return [row_of(records, item, page, around) for item in items]


def row_of(records: Records, item: Any, page: dict[str, Any], around: dict[str, Path]) -> Any:
    """The row of one item: what `unwrap` finds in it, with values of the page and what lies ``around`` in the item."""
    row = records.unwrap.get(item) if records.unwrap else item
    if not isinstance(row, dict):
        return [item] if row is MISSING else row  # a list is no record: the item is quarantined as it came
    added = {**page, **{name: path.get(item) for name, path in around.items()}}
    return {**row, **{name: value for name, value in added.items() if value is not MISSING}}


def kind_of(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
