"""A stream's `map` block, compiled once: raw records become canonical ones, and the same steps explain themselves.

Each field is a source (what stands in the record) and a chain of named steps: transforms, `values`, the kind's type
and rules. ``apply`` and ``explain`` run the same chain, so what is told is what is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from integrations_pipeline.mapping.compiling import PLAIN, Field, write_out
from integrations_pipeline.mapping.kinds import converter, rules
from integrations_pipeline.mapping.transforms import TRANSFORMS, Step, as_text, is_blank
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import as_stored, encode
from integrations_pipeline.spec.errors import ConfigError, DataError
from integrations_pipeline.spec.fields import Field as Declared
from integrations_pipeline.spec.mapping import Map, MapField
from integrations_pipeline.spec.paths import MISSING, WHOLE, Getter, Path, getter, parse_path
from integrations_pipeline.spec.reasons import Reason, reason
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.values import kind_of, parser

VERSION = 1
"""Raised whenever the same map could give another outcome: a transform, a table of codes, a conversion changed."""

TIMES = ("timestamp", "date")


class Mapped(NamedTuple):
    """One canonical record. A field with a problem is None; one problem is enough for quarantine."""

    values: dict[str, Any]
    references: dict[str, str]
    problems: list[Reason]


class StepStory(NamedTuple):
    """One step of a field: what went in and what came out; with a problem nothing came out."""

    rule: str
    before: Any
    after: Any


@dataclass
class FieldStory:
    """How one canonical field was made, from the raw values at its paths to the result or the problem."""

    field: str
    sources: list[tuple[str, Any]]
    steps: list[StepStory] = dataclasses.field(default_factory=list)
    value: Any = None
    reference: str | None = None
    problem: Reason | None = None


class NamedStep(NamedTuple):
    """``on_null``: also runs where there is nothing (`default`, `required`)."""

    rule: str
    run: Step
    on_null: bool = False


class Source(NamedTuple):
    """One path of the record, and how the boundary's declared type reads it where the kind wants a time."""

    path: Path
    get: Getter
    parse: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class Chain:
    """One compiled field. ``read`` gives the value the steps start from; it may raise ValueError like a step."""

    name: str
    rule: str
    sources: tuple[Source, ...]
    read: Getter
    steps: tuple[NamedStep, ...]
    looks_up: bool


