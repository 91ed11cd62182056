"""A stream's `map` run backwards, for `write.fields`: canonical values become the source's own again.

Forwards and backwards are held together by one property: what is written reads as what it was written from. Normalisers
write the value as it is, since the source accepts that form too; a time is cut to what its format holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from integrations_pipeline.mapping.forms import FORMS, TYPED
from integrations_pipeline.mapping.mapping import compile_field, kind_field, reads_times
from integrations_pipeline.mapping.transforms import exponent_of
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import as_stored, decode, encode
from integrations_pipeline.spec.errors import ConfigError, DataError
from integrations_pipeline.spec.fields import Field as Declared
from integrations_pipeline.spec.mapping import MapField, time_argument
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.refusals.writes import first_format, why_not_back
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.values import EPOCH, kind_of, parse_decimal, parse_integer

Around = Callable[[Path], Any]
"""What will stand at a path of the record after the write, as far as it is known."""

Undo = Callable[[Any, Around], Any]
"""One step back: (value, what stands around it) → the value before that step. Raises ValueError."""


@dataclass(frozen=True)
class Payload:
    """``body``: what ``<fields>`` holds, nested under the source's own paths. ``left_out``: field → why it stays."""

    body: dict[str, Any]
    left_out: dict[str, str]


class Backwards:
    """The way back of one stream's `write.fields`. Raises ConfigError where a field can't be written back.

    ``fields``: `write.fields`. ``references``: field → the stream with whose external ids it is written.
    """

    def __init__(self, stream: Stream, kind: Kind):
        if stream.map is None or stream.write is None:
            raise ConfigError("the stream has no `map`, or no `write`")
        self.fields: tuple[str, ...] = tuple(stream.write.fields)
        for name in self.fields:
            if why := why_not_back(name, stream, kind):
                raise ConfigError(f"write.fields: {name} {why}")
        mapped = stream.map.fields
        self.references: dict[str, str] = {n: looked for n in self.fields if (looked := mapped[n].lookup)}
        declared = {parse_path(path).parts: one for path, one in stream.fields.items()}
        ways = [way_of(name, mapped[name], kind_field(kind, name), declared) for name in self.fields]
        self._ways = sorted(ways, key=lambda way: way.needs_others)
        self._replaces = stream.write.replaces("update")
        self._set = {parse_path(path): value for path, value in stream.write.set.items()}

    def payload(self, values: Mapping[str, Any], record: Any = None) -> Payload:
        """What is sent for these canonical values, given in base form; ``record``: the source's own, as last known.

        What is left out of a PUT stands there as the source has it, since it would be emptied otherwise. Raises
        DataError where a value has no form at the source: an amount finer than its unit, a year past the format.
        """
        body: dict[str, Any] = {}
        left_out: dict[str, str] = {}

        def around(path: Path) -> Any:
            found = path.get(body)
            found = path.get(record) if found is MISSING else found
            return self._set.get(path, MISSING) if found is MISSING else found

        for way in self._ways:
            if way.name not in values:
                continue
            try:
                way.path.put(body, way.back(values[way.name], around))
            except LeftOut as left:
                left_out[way.name] = str(left)
                if self._replaces and (kept := way.path.get(record)) is not MISSING:
                    way.path.put(body, kept)
            except (ValueError, ArithmeticError) as error:
                raise DataError(f"{way.name} can't be written: {error}", next="correct the value") from None
        return Payload(body, left_out)


class LeftOut(Exception):
    """A value that isn't sent, with the reason."""


class Ours(NamedTuple):
    """`values` backwards: encoded base form → theirs; ``other``: the base form of `else`, MISSING without one."""

    theirs: dict[bytes, Any]
    other: Any

    def back(self, form: Any) -> Any:
        found = self.theirs.get(encode(form), MISSING)
        if found is not MISSING:
            return found
        if self.other is not MISSING and encode(form) == encode(self.other):
            raise LeftOut(f"{said(form)} stands for all that has no value of ours (`else`): it isn't sent")
        if form is None:
            return None
        raise LeftOut(f"no value of theirs is declared for {said(form)} under `values`")


