"""Writing back: only what the map can run backwards, and only with a way to the record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.mapping import NOT_INVERTIBLE, MapField, time_argument
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.refusals.checked import Checked, Told, refusal
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.wording import did_you_mean
from integrations_pipeline.spec.write import Write
from integrations_pipeline.spec.yaml_text import KeyPath


def writes(c: Checked) -> Iterator[tuple[KeyPath, Stream, Write]]:
    for name, stream in c.streams.items():
        if stream.write is not None:
            yield ("streams", name, "write"), stream, stream.write


@refusal
def unmapped_write(c: Checked) -> Told:
    for path, stream, write in writes(c):
        mapped = stream.map.fields if stream.map else {}
        for index, field in enumerate(write.fields):
            if field not in mapped:
                hint = did_you_mean(field, mapped)
                yield (*path, "fields", index), f"a field of this stream's `map` was expected, not {field}{hint}"


@refusal
def one_way_field(c: Checked) -> Told:
    for path, stream, write in writes(c):
        kind = c.kinds.get(stream.map.to) if stream.map else None
        for index, name in enumerate(write.fields):
            if why := why_not_back(name, stream, kind):
                yield (*path, "fields", index), f"a field that can be written back was expected: {name} {why}"


def why_not_back(name: str, stream: Stream, kind: Kind | None) -> str | None:
    """Why a canonical field can't be written to the source, or None. ``kind``: where it is known."""
    field = stream.map.fields.get(name) if stream.map else None
    if field is None:
        return None
    return why_one_way(field) or why_not_in_record(field, stream) or why_ambiguous(name, field, stream, kind)


def why_one_way(field: MapField) -> str | None:
    """Why a canonical value can't become the source's value again, or None."""
    for source in ("join", "first"):
        if getattr(field, source) is not None:
            return f"uses {source}: {NOT_INVERTIBLE[source]}"
    if field.from_ is None:
        return "is a fixed value"
    if field.where is not None:
        return "is one item of a list"
    for transform in field.apply:
        if transform.name in NOT_INVERTIBLE:
            return f"uses {transform.name}: {NOT_INVERTIBLE[transform.name]}"
        formats = time_argument(transform.argument)[0] if transform.name in TIMES and transform.argument else None
        if formats and not holds_day(formats[0]):
            return f"uses {transform.name}: a time written as {formats[0]} doesn't name its day"
    return None


def why_ambiguous(name: str, field: MapField, stream: Stream, kind: Kind | None) -> str | None:
    """Two values of theirs for one of ours, or two of our fields for one of theirs."""
    target = kind.fields.get(name) if kind else None
    plain = target is not None and target.type == "string"
    given = [*(field.values or {}).values(), *([field.else_] if "else_" in field.model_fields_set else [])]
    ours = [str(our) if plain and not isinstance(our, bool) else repr(our) for our in given]
    twice = next((our for our, again in zip(given, ours, strict=True) if ours.count(again) > 1), MISSING)
    if twice is not MISSING:
        return f"has several values that become {twice!r}, `else` counted: it isn't known which to send"
    declared = stream.fields.get(str(field.from_))
    form = first_format(declared.formats) if declared else "iso"
    if declared and declared.type in TIMES and not holds_day(form):
        return f"comes from {field.from_}: a time written as {form} doesn't name its day"
    return why_shared(name, field, stream) or why_no_currency(field, stream)


def why_shared(name: str, field: MapField, stream: Stream) -> str | None:
    """Two fields can't both say what stands at a path, or inside it."""
    assert field.from_ is not None and stream.map is not None and stream.write is not None
    parts = field.from_.parts
    for other in stream.write.fields[: stream.write.fields.index(name)]:
        source = stream.map.fields[other].from_ if other in stream.map.fields else None
        if source is not None and source.parts[: len(parts)] == parts[: len(source.parts)]:
            return f"comes from {field.from_}, which {other} writes already"
    return None


def why_no_currency(field: MapField, stream: Stream) -> str | None:
    """A new record has no currency but the one that is sent with it."""
    assert stream.map is not None and stream.write is not None
    if not stream.write.creates:
        return None
    sent = {str(stream.map.fields[one].from_) for one in stream.write.fields if one in stream.map.fields}
    for transform in field.apply:
        path = transform.argument
        if transform.name == "minor_units" and isinstance(path, str) and path not in {*sent, *stream.write.set}:
            return f"uses minor_units: a new record's {path} isn't known, write or `set` it too"
    return None


TIMES = ("timestamp", "date")
SAMPLE = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)


def first_format(formats: list[str] | None) -> str:
    """The one that is written."""
    return formats[0] if formats else "iso"


