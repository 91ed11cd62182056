"""A stream's record as a pure function of (seed, stream, number, stamp), compiled once from everything the YAML says.

The row made here is what a reader lands: the record with its `include` fields. `shaping` takes it apart again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from integrations_pipeline.simulator import keys, stamps, subjects
from integrations_pipeline.simulator.values import (
    COUNTRY_CODES,
    CURRENCY_CODES,
    Maker,
    Values,
    inferred,
    mixer,
)
from integrations_pipeline.simulator.writeforms import all_names
from integrations_pipeline.spec.conditions import Condition, matches
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.mapping import MapField
from integrations_pipeline.spec.pagination import Keyset
from integrations_pipeline.spec.paths import Path, parse_path
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.streams import Stream

SKIPPED_EVERY = 20
"""One in so many records is of the sort that the stream's `skip` leaves out."""

OF_THE_ROW = ("here",)
Lookup = Callable[[str, int], Any]
"""(stream, any number) → the key of one of that stream's records."""

Tree = dict[str, Any]


class Plan:
    """How the records of one stream look. ``count`` is how many are wanted; a key of few values holds fewer."""

    def __init__(self, connection: Connection, name: str, seed: int, count: int, lookup: Lookup, newest: int):
        self.stream = connection.streams[name]
        self.name = name
        self.lookup = lookup
        self.values = Values(seed, connection.name, name)
        self.included = {n: place for n, place in self.stream.rows.include.items() if place.kind in OF_THE_ROW}
        self.around = {n: place for n, place in self.stream.rows.include.items() if place.kind not in OF_THE_ROW}
        self.declared = {parse_path(key): field for key, field in self.stream.fields.items()}
        self.mapped = dict(mapped_sources(self.stream))
        self.asked_by = set(used_by_children(connection, name))
        of_full = self.stream.full.pagination if self.stream.full else None
        self.paginations = [self.stream.pagination or connection.api.pagination, of_full]
        self.cursor = self.stream.cursor
        self.skip_tests = tests_of(self.stream.skip)
        self.stamp_path = self.cursor.field if self.cursor else None
        self.form = stamps.form_in_records(self.cursor, self.declared.get(self.stamp_path or Path(())))
        self.start = stamps.microseconds(stamps.first_moment(self.cursor))
        self.newest = newest
        self.fixed_lists = list(texts_listed(self.stream.query))
        named = {parse_path(name[7:]) for name in written_names(self.stream) if name.startswith("record.")}
        self.key_paths = [path for path in self.stream.primary_key if path.parts[0] not in self.around]
        self.conditional = named - set(self.key_paths)  # what a writer must know to be allowed to write
        self.versions = self.conditional - {self.stamp_path, self.stream.version}
        self.stamp_in_key = self.stamp_path in self.key_paths  # such a cursor never moves: records are only added
        self.key = self.make_key(count)
        if self.stamp_in_key and not self.form.is_number:
            self.start = self.start_of_series(count)
            self.key = self.make_key(count)
        self.count = count if self.key.capacity is None else min(count, self.key.capacity)
        self.step = self.make_step()
        self.resolution = self.form.resolution
        self.scrambled = self.is_scrambled()
        self.unique = {path: self.key_form(path) for path in self.numbering()}
        self.gone = [(path, self.meeting(path, wanted)) for path, wanted in self.gone_tests()]
        self.makers: dict[Path, Maker] = {}
        self.compile()
        self.make: Maker = maker_of(tree_of(self.makers))
        self.changing = [(path, maker) for path, maker in self.makers.items() if self.may_change(path)]

    # keys

    def make_key(self, count: int) -> keys.Composite:
        """All varying parts of the primary key; a cursor among them moves slowest, so that pages come in its order."""
        parts = [self.key_form(path) for path in self.key_paths] or [keys.Counted(True)]
        outer = next((i for i, path in enumerate(self.key_paths) if path == self.stamp_path), None)
        if outer is None:
            outer = next((i for i, part in enumerate(parts) if isinstance(part, keys.Days)), 0)
        alone = next((i for i, path in enumerate(self.key_paths) if path in self.asked_by), None)
        if alone is not None:
            return keys.Composite(parts, [1] * len(parts), [alone, *(i for i in range(len(parts)) if i != alone)])
        return keys.composite(parts, outer, count)

    def start_of_series(self, count: int) -> int:
        """What is counted by days reaches to yesterday, so that a reader of windows meets it where it will go on."""
        index = self.key_paths.index(self.stamp_path or Path(()))
        days = self.key.digit(max(count - 1, 0), index)
        return max(self.start, self.newest - self.newest % stamps.DAY - days * stamps.DAY)

    def key_form(self, path: Path) -> keys.KeyForm:
        """How the values of one key part look, by its field's type and name."""
        field, name = self.declared.get(path), path.parts[-1]
        as_text = name in (self.stream.rows.keyed_by or ())
        if field and field.values:
            return keys.Listed(tuple(field.values))
        kind = field.type if field else inferred(name).type
        if kind in ("date", "timestamp"):
            days = max((self.newest - self.start) // stamps.DAY, 0) + 2  # the last one is today
            return keys.Days((stamps.EPOCH + timedelta(microseconds=self.start)).date(), days)
        listed = self.codes(field, name)
        if listed:
            return keys.Listed(listed)
        if field and field.format == "uuid":
            return keys.Uuids(self.values.first(len(self.name)))
        if field and field.type == "string":
            prefix = keys.prefix_of(self.name, field)
            return keys.Prefixed(prefix) if prefix and not as_text else keys.Counted(False)
        return keys.Counted(as_number=not as_text)

    def codes(self, field: Field | None, name: str) -> tuple[str, ...]:
        """Currency or country codes where the key is one: `code` of currencies counts too."""
        wanted = field.format if field and field.format else name
        if "currency" in wanted or (name == "code" and "currenc" in self.name):
            return CURRENCY_CODES
        if "country" in wanted or (name == "code" and "countr" in self.name):
            return COUNTRY_CODES
        return ()

    def numbering(self) -> Iterator[Path]:
        """The fields that each tell a record alone: a single key, and what children, objects and pages go by."""
        keyed = [Path((name,)) for name in self.stream.rows.keyed_by or ()]
        paged = [path for path in [self.keyset_path] if path is not None]
        composed = set(self.key_paths) - self.asked_by if len(self.key_paths) > 1 else set()
        for path in dict.fromkeys([*self.key_paths, *self.asked_by, *keyed, *paged]):
            if path.parts and path not in composed and path != self.stamp_path and path.parts[0] not in self.around:
                yield path

    @property
    def keyset_path(self) -> Path | None:
        """The field that the stream's pages go on from, where one is named and it lies in the record itself."""
        for pagination in self.paginations:
            if isinstance(pagination, Keyset) and not self.stream.rows.unwrap:
                return pagination.read
        return None

    @property
    def pages_by_change(self) -> bool:
        """Whether a page goes on from a stamp, or from a wrapper's id, which stands for one."""
        keyset = any(isinstance(pagination, Keyset) for pagination in self.paginations)
        wrapped = bool(self.stream.rows.unwrap and self.stream.rows.unwrap.parts)
        return keyset and (wrapped or (self.stamp_path is not None and self.keyset_path == self.stamp_path))

    # stamps

    def is_scrambled(self) -> bool:
        """A list of no promised order isn't accidentally in the order of its stamps."""
        ordered = self.stamp_in_key or self.pages_by_change
        return self.cursor is not None and self.cursor.order == "none" and not ordered

    def make_step(self) -> int:
        """Units of the stamp from one seeded record to the next."""
        span = min(stamps.SPAN // timedelta(microseconds=1), max(self.newest - self.start, stamps.SECOND))
        return 1 if self.form.is_number else max(span // max(self.count, 1), 1)

    def seeded_stamp(self, rank: int) -> int:
        """The stamp of the record that is the rank-th in order of change; never falls as the rank grows."""
        if self.stamp_in_key and not self.form.is_number:
            rank = self.key.digit(rank, self.key_paths.index(self.stamp_path or Path(())))
            return self.start + rank * stamps.DAY
        if self.form.is_number:
            return rank + 1
        stamp = self.start + rank * self.step
        return stamp - stamp % self.resolution

    # makers

    def compile(self) -> None:
        """One maker per path of the row. Later groups know more and replace what earlier ones guessed."""
        for path, source in self.mapped.items():
            self.makers[path] = self.mapped_maker(path, source)
        for path, field in self.declared.items():
            self.makers[path] = self.plain_maker(path, field)
        for name in self.included:
            self.makers.setdefault(Path((name,)), self.plain_maker(Path((name,)), inferred(name)))
        if self.stream.rows.value:
            path = Path((self.stream.rows.value,))
            self.makers.setdefault(path, self.plain_maker(path, Field(required=True)))
        for path, form in self.unique.items():
            self.makers[path] = numbered(form)
        self.compile_conditions()
        self.compile_stamps_and_keys()
        self.compile_rates()
        for name in self.around:
            self.makers = {path: maker for path, maker in self.makers.items() if path.parts[:1] != (name,)}
        order = [*self.key_paths, *self.declared, *self.makers]
        self.makers = {path: self.makers[path] for path in order if path in self.makers and path.parts}

    def compile_conditions(self) -> None:
        for path, wanted in self.gone_tests():
            self.makers[path] = self.avoiding(path, wanted)
        rare = mixer(*self.values.salt, "skip")
        for path, wanted in self.skip_tests:
            self.makers[path] = now_and_then(rare, self.meeting(path, wanted), self.avoiding(path, wanted))

    def compile_stamps_and_keys(self) -> None:
        if self.stream.version is not None:
            form = stamps.form_in_records(None, self.declared.get(self.stream.version, inferred("updated")))
            self.makers[self.stream.version] = stamped(form)
        if self.stamp_path is not None:
            self.makers[self.stamp_path] = stamped(self.form)
        for index, path in enumerate(self.key_paths):
            if path != self.stamp_path or self.form.name in ("date", "number"):
                self.makers[path] = key_part(self.key, index)

    def compile_rates(self) -> None:
        """A rate is that of its currency and day, where the key tells both."""
        rate, currency = Path(("rate",)), Path(("currency",))
        if rate not in self.makers or currency not in self.key_paths or not self.stamp_in_key:
            return
        code, known = self.makers[currency], subjects.RATES
        base = next((value for value in self.stream.query.values() if str(value) in known), "EUR")
        self.makers[rate] = lambda o, stamp: subjects.rate(base, code(o, stamp), self.seeded_stamp(o) // stamps.DAY)

    def plain_maker(self, path: Path, field: Field) -> Maker:
        source = self.mapped.get(path)
        if source is not None and (source.lookup or source.where or source.required or source.values):
            return self.mapped_maker(path, source, field)
        return self.values.maker(str(path), field)

    def mapped_maker(self, path: Path, source: MapField, field: Field | None = None) -> Maker:
        """What a mapping reads is made so that the mapping succeeds."""
        field = field or inferred(path.parts[-1] if path.parts else "", source.apply)
        if source.lookup:
            return self.reference(path, source, field)
        if source.where is not None and source.take is not None:
            return self.items(path, source.where, source.take)
        if source.required:
            field = field.model_copy(update={"required": True})
        return self.values.maker(str(path), field, list(source.values or ()))

    def reference(self, path: Path, source: MapField, field: Field) -> Maker:
        """The key of a record of another stream, wrapped as the mapping unwraps it."""
        mix, target, around = mixer(*self.values.salt, str(path)), str(source.lookup), wrapping(source)
        as_text = field.type == "string" and path in self.declared

        def make(ordinal: int, stamp: int) -> Any:
            key = self.lookup(target, mix(ordinal))
            return around(key) if around else str(key) if as_text and key is not None else key

        return make

    def items(self, path: Path, where: Condition, take: Path) -> Maker:
        """Two items of a list, one of which the mapping takes."""
        value = self.values.maker(str(take), Field(required=True))

        def make(ordinal: int, stamp: int) -> Any:
            found: Tree = {}
            other: Tree = {}
            for inner, wanted in where.tests:
                put(found, inner.parts, self.meeting(inner, wanted)(ordinal, stamp))
                put(other, inner.parts, self.avoiding(inner, wanted)(ordinal, stamp))
            put(found, take.parts, value(ordinal, stamp))
            put(other, take.parts, value(ordinal + 1, stamp))
            return [other, found]

        return make

    def meeting(self, path: Path, wanted: Any) -> Maker:
        """A value that meets a condition's test."""
        if isinstance(wanted, list):
            return constant(wanted[0])
        if isinstance(wanted, dict) and "present" in wanted:
            return self.present(path) if wanted["present"] else constant(None)
        if isinstance(wanted, dict) and "contains" in wanted:
            return constant(wanted["contains"])
        if isinstance(wanted, dict):
            return self.avoiding(path, wanted["not"])
        return constant(wanted)

    def present(self, path: Path) -> Maker:
        """Any value: one of the field's own, where the file says what that is."""
        declared, source = self.declared.get(path), self.mapped.get(path)
        if declared or source:
            field = declared or inferred(path.parts[-1], source.apply if source else [])
            return self.plain_maker(path, field.model_copy(update={"required": True}))
        if inferred(path.parts[-1]).type in ("timestamp", "date"):
            return stamped(stamps.Form("iso"))
        return lambda ordinal, stamp: {"url": f"https://example.com/{path.parts[-1]}/{ordinal + 1}"}

    def avoiding(self, path: Path, wanted: Any) -> Maker:
        """A likely value that doesn't meet a condition's test."""
        if isinstance(wanted, dict) and "not" in wanted:
            return self.meeting(path, wanted["not"])
        if isinstance(wanted, dict) and "present" in wanted:
            return constant(None) if wanted["present"] else self.present(path)
        pool = [value for value in self.likely(path, wanted) if not matches(value, wanted)]
        return self.values.pick(str(path), pool or [None])

    def likely(self, path: Path, wanted: Any) -> Sequence[Any]:
        """Values the YAML itself names for this place, else a plain one of the same type."""
        field, source = self.declared.get(path), self.mapped.get(path)
        if field and field.values:
            return field.values
        if source and source.values:
            return list(source.values)
        for listed in self.fixed_lists:
            if wanted in listed:
                return listed
        if isinstance(wanted, bool):
            return [not wanted]
        return [0, 1] if isinstance(wanted, int) else ["active", "confirmed"]

    def gone_tests(self) -> Sequence[tuple[Path, Any]]:
        return tests_of(self.stream.deletes.when if self.stream.deletes else None)

    def may_change(self, path: Path) -> bool:
        """Whether a change at random may touch a field: never keys, stamps, references, conditions or addresses."""
        fixed = {*self.key_paths, *self.unique, *self.versions, self.stamp_path, self.stream.version}
        fixed |= {path for path, _ in [*self.gone_tests(), *self.skip_tests]}
        source, last = self.mapped.get(path), path.parts[-1].lower()
        plain = not (source and (source.lookup or source.where)) and "email" not in last
        return plain and path not in fixed and path.parts[0] not in self.included


def written_names(stream: Stream) -> Iterator[str]:
    return all_names(stream.write) if stream.write else iter(())


def tests_of(condition: Condition | None) -> tuple[tuple[Path, Any], ...]:
    return condition.tests if condition else ()


def mapped_sources(stream: Stream) -> Iterator[tuple[Path, MapField]]:
    """Every path of the record that the mapping reads, and how."""
    for source in stream.map.fields.values() if stream.map else ():
        for path in [source.from_] if source.from_ else [*(source.first or ()), *(source.join or ())]:
            yield path, source
        for transform in source.apply:
            if transform.name == "minor_units" and isinstance(transform.argument, str):
                yield parse_path(transform.argument), MapField.model_validate({"from": ".", "required": True})


def used_by_children(connection: Connection, name: str) -> Iterator[Path]:
    """The fields of a stream's records that stand in its children's requests, or that children include."""
    for child in connection.streams.values():
        if child.parent_stream != name:
            continue
        for placeholder in names_in([child.request, child.query, child.headers, child.body]):
            if placeholder.startswith(f"{name}."):
                yield parse_path(placeholder.removeprefix(f"{name}."))
        yield from (place.path for place in child.rows.include.values() if place.kind == "parent")


def texts_listed(value: Any) -> Iterator[list[str]]:
    """Lists of texts in a fixed query, such as the event types a stream asks for."""
    for inner in value.values() if isinstance(value, dict) else ():
        if isinstance(inner, list) and all(isinstance(one, str) for one in inner):
            yield inner


def wrapping(source: MapField) -> Callable[[Any], str] | None:
    """The text from which `split` or `between` gets a key back."""
    for transform in source.apply:
        if transform.name == "between":
            before, after = transform.argument
            return lambda key: f"{before}{key}{after}"
        if transform.name == "split":
            separator, index = transform.argument
            if index == -1:
                before = f"https://example.com/{source.lookup}" if separator == "/" else str(source.lookup)
                return lambda key: f"{before}{separator}{key}"
            return lambda key: separator.join([str(source.lookup)] * max(index, 0) + [str(key), "x"])
    return None


def constant(value: Any) -> Maker:
    return lambda ordinal, stamp: value


def stamped(form: stamps.Form) -> Maker:
    return lambda ordinal, stamp: form.write(stamp)


def numbered(form: keys.KeyForm) -> Maker:
    return lambda ordinal, stamp: form.write(ordinal)


def key_part(key: keys.Composite, index: int) -> Maker:
    if len(key.parts) == 1:
        return numbered(key.parts[0])
    part = key.parts[index]
    return lambda ordinal, stamp: part.write(key.digit(ordinal, index))


def now_and_then(mix: Callable[[int], int], rare: Maker, usual: Maker) -> Maker:
    return lambda ordinal, stamp: (rare if mix(ordinal) % SKIPPED_EVERY == 0 else usual)(ordinal, stamp)


def tree_of(makers: dict[Path, Maker]) -> Tree:
    """Makers nested as the record is; a leaf where deeper paths exist gives way to them."""
    tree: Tree = {}
    for path in sorted(makers, key=lambda path: len(path.parts)):
        put(tree, path.parts, makers[path])
    return tree


def maker_of(tree: Tree) -> Maker:
    """One maker for a whole object, or for a list where all keys are indexes."""
    inner = [(key, maker_of(value) if isinstance(value, dict) else value) for key, value in tree.items()]
    if inner and all(key.isdecimal() for key, _ in inner):
        return lambda ordinal, stamp: [make(ordinal, stamp) for _, make in inner]
    return lambda ordinal, stamp: {key: make(ordinal, stamp) for key, make in inner}


def put(document: Tree, parts: Sequence[str], value: Any) -> None:
    """Sets a value inside nested objects, making them on the way, and through lists that are already there."""
    place: Any = document
    for part in parts[:-1]:
        inner = place[int(part)] if isinstance(place, list) else place.get(part)
        if not isinstance(inner, dict | list):
            inner = {}
            place[part] = inner
        place = inner
    if isinstance(place, list):
        place[int(parts[-1])] = value
    else:
        place[parts[-1]] = value