@dataclass(frozen=True)
class Way:
    """One field's way back. ``typed`` makes a value of the kind's type of a base form; ``steps`` undo the chain."""

    name: str
    path: Path
    values: Ours | None
    typed: Callable[[Any], Any]
    steps: tuple[Undo, ...]
    written: Callable[[Any], Any]
    needs_others: bool

    def back(self, form: Any, around: Around) -> Any:
        value = self.values.back(form) if self.values else None if form is None else self.typed(form)
        for step in self.steps:
            value = None if value is None else step(value, around)
        return None if value is None else self.written(value)


def said(form: Any) -> str:
    return "null" if form is None else repr(form)


def way_of(name: str, spec: MapField, target: Declared, declared: dict[tuple[str, ...], Declared]) -> Way:
    """``declared``: the stream's own fields by path."""
    assert spec.from_ is not None
    theirs = declared.get(spec.from_.parts)
    is_parsed = reads_times(spec, target) and theirs is not None and theirs.type in ("timestamp", "date")
    parsed = theirs if is_parsed else None
    steps = [UNDO[one.name](one.argument, theirs, parsed) for one in reversed(spec.apply) if one.name in UNDO]
    return Way(
        name,
        spec.from_,
        ours_of(name, spec, target, declared) if spec.values is not None else None,
        reference_form(theirs) if spec.lookup else TYPED.get(target.type, as_it_is),
        tuple(steps),
        writer(theirs, parsed, target),
        any(one.name == "minor_units" and isinstance(one.argument, str) for one in spec.apply),
    )


def as_it_is(value: Any) -> Any:
    return value


def reference_form(theirs: Declared | None) -> Callable[[Any], Any]:
    """A composite key is a list in the record, and its JSON text as an external id. Another form than text is of a
    record that isn't there yet."""
    composite = theirs is not None and theirs.type == "json"

    def external(key: Any) -> Any:
        if not isinstance(key, str):
            raise ValueError("the record it points to has no id there yet")
        return decode(key.encode()) if composite else key

    return external


def ours_of(name: str, spec: MapField, target: Declared, declared: dict[tuple[str, ...], Declared]) -> Ours:
    """Each of our values in the form it has behind the rest of the chain; what the kind refuses never comes."""
    steps = compile_field(name, spec, target, declared).steps
    rest = steps[[step.rule for step in steps].index("values") + 1 :]
    base = as_it_is if spec.lookup else FORMS.get(target.type, as_it_is)

    def form_of(value: Any) -> Any:
        for _, run, on_null in rest:
            value = run(value, None) if value is not None or on_null else None
        return None if value is None else base(value)

    theirs: dict[bytes, Any] = {}
    for their, our in forms(spec.values or {}, form_of):
        if theirs.setdefault(encode(our), their) is not their:
            raise ConfigError(f"write.fields: {name} has several values that become {said(our)}")
    other = list(forms({MISSING: spec.else_}, form_of)) if "else_" in spec.model_fields_set else []
    if other and encode(other[0][1]) in theirs:
        raise ConfigError(f"write.fields: {name} has an `else` that is also the value {said(other[0][1])}")
    return Ours(theirs, other[0][1] if other else MISSING)