def holds_day(form: str) -> bool:
    """Whether a time written so can be read with its year, month and day."""
    if "%" not in form:
        return True
    try:
        return datetime.strptime(SAMPLE.strftime(form), form).date() == SAMPLE.date()
    except ValueError:
        return False


def why_not_in_record(field: MapField, stream: Stream) -> str | None:
    parts = field.from_.parts if field.from_ else ()
    rows = stream.rows
    if not parts or any(part.lstrip("-").isdecimal() for part in parts):
        return f"comes from {field.from_}, which is no key of an object"
    if parts[0] in {*rows.include, *(rows.keyed_by or ()), rows.value}:
        return f"comes from {field.from_}, which lies around the record, not in it"
    return None


@refusal
def no_way_to_the_id(c: Checked) -> Told:
    for path, _, write in writes(c):
        for key in ("update", "delete"):
            call = getattr(write, key)
            if call is None:
                continue
            named = names_in([call.request, call.query, call.headers, call.body, call.set, write.set])
            if not any(name == "external_id" or name.startswith(("key.", "record.")) for name in named):
                yield (*path, key), "<external_id>, <key.…> or <record.…> was expected: which record is meant?"


@refusal
def unknown_conflict_field(c: Checked) -> Told:
    for path, _, write in writes(c):
        for name in write.conflict:
            if name != "default" and name not in write.fields:
                hint = did_you_mean(name, write.fields)
                yield (*path, "conflict", name), f"default or a field of `write.fields` was expected, not {name}{hint}"


@refusal
def unknown_create_field(c: Checked) -> Told:
    for path, stream, write in writes(c):
        kind = c.kinds.get(stream.map.to) if stream.map else None
        if write.create_when is None or kind is None:
            continue
        for tested, _ in write.create_when.tests:
            if str(tested) not in kind.fields:
                hint = did_you_mean(tested, kind.fields)
                yield (*path, "create_when"), f"a field of {kind.kind} was expected, not {tested}{hint}"


@refusal
def upsert_by_an_unknown_id(c: Checked) -> Told:
    """It also creates where there is no `create`, and a new record has no id yet."""
    for path, _, write in writes(c):
        call = write.upsert
        if call is None or write.create is not None:
            continue
        for name in names_in([call.request, call.query, call.headers, call.body]):
            if name == "external_id" or name.startswith(("key.", "record.")):
                yield (
                    (*path, "upsert"),
                    f"what a new record has was expected (<reference>, <fields.…>), not <{name}>; or a `create`",
                )


@refusal
def reread_without_get(c: Checked) -> Told:
    for path, stream, write in writes(c):
        if write.answer == "reread" and stream.get is None:
            yield (*path, "answer"), "a `get` in this stream was expected: `reread` asks by it"


@refusal
def find_of_anything(c: Checked) -> Told:
    """A search that doesn't say what for would take any record for the one that was lost."""
    for path, _, write in writes(c):
        find = write.find
        if find is None or find.match is not None:
            continue
        named = names_in([find.request, find.query, find.headers, find.body])
        if not any(name == "reference" or name.startswith("fields.") for name in named):
            yield (*path, "find"), "<reference>, <fields.…> or `match` was expected: which record is looked for?"


@refusal
def match_of_nothing(c: Checked) -> Told:
    """Where no create sends the reference, none is ever found by it, and each lost one would be made again."""
    for path, _, write in writes(c):
        if write.find is None or write.find.match is None:
            continue
        batch = write.batch
        calls = [write.create, write.upsert, *([batch.create, batch.upsert] if batch else [])]
        sent: list[Any] = [write.set, batch and [batch.set, batch.body]]
        sent += [[one.request, one.query, one.headers, one.body, getattr(one, "set", None)] for one in calls if one]
        if "reference" not in names_in(sent):
            yield (*path, "find", "match"), "a create that sends <reference> was expected: nothing holds it otherwise"


@refusal
def misplaced_key(c: Checked) -> Told:
    for path, _, write in writes(c):
        if write.idempotency is not None and write.idempotency.send.kind in ("url", "spread"):
            yield (*path, "idempotency", "send"), "a header, a query parameter or a place in the body was expected"


@refusal
def batch_without_items(c: Checked) -> Told:
    for path, _, write in writes(c):
        batch = write.batch
        for key in ("create", "update", "upsert") if batch is not None else ():
            call = getattr(batch, key)
            body = None if call is None or batch is None else batch.body if call.body is None else call.body
            if body is not None and "items" not in names_in(body):
                yield (*path, "batch", key), "<items> was expected in the body: the changes stand there"
