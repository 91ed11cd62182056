"""The answers to requests that write, and to those that look for what was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator.answer import Answer, Refused
from integrations_pipeline.simulator.dataset import Dataset, folded
from integrations_pipeline.simulator.faults.registry import ITEMS, WRITES
from integrations_pipeline.simulator.faults.writes import Fate, Manner, lost
from integrations_pipeline.simulator.idempotency import Keys
from integrations_pipeline.simulator.lagging import Lag
from integrations_pipeline.simulator.records import put
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.simulator.writeforms import Sent
from integrations_pipeline.simulator.writer import Writer, source_of
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import DataError, NotFound
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.placeholders import as_text, names_in
from integrations_pipeline.spec.write import Batch, Write, set_leaves

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Row, Simulation


class Writes:
    """Answers what writes to one simulation. Called under its lock."""

    def __init__(self, simulation: Simulation):
        self.simulation = simulation
        self.reset()

    def reset(self) -> None:
        """No key is known, and all is seen."""
        self.keys = Keys()
        self.lag = Lag(self.simulation.clock)

    def declared(self, stream: str) -> Write:
        write = self.simulation.connection.streams[stream].write
        assert write is not None
        return write

    def key(self, view: View | None, request: Request) -> str:
        """The idempotency key of a request; empty where it has none."""
        idempotency = self.declared(view.stream).idempotency if view and view.form else None
        return "" if idempotency is None else as_text(request.sent(idempotency.send))

    def manner(self, view: View) -> Manner:
        """The faults whose turn it is."""
        manner = Manner(self.simulation.clock)
        for switched in self.simulation.faults.turns("write", view.stream):
            WRITES[switched.fault.name](manner, switched)
        return manner

    def answer(self, view: View, request: Request) -> Answer:
        """What was done. The same idempotency key again: the same answer, and nothing is done.

        Raises DataError, NotFound, Refused; then nothing is changed, and no key kept.
        """
        manner = self.manner(view)
        if manner.instead is not None:
            return manner.instead
        key = "" if manner.ignores_key else self.key(view, request)
        answer = self.again(view, request, key) or self.done(view, request, key, manner)
        return answer if manner.loss is None else lost(answer, manner.loss)

    def again(self, view: View, request: Request, key: str) -> Answer | None:
        """The answer that a key already has."""
        idempotency = self.declared(view.stream).idempotency
        if not key or idempotency is None:
            return None
        return self.keys.answer(key, request, self.simulation.clock.now(), idempotency.kept)

    def done(self, view: View, request: Request, key: str, manner: Manner) -> Answer:
        assert view.form is not None
        writer = Writer(self.simulation, view, view.form, manner)
        sent = writer.sent(request)
        if view.form.batch is not None:
            answer = self.many(writer, sent, view.form.batch)
        else:
            answer = self.told(writer, request, writer.write(sent[0]))
        if key:
            self.keys.keep(key, request, answer, self.simulation.clock.now())
        return replace(answer, headers=dict(answer.headers))

    # answers

    def told(self, writer: Writer, request: Request, ordinal: int) -> Answer:
        """The answer to one write."""
        wrote = (self.simulation.external_id(writer.dataset, ordinal),)
        operation = writer.form.operation
        if operation == "delete":
            return Answer(204, b"", count=1, wrote=wrote)
        status = 201 if request.method == "POST" and operation == "create" else 200
        return Answer(status, encode(self.reply(writer.dataset, ordinal)), count=1, wrote=wrote)

    def reply(self, dataset: Dataset, ordinal: int) -> Any:
        """The record where `answer` reads it, only its key where it is read again, and the id where `id` reads it."""
        write, record = self.declared(dataset.plan.name), self.simulation.reading.alone(dataset, ordinal)
        body: Any = {}
        if write.answer != "reread":
            body = laid(write.answer, record)
        for path in dataset.plan.key_paths if write.answer == "reread" else ():
            put(body, path.parts, path.get(record))
        if write.id is not None and write.id.get(body) is MISSING and isinstance(body, dict):
            put(body, write.id.parts, dataset.key_values(record)[0])
        return body

    # batches

    def many(self, writer: Writer, sent: Sequence[Sent], batch: Batch) -> Answer:
        """Each item on its own; 207 where one was refused."""
        if len(sent) > batch.size:
            raise DataError(f"at most {batch.size} items were expected, not {len(sent)}")
        results: list[Any] = []
        errors, wrote = [], []
        for one in sent:
            fate = self.fate(writer)
            try:
                ordinal = self.write_item(writer, one, fate)
            except (Refused, DataError, NotFound) as error:
                refused = as_refused(error)
                errors.append(refused.document)
                results += refused_item(batch, one, refused)
                continue
            wrote.append(self.simulation.external_id(writer.dataset, ordinal))
            if not fate.untold:
                results.append(self.item(writer.dataset, ordinal, one, batch))
        if writer.manner.shuffled is not None:
            results.sort(key=lambda one: writer.manner.shuffled.number(one) if writer.manner.shuffled else 0)
        body = laid(batch.results or Path(()), results)
        if errors and isinstance(body, dict):
            body["errors"] = errors
        return Answer(207 if errors else 200, encode(body), count=len(sent), wrote=tuple(wrote))

    def fate(self, writer: Writer) -> Fate:
        fate = Fate()
        for switched in self.simulation.faults.turns("item", writer.plan.name):
            ITEMS[switched.fault.name](fate, switched)
        return fate

    def write_item(self, writer: Writer, sent: Sent, fate: Fate) -> int:
        if fate.status is not None:
            raise Refused(fate.status, "invalid", "this item is refused by a fault")
        return writer.write(sent)

    def item(self, dataset: Dataset, ordinal: int, sent: Sent, batch: Batch) -> Any:
        """The result of one item, with what tells which one it is and how it went."""
        found = self.reply(dataset, ordinal)
        if isinstance(found, dict):
            mark_item(found, sent, batch)
            if batch.status is not None and batch.status.get(found) is MISSING:
                put(found, batch.status.parts, 200)
        return found

    # looking for what was written

    def found(self, view: View, request: Request) -> Answer:
        """The answer to `find`. Raises NotFound where a single record was asked for and there is none."""
        dataset, find = self.simulation.datasets[view.stream], self.declared(view.stream).find
        assert find is not None
        tests = list(self.looked_for(dataset, view.values(request)))
        items = [
            self.simulation.reading.alone(dataset, ordinal)
            for ordinal in (dataset.holding(*tests[0]) if tests else ())
            if dataset.lives(ordinal)
            and all(folded(path.get(dataset.row(ordinal))) == folded(value) for path, value in tests)
        ]
        if find.records is not None:
            return Answer(200, encode(laid(find.records, items)), count=len(items))
        if not items:
            raise NotFound(f"no {dataset.plan.name} of that kind")
        return Answer(200, encode(laid(find.record or Path(()), items[0])), count=1)

    def looked_for(self, dataset: Dataset, values: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
        """The paths and values that a record must have."""
        for name, value in values.items():
            path = source_of(dataset.plan, name)
            if path is not None:
                yield path, value
            elif name == "reference":
                yield from reference_in(self.declared(dataset.plan.name), value)


def reference_in(write: Write, value: Any) -> Iterator[tuple[Path, Any]]:
    """Where our reference lies in a record, and what stands there."""
    calls = [call for call in (write.create, write.upsert) if call is not None]
    for given in (write.set, *(call.set for call in calls)):
        for path, text in set_leaves(given):
            if "reference" in names_in(text):
                yield path, as_text(text).replace("<reference>", as_text(value))
                return
    if write.find is not None and write.find.match is not None:
        yield write.find.match, value


def as_refused(error: Refused | DataError | NotFound) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused(404 if isinstance(error, NotFound) else 400, error.error_class, error.what)


def refused_item(batch: Batch, sent: Sent, refused: Refused) -> list[Any]:
    """What stands among the results: its status where one is read; by order at least its place; else nothing."""
    if batch.status is None:
        return [None] if batch.by == "order" else []
    found: Row = refused.document
    mark_item(found, sent, batch)
    put(found, batch.status.parts, refused.status)
    return [found]


def mark_item(found: Row, sent: Sent, batch: Batch) -> None:
    """Puts what tells the item, where its result doesn't hold it anyway."""
    path = None if batch.by == "order" else parse_path(batch.by)
    if path is None or path.get(found) is not MISSING:
        return
    template = dict(set_leaves(batch.set)).get(path)
    put(found, path.parts, sent.named.get(as_text(template)[1:-1], sent.named.get("external_id")))


def laid(path: Path, value: Any) -> Any:
    """A document in which the value stands at the path."""
    for part in reversed(path.parts):
        value = [value] if part.isdecimal() else {part: value}
    return value