def forms(values: Mapping[Any, Any], form_of: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    for their, our in values.items():
        try:
            yield their, form_of(our)
        except (ValueError, ArithmeticError):
            continue


# Transforms that are undone; all others pass a value on as it is.


def undo_decimal_comma(_: Any, theirs: Declared | None, __: Declared | None) -> Undo:
    """Numbers pass the transform as they are, so a source that declares one gets one."""
    if theirs is not None and theirs.type in ("integer", "decimal"):
        return lambda value, _: value
    return lambda value, _: format(parse_decimal(value), "f").replace(".", ",")


def undo_minor_units(argument: int | str, _: Any, __: Any) -> Undo:
    if isinstance(argument, int):
        return lambda value, _: units_of(value, argument)
    path = parse_path(argument)
    return lambda value, around: units_of(value, exponent_of(around(path)))


def units_of(value: Any, exponent: int) -> int:
    """Exact: arithmetic would round to the 28 digits of its context."""
    amount = parse_decimal(value)
    sign, digits, point = amount.as_tuple()
    try:
        return parse_integer(Decimal((sign, digits, int(point) + exponent)))
    except ValueError:
        raise ValueError(f"{amount} is finer than the smallest unit ({exponent} digits)") from None


def undo_timestamp(argument: Any, _: Any, parsed: Declared | None) -> Undo:
    """A time that the boundary's declaration read is written by that too: the transform only passed it on."""
    if parsed is not None:
        return lambda value, _: value
    formats, zone = time_argument(argument) if argument is not None else (None, None)
    form = first_format(formats)
    return lambda value, _: written_moment(as_moment(value), form, zone)


def undo_date(argument: Any, _: Any, parsed: Declared | None) -> Undo:
    formats, zone = time_argument(argument) if argument is not None else (None, None)
    if parsed is not None:
        return lambda value, _: value if parsed.type == "date" else midnight(as_day(value), zone)
    form = first_format(formats)
    return lambda value, _: written_day(as_day(value), form, zone)


UNDO: dict[str, Callable[[Any, Declared | None, Declared | None], Undo]] = {
    "decimal_comma": undo_decimal_comma,
    "minor_units": undo_minor_units,
    "timestamp": undo_timestamp,
    "date": undo_date,
}


def as_moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def as_day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)


def midnight(day: date, zone: str | None) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone or "UTC"))


def written_day(day: date, form: str, zone: str | None) -> Any:
    return day.isoformat() if form == "iso" else written_moment(midnight(day, zone), form, zone)


def written_moment(moment: datetime, form: str, zone: str | None) -> Any:
    """In the format, cut to what it holds; ISO with the zone's offset, so that it means one moment to everybody."""
    local = moment.astimezone(ZoneInfo(zone) if zone else UTC)
    if form in ("unix", "unix_ms"):
        return (moment - EPOCH) // timedelta(seconds=1 if form == "unix" else 0.001)
    if form == "iso":
        return iso(local)
    text = local.strftime(form.replace("%Y", f"{local.year:04d}"))
    back = datetime.strptime(text, form)
    back = back if back.tzinfo else back.replace(tzinfo=local.tzinfo)
    if abs(back - local) >= timedelta(days=1):
        raise ValueError(f"{moment.date()} doesn't fit the form {form}")
    return text


def iso(moment: datetime) -> str:
    """As short as it is exact."""
    spec = "seconds" if not moment.microsecond else "milliseconds" if not moment.microsecond % 1000 else "microseconds"
    text = moment.isoformat(timespec=spec)
    return f"{text[:-6]}Z" if moment.tzinfo is UTC else text


# The last step: the type that the source's own `fields` declare.


def writer(theirs: Declared | None, parsed: Declared | None, target: Declared) -> Callable[[Any], Any]:
    """Into the declared type; without one as JSON has it. Times that no transform has written: by ``parsed``, which
    read them, else as the kind declares."""
    finish = WRITTEN.get(theirs.type if theirs else "", number_or_other)
    return lambda value: finish(written_time(value, parsed or target) if isinstance(value, date) else value)


def written_time(value: date, by: Declared) -> Any:
    form = first_format(by.formats)
    if by.type == "date":
        return written_day(value.date() if isinstance(value, datetime) else value, form, None)
    return written_moment(value if isinstance(value, datetime) else midnight(value, by.zone), form, by.zone)


def to_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        raise ValueError(f"{kind_of(value)}, and the source takes text")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def to_integer(value: Any) -> int:
    return int(value) if isinstance(value, bool) else parse_integer(value)


def number_or_other(value: Any) -> Any:
    return as_stored(value) if isinstance(value, Decimal) else value


WRITTEN: dict[str, Callable[[Any], Any]] = {
    "string": to_text,
    "integer": to_integer,
    "decimal": lambda value: as_stored(parse_decimal(value)),
    "boolean": lambda value: value,
}
