"""What a write request says, read backwards from the calls that a stream's `write` declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from integrations_pipeline.simulator.templates import Template, template
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.paths import MISSING, Path, step_through
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.write import Batch, Write, set_leaves

Operation = Literal["create", "update", "upsert", "delete"]
OPERATIONS: tuple[Operation, ...] = ("create", "update", "upsert", "delete")
IN_BATCHES: tuple[Operation, ...] = ("create", "update", "upsert")

Row = dict[str, Any]


@dataclass
class Sent:
    """The write of one record: its fields under the source's own paths, and what the placeholders stood for."""

    fields: Row
    named: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """How a write is laid out. ``place``: where in the body the fields stand, of a batch its items.

    ``added`` are the values of `set` that hold placeholders; ``beside`` stand among an item's fields without being
    any of them.
    """

    operation: Operation
    place: tuple[str, ...] | None
    added: tuple[tuple[Path, Template], ...]
    beside: tuple[Path, ...] = ()
    batch: Batch | None = None

    def read(self, body: Any, values: Mapping[str, Any]) -> list[Sent]:
        """The writes of a request, whose placeholders stood for ``values``. Raises DataError for another form."""
        found: Any = {} if self.place is None else step_through(body, self.place)
        items = found if self.batch else [found]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{'a list of objects' if self.batch else 'an object'} was expected in the body")
        return [self.read_one(item, values) for item in items]

    def read_one(self, item: Row, values: Mapping[str, Any]) -> Sent:
        sent = Sent(deepcopy(item), dict(values))
        for path, expected in self.added:
            value = path.get(item)
            if value is not MISSING:
                sent.named |= expected.read_value(value)
        for path in self.beside:
            drop(sent.fields, path)
        return sent


def forms(write: Write) -> Iterator[tuple[Form, Call, Any]]:
    """Each way to write, with its call and its body."""
    for operation in OPERATIONS:
        call = getattr(write, operation)
        if call is not None:
            body = "<fields>" if call.body is None and call.graphql is None and operation != "delete" else call.body
            yield form(operation, body, {**write.set, **call.set}, {}), call, body
    for operation in IN_BATCHES if write.batch else ():
        call = getattr(write.batch, operation)
        if call is not None and write.batch is not None:
            body = write.batch.body if call.body is None else call.body
            yield form(operation, body, write.set, write.batch.set, write.batch), call, body


def form(operation: Operation, body: Any, kept: Row, beside: Row, batch: Batch | None = None) -> Form:
    place = place_of(body, "<fields>" if batch is None else "<items>")
    leaves = [(path, value) for path, value in set_leaves({**kept, **beside}) if list(names_in(value))]
    added = tuple((path, template(value)) for path, value in leaves if isinstance(value, str))
    tells = [path for path, one in added if any(not stays(name) for name in one.names)]
    return Form(operation, place, added, (*tells, *(path for path, _ in set_leaves(beside))), batch)


def stays(name: str) -> bool:
    """Whether a placeholder's value is one of the record's own fields, and not what tells which record is meant."""
    return name == "reference" or name.startswith("fields.")


def place_of(value: Any, wanted: str, before: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Where a placeholder stands alone in a body."""
    if value == wanted:
        return before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    places = (place_of(one, wanted, (*before, str(key))) for key, one in inner)
    return next((place for place in places if place is not None), None)


def drop(document: Row, path: Path) -> None:
    above = step_through(document, path.parts[:-1])
    if isinstance(above, dict):
        above.pop(path.parts[-1], None)


def all_names(write: Write) -> Iterator[str]:
    """Every placeholder in the calls of a `write` block."""
    calls = [getattr(write, operation) for operation in OPERATIONS]
    for call in (one for one in calls if one is not None):
        yield from names_in([call.request, call.query, call.headers, call.body, call.set])
    yield from names_in([write.set, write.batch.set if write.batch else None])
