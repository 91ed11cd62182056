"""One request that writes: which record each of its writes means, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator import accepting
from integrations_pipeline.simulator.answer import Refused
from integrations_pipeline.simulator.faults.writes import Manner
from integrations_pipeline.simulator.records import Plan, put
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.simulator.webhooks import Verb
from integrations_pipeline.simulator.writeforms import Form, Sent, drop
from integrations_pipeline.spec.api import ErrorRule
from integrations_pipeline.spec.errors import NotFound
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.placeholders import as_text, names_in

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Row, Simulation


class Writer:
    """Does the writes of one request. Raises DataError where its stream lies inside another one's records."""

    def __init__(self, simulation: Simulation, view: View, form: Form, manner: Manner):
        self.simulation = simulation
        self.view = view
        self.form = form
        self.manner = manner
        self.dataset = simulation.changeable(view.stream)
        self.plan = self.dataset.plan

    def sent(self, request: Request) -> list[Sent]:
        """The writes of the request, one per record. Raises DataError for a body of another form."""
        is_form = "form" in request.headers.get("content-type", "")
        found = self.form.read(request.body, self.view.values(request))
        for one in found:
            self.complete(one)
            if is_form:
                accepting.typed(self.plan, one.fields)
            accepting.normalise(self.plan, one.fields, self.manner.forms)
            for path in self.manner.ignored:
                drop(one.fields, path)
        return found

    def complete(self, sent: Sent) -> None:
        """Values that a call names one by one go where the mapping reads them."""
        for name, value in sent.named.items():
            path = source_of(self.plan, name)
            if path is not None and path.get(sent.fields) is MISSING:
                put(sent.fields, path.parts, value)

    def write(self, sent: Sent) -> int:
        """Writes one record; its number. Raises DataError, NotFound, Refused."""
        ordinal = self.meant(sent)
        if ordinal is None:
            return self.create(sent)
        if self.manner.overtaken:
            self.dataset.update(ordinal)
            self.simulation.changed(self.dataset, [ordinal], "updated")
        self.refuse_changed(ordinal, sent)
        if self.form.operation == "delete":
            self.begin(ordinal)
            self.dataset.delete(ordinal)
            return self.changed(ordinal, "deleted")
        accepting.refuse_wrong(self.plan, sent.fields)
        self.begin(ordinal)
        self.dataset.update(ordinal, accepting.writable(self.plan, sent.fields))
        return self.changed(ordinal, "updated")

    def begin(self, ordinal: int) -> None:
        """Just before a record is written."""
        if self.manner.lag_seconds:
            self.simulation.writes.lag.begin(self.dataset, ordinal, self.manner.lag_seconds)

    def changed(self, ordinal: int, verb: Verb) -> int:
        self.simulation.changed(self.dataset, [ordinal], verb)
        return ordinal

    # which record

    def meant(self, sent: Sent) -> int | None:
        """The record to change; None to create one. Raises NotFound where an update or delete means none."""
        if self.form.operation == "create":
            return None
        found = next((ordinal for ordinal in self.candidates(sent) if self.dataset.lives(ordinal)), None)
        if found is None and self.form.operation != "upsert":
            raise NotFound(f"no {self.plan.name} {as_text(self.named_key(sent) or '')}")
        return found

    def candidates(self, sent: Sent) -> Iterator[int]:
        """By its key; an upsert without one by the fields that its call names, or by the mapping's `match`."""
        key = self.named_key(sent) or self.chosen_key(sent)
        if key is not None:
            found = self.dataset.find_key(key)
            yield from [] if found is None else [found]
            return
        for path in self.matched_by(sent):
            yield from self.dataset.holding(path, path.get(sent.fields))

    def matched_by(self, sent: Sent) -> list[Path]:
        names = [name for name in sent.named if name.startswith("fields.")]
        match = self.plan.stream.map.match if self.plan.stream.map else []
        names = names or [f"fields.{name}" for name in (match[0] if match else [])]
        return [path for name in names if (path := source_of(self.plan, name)) is not None]

    def named_key(self, sent: Sent) -> list[Any] | None:
        """The key that placeholders tell."""
        named = sent.named
        if named.get("external_id") not in (None, ""):
            text = as_text(named["external_id"])
            return self.simulation.varying(self.dataset, text) if len(self.plan.stream.primary_key) > 1 else [text]
        parts = [named.get(f"key.{path}", named.get(f"record.{path}")) for path in self.plan.key_paths]
        return None if None in parts else parts

    def chosen_key(self, sent: Sent) -> list[Any] | None:
        """The key that the writer gives a new record: in the path, or among its fields."""
        if "reference" in self.view.path.names:
            return [sent.named["reference"]]
        parts = self.dataset.key_values(sent.fields)
        return None if MISSING in parts or None in parts else parts

    def refuse_changed(self, ordinal: int, sent: Sent) -> None:
        """A write on condition that the record is still as its writer knew it: 412 by a header, 409 by a field."""
        in_headers = {name for (kind, _), one in self.view.holes if kind == "header" for name in one.names}
        for path in self.plan.conditional:
            name = f"record.{path}"
            if name not in sent.named or name in self.view.path.names:
                continue
            if as_text(sent.named[name]) != as_text(path.get(self.dataset.row(ordinal))):
                raise Refused(412 if name in in_headers else 409, "changed", "the record has changed meanwhile")

    # new records

    def create(self, sent: Sent) -> int:
        dataset, key = self.dataset, self.chosen_key(sent)
        fields = accepting.writable(self.plan, sent.fields)
        accepting.refuse_wrong(self.plan, sent.fields)
        self.refuse_existing(sent, key)
        for path, value in zip(self.plan.key_paths, key or (), strict=False):
            put(fields, path.parts, value)
        parent = self.simulation.reading.parent_asked(dataset, sent.named) if self.has_parent(sent) else None
        self.begin(dataset.next_ordinal)
        fields = accepting.with_blanks(self.plan, fields, dataset.next_ordinal, dataset.stamp_now)
        return self.changed(dataset.insert(fields, parent), "created")

    def has_parent(self, sent: Sent) -> bool:
        parents = self.dataset.parents
        return parents is not None and any(name.startswith(f"{parents.plan.name}.") for name in sent.named)

    def refuse_existing(self, sent: Sent, key: list[Any] | None) -> None:
        """A key is there once; where an answer is declared to mean `exists`, so is what `find` looks by."""
        there = self.dataset.find_key(key) if key is not None else None
        if there is not None:
            if not self.dataset.lives(there):
                raise Refused(409, "gone", "a record of this key was deleted")
            raise self.existing(there, None)
        rules = [*self.plan.stream.errors, *self.simulation.connection.api.errors]
        rule = next((rule for rule in rules if rule.is_ == "exists"), None)
        for path in self.found_by() if rule else ():
            value = path.get(sent.fields)
            for ordinal in self.dataset.holding(path, value) if value not in (None, "", MISSING) else ():
                if self.dataset.lives(ordinal):
                    raise self.existing(ordinal, rule)

    def found_by(self) -> Iterator[Path]:
        """The fields by which `find` looks."""
        find = self.plan.stream.write.find if self.plan.stream.write else None
        for name in dict.fromkeys(names_in([find.request, find.query, find.body]) if find else ()):
            path = source_of(self.plan, name)
            if path is not None:
                yield path

    def existing(self, ordinal: int, rule: ErrorRule | None) -> Refused:
        """As the rule reads it, with the id of what is there."""
        more: Row = {}
        for path, wanted in rule.when.body.tests if rule and rule.when and rule.when.body else ():
            text = wanted.get("contains") if isinstance(wanted, dict) else wanted
            put(more, path.parts, text[0] if isinstance(text, list) else text)
        if rule and rule.id is not None:
            put(more, rule.id.parts, self.simulation.external_id(self.dataset, ordinal))
        status = rule.status[0] if rule and rule.status else 409
        return Refused(status, "exists", f"this {self.plan.name} exists already", more)


def source_of(plan: Plan, name: str) -> Path | None:
    """Where the source has what a placeholder `fields.NAME` stands for."""
    field = plan.stream.map.fields.get(name.removeprefix("fields.")) if plan.stream.map else None
    return field.from_ if field and name.startswith("fields.") else None
