"""Writing back: only what the map can run backwards, and only with a way to the record."""

from __future__ import annotations

from collections.abc import Iterator

from integrations_pipeline.spec.mapping import NOT_INVERTIBLE, MapField
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
        for index, name in enumerate(write.fields):
            field = stream.map.fields.get(name) if stream.map else None
            reason = why_one_way(field, stream) if field else None
            if reason:
                yield (*path, "fields", index), f"a field that can be written back was expected: {name} {reason}"


def why_one_way(field: MapField, stream: Stream) -> str | None:
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
    ours = [repr(value) for value in (field.values or {}).values()]
    twice = next((value for value in ours if ours.count(value) > 1), None)
    if twice is not None:
        return f"has several values that become {twice}: it isn't known which to send"
    return why_not_in_record(field, stream)


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
