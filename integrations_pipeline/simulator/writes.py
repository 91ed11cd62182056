"""Writes: creates, updates and deletes records as the stream's `write` declares them, one by one or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator import accepting
from integrations_pipeline.simulator.answer import Answer, Refused
from integrations_pipeline.simulator.dataset import Dataset
from integrations_pipeline.simulator.idempotency import Keys
from integrations_pipeline.simulator.records import put
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.simulator.webhooks import Verb
from integrations_pipeline.simulator.writeforms import Operation, Sent, set_leaves
from integrations_pipeline.spec.api import ErrorRule
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import DataError, NotFound
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.placeholders import as_text, names_in
from integrations_pipeline.spec.write import Batch, Write

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Row, Simulation


class Writes:
    """Answers what writes to one simulation. Called under its lock."""

    def __init__(self, simulation: Simulation):
        self.simulation = simulation
        self.keys = Keys()

    def declared(self, view: View) -> Write:
        write = self.simulation.connection.streams[view.stream].write
        assert write is not None
        return write

    def key(self, view: View | None, request: Request) -> str:
        """The idempotency key of a request; empty where it has none."""
        stream = self.simulation.connection.streams.get(view.stream) if view and view.form else None
        place = stream.write.idempotency.send if stream and stream.write and stream.write.idempotency else None
        return "" if place is None else as_text(request.sent(place))

    def answer(self, view: View, request: Request) -> Answer:
        """What was done. The same idempotency key again: the same answer, and nothing is done.

        Raises DataError, NotFound, Refused; then nothing is changed, and no key kept.
        """
        key, now, kept_for = self.key(view, request), self.simulation.clock.now(), self.declared(view).idempotency
        if key and kept_for and (again := self.keys.answer(key, request, now, kept_for.kept)):
            return again
        answer = self.done(view, request)
        if key:
            self.keys.keep(key, request, answer, now)
        return answer

    def done(self, view: View, request: Request) -> Answer:
        assert view.form is not None
        dataset = self.simulation.changeable(view.stream)
        sent = view.form.read(request.body, view.values(request))
        for one in sent:
            self.placed(dataset, one, is_form="form" in request.headers.get("content-type", ""))
        if view.form.batch is not None:
            return self.many(view, dataset, sent, view.form.batch)
        written = self.one(view, dataset, sent[0])
        return self.told(view, request, dataset, written)

    def placed(self, dataset: Dataset, sent: Sent, *, is_form: bool) -> None:
        """Values that a call names one by one go where the mapping reads them; those of a form get their types."""
        for name, value in sent.named.items():
            path = self.source_of(dataset, name)
            if path is not None and path.get(sent.fields) is MISSING:
                put(sent.fields, path.parts, value)
        if is_form:
            accepting.typed(dataset.plan, sent.fields)

    def source_of(self, dataset: Dataset, name: str) -> Path | None:
        """Where the source has what a placeholder `fields.NAME` stands for."""
        mapping = dataset.plan.stream.map
        field = mapping.fields.get(name.removeprefix("fields.")) if mapping and name.startswith("fields.") else None
        return field.from_ if field else None

    # one record

    def one(self, view: View, dataset: Dataset, sent: Sent) -> int:
        """Writes one record; its number. Raises as `answer` does."""
        assert view.form is not None
        operation: Operation = view.form.operation
        ordinal = self.meant(view, dataset, sent, operation)
        if ordinal is None:
            return self.create(view, dataset, sent)
        refuse_changed(view, dataset, ordinal, sent)
        if operation == "delete":
            dataset.delete(ordinal)
            return self.changed(dataset, ordinal, "deleted")
        accepting.refuse_wrong(dataset.plan, sent.fields)
        dataset.update(ordinal, accepting.writable(dataset.plan, sent.fields))
        return self.changed(dataset, ordinal, "updated")

    def changed(self, dataset: Dataset, ordinal: int, verb: Verb) -> int:
        self.simulation.changed(dataset, [ordinal], verb)
        return ordinal

    def meant(self, view: View, dataset: Dataset, sent: Sent, operation: Operation) -> int | None:
        """The record to change; None to create one. Raises NotFound where an update or delete means none."""
        if operation == "create":
            return None
        found = [ordinal for ordinal in self.candidates(view, dataset, sent) if dataset.lives(ordinal)]
        if not found and operation != "upsert":
            raise NotFound(f"no {dataset.plan.name} {as_text(self.named_key(dataset, sent) or '')}")
        return found[0] if found else None

    def candidates(self, view: View, dataset: Dataset, sent: Sent) -> Iterator[int]:
        """By its key; an upsert without one by the fields that its call names, or by the mapping's `match`."""
        key = self.named_key(dataset, sent) or self.chosen_key(view, dataset, sent)
        if key is not None:
            found = dataset.find_key(key)
            yield from [] if found is None else [found]
            return
        mapping = dataset.plan.stream.map
        names = [name for name in sent.named if name.startswith("fields.")]
        matched = mapping.match[0] if mapping and mapping.match else []
        names = names or [f"fields.{name}" for name in ([matched] if isinstance(matched, str) else matched)]
        for path in filter(None, (self.source_of(dataset, name) for name in names)):
            yield from dataset.holding(path, path.get(sent.fields))

    def named_key(self, dataset: Dataset, sent: Sent) -> list[Any] | None:
        """The key that placeholders tell."""
        plan, named = dataset.plan, sent.named
        if named.get("external_id") not in (None, ""):
            text = as_text(named["external_id"])
            return self.simulation.varying(dataset, text) if len(plan.stream.primary_key) > 1 else [text]
        parts = [named.get(f"key.{path}", named.get(f"record.{path}")) for path in plan.key_paths]
        return None if None in parts else parts

    def chosen_key(self, view: View, dataset: Dataset, sent: Sent) -> list[Any] | None:
        """The key that the writer gives a new record: in the path, or among its fields."""
        if "reference" in view.path.names:
            return [sent.named["reference"]]
        parts = dataset.key_values(sent.fields)
        return None if MISSING in parts or None in parts else parts

    def create(self, view: View, dataset: Dataset, sent: Sent) -> int:
        plan, rest = dataset.plan, accepting.writable(dataset.plan, sent.fields)
        accepting.refuse_wrong(plan, sent.fields)
        key = self.chosen_key(view, dataset, sent)
        self.refuse_existing(dataset, sent, key)
        for path, value in zip(plan.key_paths, key or (), strict=False):
            put(rest, path.parts, value)
        parent = self.simulation.reading.parent_asked(dataset, sent.named) if has_parent(dataset, sent) else None
        ordinal = dataset.insert(accepting.with_blanks(plan, rest, dataset.next_ordinal, dataset.stamp_now), parent)
        return self.changed(dataset, ordinal, "created")

    def refuse_existing(self, dataset: Dataset, sent: Sent, key: list[Any] | None) -> None:
        """A key is there once; where an answer is declared to mean `exists`, so is what `find` looks by."""
        there = dataset.find_key(key) if key is not None else None
        if there is not None:
            if not dataset.lives(there):
                raise Refused(409, "gone", "a record of this key was deleted")
            raise self.existing(dataset, there, None)
        rule, find = self.exists_rule(dataset), dataset.plan.stream.write and dataset.plan.stream.write.find
        if rule is None or not find:
            return
        for name in set(names_in([find.request, find.query, find.body])):
            path = self.source_of(dataset, name)
            value = path.get(sent.fields) if path else None
            for ordinal in dataset.holding(path, value) if path and value not in (None, "", MISSING) else ():
                if dataset.lives(ordinal):
                    raise self.existing(dataset, ordinal, rule)

    def exists_rule(self, dataset: Dataset) -> ErrorRule | None:
        rules = [*dataset.plan.stream.errors, *self.simulation.connection.api.errors]
        return next((rule for rule in rules if rule.is_ == "exists"), None)

    def existing(self, dataset: Dataset, ordinal: int, rule: ErrorRule | None) -> Refused:
        """As the rule reads it, with the id of what is there."""
        more: Row = {}
        for path, wanted in rule.when.body.tests if rule and rule.when and rule.when.body else ():
            text = wanted.get("contains") if isinstance(wanted, dict) else wanted
            put(more, path.parts, text[0] if isinstance(text, list) else text)
        if rule and rule.id is not None:
            put(more, rule.id.parts, self.simulation.external_id(dataset, ordinal))
        status = rule.status[0] if rule and rule.status else 409
        return Refused(status, "exists", f"this {dataset.plan.name} exists already", more)

    # answers

    def told(self, view: View, request: Request, dataset: Dataset, ordinal: int) -> Answer:
        """The answer to one write."""
        wrote = (self.simulation.external_id(dataset, ordinal),)
        assert view.form is not None
        if view.form.operation == "delete":
            return Answer(204, b"", count=1, wrote=wrote)
        status = 201 if request.method == "POST" and view.form.operation == "create" else 200
        return Answer(status, encode(self.reply(view, dataset, ordinal)), count=1, wrote=wrote)

    def reply(self, view: View, dataset: Dataset, ordinal: int) -> Any:
        """The record where `answer` reads it, only its key where it is read again, and the id where `id` reads it."""
        write = self.declared(view)
        record = self.simulation.reading.alone(dataset, ordinal)
        if write.answer == "reread":
            body: Any = {}
            for path in dataset.plan.key_paths:
                put(body, path.parts, path.get(record))
        else:
            body = laid(write.answer, record)
        if write.id is not None and write.id.get(body) is MISSING and isinstance(body, dict):
            put(body, write.id.parts, dataset.key_values(record)[0])
        return body

    # batches

    def many(self, view: View, dataset: Dataset, sent: Sequence[Sent], batch: Batch) -> Answer:
        """Each item on its own; 207 where one was refused."""
        if len(sent) > batch.size:
            raise DataError(f"at most {batch.size} items were expected, not {len(sent)}")
        results, errors, wrote = [], [], []
        for one in sent:
            try:
                ordinal = self.one(view, dataset, one)
            except (Refused, DataError, NotFound) as error:
                refused = as_refused(error)
                errors.append(refused.document)
                results += self.refused_item(batch, one, refused)
                continue
            wrote.append(self.simulation.external_id(dataset, ordinal))
            results.append(self.item(view, dataset, ordinal, one, batch))
        body = laid(batch.results or Path(()), results)
        if errors and isinstance(body, dict):
            body["errors"] = errors
        return Answer(207 if errors else 200, encode(body), count=len(sent), wrote=tuple(wrote))

    def item(self, view: View, dataset: Dataset, ordinal: int, sent: Sent, batch: Batch) -> Any:
        """The result of one item, with what tells which one it is and how it went."""
        found = self.reply(view, dataset, ordinal)
        if not isinstance(found, dict):
            return found
        mark_item(found, sent, batch)
        if batch.status is not None and batch.status.get(found) is MISSING:
            put(found, batch.status.parts, 200)
        return found

    def refused_item(self, batch: Batch, sent: Sent, refused: Refused) -> list[Any]:
        """What stands among the results: its status where one is read; by order at least its place; else nothing."""
        if batch.status is None:
            return [None] if batch.by == "order" else []
        found: Row = refused.document
        mark_item(found, sent, batch)
        put(found, batch.status.parts, refused.status)
        return [found]

    # looking for what was written

    def found(self, view: View, request: Request) -> Answer:
        """The answer to `find`. Raises NotFound where a single record was asked for and there is none."""
        dataset, values = self.simulation.datasets[view.stream], view.values(request)
        tests = list(self.looked_for(dataset, values))
        ordinals = [
            ordinal
            for ordinal in (dataset.holding(*tests[0]) if tests else ())
            if dataset.lives(ordinal)
            and all(as_text(path.get(dataset.row(ordinal))) == as_text(value) for path, value in tests)
        ]
        items = [self.simulation.reading.alone(dataset, ordinal) for ordinal in ordinals]
        find = self.declared(view).find
        assert find is not None
        if find.records is not None:
            return Answer(200, encode(laid(find.records, items)), count=len(items))
        if not items:
            raise NotFound(f"no {dataset.plan.name} of that kind")
        return Answer(200, encode(laid(find.record or Path(()), items[0])), count=1)

    def looked_for(self, dataset: Dataset, values: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
        """The paths and values that a record must have."""
        write = dataset.plan.stream.write
        assert write is not None
        for name, value in values.items():
            path = self.source_of(dataset, name)
            if path is not None:
                yield path, value
            elif name == "reference":
                yield from reference_in(write, value)


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


def has_parent(dataset: Dataset, sent: Sent) -> bool:
    before = f"{dataset.parents.plan.name}." if dataset.parents else None
    return before is not None and any(name.startswith(before) for name in sent.named)


def refuse_changed(view: View, dataset: Dataset, ordinal: int, sent: Sent) -> None:
    """A write on condition that the record is still as its writer knew it: 412 by a header, 409 by a field."""
    keys = {f"record.{path}" for path in dataset.plan.key_paths}
    in_headers = {name for (kind, _), one in view.holes if kind == "header" for name in one.names}
    for name, value in sent.named.items():
        if name.startswith("record.") and name not in keys and name not in view.path.names:
            now = parse_path(name.removeprefix("record.")).get(dataset.row(ordinal))
            if as_text(value) != as_text(now):
                raise Refused(412 if name in in_headers else 409, "changed", "the record has changed meanwhile")


def as_refused(error: Refused | DataError | NotFound) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused(404 if isinstance(error, NotFound) else 400, error.error_class, error.what)


def mark_item(found: Row, sent: Sent, batch: Batch) -> None:
    """Puts what tells the item, where its result doesn't hold it anyway."""
    path = None if batch.by == "order" else parse_path(batch.by)
    if path is None or path.get(found) is not MISSING:
        return
    template = dict(set_leaves(batch.set)).get(path)
    value = sent.named.get(as_text(template)[1:-1], sent.named.get("external_id"))
    put(found, path.parts, value)


def laid(path: Path, value: Any) -> Any:
    """A document in which the value stands at the path."""
    for part in reversed(path.parts):
        value = [value] if part.isdecimal() else {part: value}
    return value