class Mapping:
    """The `map` of one stream, for records of one kind. Raises ConfigError where map and kind don't fit.

    ``fields``: canonical names. ``references``: field → the stream it looks up. ``digest``: changes whenever the
    outcome could, so that what was shaped with another one is shaped again.
    """

    def __init__(self, stream: Stream, kind: Kind):
        if stream.map is None:
            raise ConfigError("the stream has no `map`")
        self.kind = kind.kind
        self.fields: tuple[str, ...] = tuple(stream.map.fields)
        self.references: dict[str, str] = {n: f.lookup for n, f in stream.map.fields.items() if f.lookup}
        self.digest = digest_of(stream, stream.map, kind)
        self._match = stream.map.match
        declared = {parse_path(path).parts: one for path, one in stream.fields.items()}
        self._chains = tuple(compile_field(n, f, kind_field(kind, n), declared) for n, f in stream.map.fields.items())
        self._values = write_out([Field(chain.name, key_of(chain), chain.read, chain.steps) for chain in self._chains])

    def apply(self, payload: Any) -> Mapped:
        """The canonical record of a raw one. Total: whatever the payload holds, what can't be done is a problem."""
        values, bad = self._values(payload)
        references = {name: values[name] for name in self.references if values[name] is not None}
        for name in references:
            values[name] = None
        told = (explain_field(self._chains[number], payload).problem for number in bad)
        return Mapped(values, references, [one for one in told if one is not None])

    def explain(self, payload: Any) -> list[FieldStory]:
        """The same as ``apply``, told field by field."""
        return [explain_field(chain, payload) for chain in self._chains]

    def match_keys(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        """The keys an existing record may be found by, in the declared order: those without a null or blank part."""
        keys = ({name: values.get(name) for name in names} for names in self._match)
        return [key for key in keys if not any(is_blank(value) for value in key.values())]


def kind_field(kind: Kind, name: str) -> Declared:
    if name not in kind.fields:
        raise ConfigError(f"map.fields.{name}: the kind {kind.kind} has no such field ({', '.join(kind.fields)})")
    return kind.fields[name]


def explain_field(chain: Chain, payload: Any) -> FieldStory:
    raw = [raw_value(source, payload) for source in chain.sources]
    story = FieldStory(chain.name, [(str(source.path), one) for source, one in zip(chain.sources, raw, strict=True)])
    rule, value = chain.rule, None
    try:
        value = chain.read(payload)
        if len(raw) != 1 or value is not raw[0]:
            story.steps.append(StepStory(rule, raw, value))
        for rule, run, on_null in chain.steps:
            if value is not None or on_null:
                before, value = value, run(value, payload)
                story.steps.append(StepStory(rule, before, value))
    except (ValueError, ArithmeticError) as error:
        story.steps.append(StepStory(rule, value, None))
        story.problem = problem(chain, rule, error, payload)
        return story
    story.value, story.reference = (None, value) if chain.looks_up else (value, None)
    return story


def problem(chain: Chain, rule: str, error: Exception, payload: Any) -> Reason:
    """A reason for quarantine: which rule refused which field, why, and what the source had there."""
    raw = [raw_value(source, payload) for source in chain.sources]
    message = str(error) if isinstance(error, ValueError) else "a number or time past what its type can hold"
    return reason(rule, chain.name, message, raw[0] if len(raw) == 1 else raw)


def raw_value(source: Source, payload: Any) -> Any:
    """As the source gave it; null where nothing is there."""
    return None if (value := source.get(payload)) is MISSING else value


def compile_field(name: str, spec: MapField, target: Declared, declared: dict[tuple[str, ...], Declared]) -> Chain:
    """One field's chain. ``declared``: the stream's own fields by path."""
    typed = reads_times(spec, target)
    sources = tuple(compile_source(path, declared if typed else {}) for path in paths_of(spec))
    rule, read = reader(spec, sources)
    steps = [*item_steps(spec), *transform_steps(spec), *value_steps(name, spec)]
    if spec.lookup:
        steps.append(NamedStep("lookup", external_id))
    else:
        steps.append(NamedStep("type", converter(target)))
        steps += [NamedStep(*one) for one in rules(target)]
    if spec.required or target.required:
        steps.append(NamedStep("required", required, on_null=True))
    return Chain(name, rule, sources, read, tuple(steps), bool(spec.lookup))


def paths_of(spec: MapField) -> Iterable[Path]:
    return [spec.from_] if spec.from_ is not None else spec.first or spec.join or []


def reads_times(spec: MapField, target: Declared) -> bool:
    """Whether raw times are read as the boundary declares them, before the first step: not where that takes text."""
    text_first = bool(spec.apply) and TRANSFORMS[spec.apply[0].name].takes == "text"
    return target.type in TIMES and not text_first and spec.join is None and spec.where is None


def compile_source(path: Path, declared: dict[tuple[str, ...], Declared]) -> Source:
    found = declared.get(path.parts)
    parse = parser(found) if found is not None and found.type in TIMES else None
    return Source(path, stored_getter(path), parse)


def key_of(chain: Chain) -> str | None:
    """The record's own key that a field starts from, as it is; None where more is to be done."""
    (path, _, parse), *others = chain.sources or (Source(WHOLE, getter(WHOLE), None),)
    plain = chain.rule == "from" and not others and parse is None and len(path.parts) == 1
    return path.parts[0] if plain and not path.parts[0].lstrip("-").isdecimal() else None


def stored_getter(path: Path) -> Getter:
    """Reads a record just fetched as it will be read from the database."""
    get = getter(path)
    return lambda record: value if type(value := get(record)) in PLAIN else as_stored(value)


def reader(spec: MapField, sources: tuple[Source, ...]) -> tuple[str, Getter]:
    """The name and the function of what a field starts from."""
    if spec.from_ is not None:
        return "from", read_one(sources[0])
    if spec.first is not None:
        return "first", read_first(sources)
    if spec.join is not None:
        return "join", read_joined(sources, spec.with_)
    constant = spec.value
    return "value", lambda _: constant


def read_one(source: Source) -> Getter:
    """The value at a path; null where there is none."""
    get, parse = source.get, source.parse
    if parse is not None:
        return lambda record: None if (value := get(record)) is MISSING else parse(value)
    return lambda record: None if (value := get(record)) is MISSING else value


def read_first(sources: tuple[Source, ...]) -> Getter:
    """The first value that isn't null, missing or blank text."""

    def read(record: Any) -> Any:
        for source in sources:
            value = source.get(record)
            if not is_blank(value):
                return source.parse(value) if source.parse else value
        return None

    return read


def read_joined(sources: tuple[Source, ...], separator: str) -> Getter:
    """The texts that aren't null, missing or blank, with the separator between them; null where none is left."""

    getters = [getter(source.path) for source in sources]

    def read(record: Any) -> str | None:
        texts = []
        for get in getters:
            value = get(record)
            if type(value) is not str:
                value = "" if is_blank(value) else as_text(as_stored(value))
            if value and not value.isspace():
                texts.append(value)
        return separator.join(texts) or None

    return read


def item_steps(spec: MapField) -> list[NamedStep]:
    """`where` and `take`: the first item of a list that meets the condition, and what stands in it."""
    if spec.where is None or spec.take is None:
        return []
    where, take = spec.where, getter(spec.take)

    def step(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"{kind_of(value)}, not a list")
        found = next((take(item) for item in value if where.holds(item)), None)
        return None if found is MISSING else found

    return [NamedStep("where", step)]


def transform_steps(spec: MapField) -> list[NamedStep]:
    return [
        NamedStep(one.name, TRANSFORMS[one.name].compile(one.argument), one.name == "default") for one in spec.apply
    ]


def value_steps(name: str, spec: MapField) -> list[NamedStep]:
    """`values`: theirs → ours, else `else`, else a problem. 1 and true are two values, null stays null."""
    if spec.values is None:
        return []
    ours = {(type(theirs) is bool, theirs): our for theirs, our in spec.values.items()}
    words = {theirs: our for theirs, our in spec.values.items() if type(theirs) is str}
    fallback = spec.else_ if "else_" in spec.model_fields_set else MISSING

    def step(value: Any, _: Any) -> Any:
        kind = type(value)
        if kind is str:
            our = words.get(value, fallback)
        else:
            our = fallback if kind is list or kind is dict else ours.get((kind is bool, value), fallback)
        if our is not MISSING:
            return our
        raise ValueError(f"no value of ours is declared for {kind_of(value)}, and no `else`")

    return [NamedStep("values", step)]


def external_id(value: Any, _: Any) -> str | None:
    """The key as the boundary writes it: text as it is, an integer's digits, a composite key as a compact list."""
    if not isinstance(value, list):
        text = as_text(value)
        return text if text.strip() else None
    for part in value:
        as_text(part)
    try:
        return encode(value).decode() if value else None
    except DataError as error:
        raise ValueError(error.what) from None


def required(value: Any, _: Any) -> Any:
    if is_blank(value):
        raise ValueError("nothing is there, and the field is required")
    return value


def digest_of(stream: Stream, mapping: Map, kind: Kind) -> str:
    """Of all that decides the outcome; the order of fields and their descriptions don't."""
    parts = (
        VERSION,
        mapping.to,
        mapping.match,
        sorted((name, repr(one.model_dump(exclude_unset=True))) for name, one in mapping.fields.items()),
        sorted((path, repr(one.model_dump(exclude={"description"}))) for path, one in stream.fields.items()),
        sorted((name, repr(one.model_dump(exclude={"description"}))) for name, one in kind.fields.items()),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
