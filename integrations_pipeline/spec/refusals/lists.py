"""Reading: pagination, cursors, full refreshes, keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.auth import ApiKey
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.pagination import Offset, PageNumber, Pagination
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.refusals.checked import Checked, Told, refusal
from integrations_pipeline.spec.streams import Count, Stream, StreamCursor
from integrations_pipeline.spec.yaml_text import KeyPath

FORMATS = ("iso", "date", "unix", "unix_ms")


def cursors(c: Checked) -> Iterator[tuple[KeyPath, Stream, StreamCursor]]:
    for name, stream in c.streams.items():
        if stream.cursor is not None:
            yield ("streams", name, "cursor"), stream, stream.cursor


def request_of(stream: Stream) -> list[Any]:
    return [stream.request, stream.query, stream.headers, stream.body]


def asks_in_request(stream: Stream) -> bool:
    """Whether the list is narrowed by ``<cursor>`` in the request itself."""
    return any(name in ("cursor", "cursor.end") for name in names_in(request_of(stream)))


def pagination_of(c: Checked, stream: Stream) -> Pagination | None:
    return stream.pagination or (c.api.pagination if c.api else None)


@refusal
def missing_pagination(c: Checked) -> Told:
    for name, stream in c.streams.items():
        if c.api and stream.request and stream.records and pagination_of(c, stream) is None:
            yield ("streams", name), "`pagination` was expected here or under `api` (for one page: {type: single_page})"


@refusal
def sent_twice_by_cursor(c: Checked) -> Told:
    for path, stream, cursor in cursors(c):
        if cursor.send is not None and asks_in_request(stream):
            yield (*path, "send"), "either `send` or <cursor> in the request was expected, not both"


@refusal
def no_start(c: Checked) -> Told:
    for path, stream, cursor in cursors(c):
        if cursor.start is None and asks_in_request(stream):
            yield path, "`start` was expected: <cursor> needs a value for the first sync"


@refusal
def feed_without_start(c: Checked) -> Told:
    for name, stream in c.streams.items():
        feed = stream.deletes.feed if stream.deletes else None
        if feed is None or (feed.cursor is not None and feed.cursor.start is not None):
            continue
        call = feed.call
        if {"cursor", "cursor.end"} & set(names_in([call.request, call.query, call.headers, call.body])):
            yield (
                ("streams", name, "deletes", "feed"),
                "a `cursor` with `start` was expected: <cursor> needs a value for the first sync",
            )


@refusal
def step_without_start(c: Checked) -> Told:
    for path, _, cursor in cursors(c):
        if cursor.step is not None and cursor.start is None:
            yield (*path, "step"), "`start` was expected too: windows begin somewhere"


@refusal
def step_through_no_time(c: Checked) -> Told:
    for path, stream, cursor in cursors(c):
        declared = stream.fields.get(str(cursor.field)) if cursor.field else None
        if cursor.step is not None and declared and declared.type not in ("timestamp", "date"):
            yield (*path, "step"), f"no step was expected: {cursor.field} is of type {declared.type}, not a time"


@refusal
def opaque_with_values(c: Checked) -> Told:
    for path, _, cursor in cursors(c):
        if cursor.read is None:
            continue
        for key in ("format", "start", "step", "send_end"):
            if getattr(cursor, key) is not None:
                yield (*path, key), f"a cursor with `field` was expected: an opaque one (`read`) has no {key}"


@refusal
def kept_without_read(c: Checked) -> Told:
    for path, _, cursor in cursors(c):
        if cursor.read is None and "keep" in cursor.model_fields_set:
            yield (*path, "keep"), "a cursor with `read` was expected: `keep` says which page's value is kept"


@refusal
def unknown_format(c: Checked) -> Told:
    for path, _, cursor in cursors(c):
        if cursor.format is not None and cursor.format not in FORMATS and "%" not in cursor.format:
            yield (
                (*path, "format"),
                f"iso, date, unix, unix_ms or a pattern like %Y-%m-%d was expected, not {cursor.format!r}",
            )


@refusal
def unfit_format(c: Checked) -> Told:
    for path, stream, cursor in cursors(c):
        declared = stream.fields.get(str(cursor.field)) if cursor.field else None
        if cursor.format is not None and declared and declared.type not in ("timestamp", "date"):
            yield (*path, "format"), f"no format was expected: {cursor.field} is of type {declared.type}, not a time"


@refusal
def unfit_start(c: Checked) -> Told:
    for path, stream, cursor in cursors(c):
        declared = stream.fields.get(str(cursor.field)) if cursor.field else None
        timed = cursor.format in FORMATS or (declared is not None and declared.type in ("timestamp", "date"))
        if cursor.start is not None and timed and not is_time(cursor.start):
            yield (*path, "start"), f"an ISO date or time like 2024-01-01 was expected, not {cursor.start!r}"


def is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(date.fromisoformat(value[:10]) and datetime.fromisoformat(value))
    except ValueError:
        return False


@refusal
def counted_from_nowhere(c: Checked) -> Told:
    for name, stream in c.streams.items():
        probe, path = stream.probe, ("streams", name, "probe")
        if not isinstance(probe, Count):
            continue
        if stream.cursor is None or stream.cursor.field is None:
            yield path, "a cursor with `field` was expected: what is new is counted from its value on"
        elif stream.parent_stream is not None:
            yield (
                path,
                f"no call was expected: {name} is a list per {stream.parent_stream}, not one that can be counted",
            )
        elif has_no_next(stream):
            yield (
                path,
                f"a cursor of times, dates or whole numbers was expected: a {stream.cursor.field} has no next value",
            )
        elif "cursor" not in names_in([probe.request, probe.query, probe.headers, probe.body]):
            yield path, "<cursor> was expected in the call: what is new is counted from there on"


def has_no_next(stream: Stream) -> bool:
    declared = stream.fields.get(str(stream.cursor.field)) if stream.cursor else None
    return declared is not None and declared.type not in ("timestamp", "date", "integer")


@refusal
def narrowed_snapshot(c: Checked) -> Told:
    for name, stream in c.streams.items():
        cursor = stream.cursor
        if not (stream.deletes and stream.deletes.snapshot and cursor and cursor.start is not None):
            continue
        full = stream.full.request is not None if stream.full else False
        if cursor.send is not None or cursor.send_end is not None or (asks_in_request(stream) and not full):
            yield (
                ("streams", name, "deletes", "snapshot"),
                "a full refresh that reads all was expected: this one is narrowed by `cursor.start`, and what is older "
                "would be taken for deleted (remove `start`, or give `full` a request of its own)",
            )


@refusal
def unordered_window(c: Checked) -> Told:
    for name, stream in c.streams.items():
        pages = pagination_of(c, stream)
        if stream.request is None or pages is None or pages.max_records is None:
            continue
        if stream.cursor is None or stream.cursor.order != "asc":
            path = ("streams", name, "pagination") if stream.pagination else ("api", "pagination")
            yield (
                (*path, "max_records"),
                f"a cursor with `order: asc` was expected in {name}: past its window a list goes on from the cursor",
            )


@refusal
def useless_concurrency(c: Checked) -> Told:
    if c.api is None or c.api.concurrency == 1 or len(c.streams) != len(c.stream_names):
        return
    if not any(reads_ahead(c, stream) for stream in c.streams.values()):
        yield (
            ("api", "concurrency"),
            "a stream with `pages`, `total` or a parent was expected: the others are read one page after the other",
        )


def reads_ahead(c: Checked, stream: Stream) -> bool:
    pages = pagination_of(c, stream)
    known_end = pages is not None and (pages.total is not None or getattr(pages, "pages", None) is not None)
    return stream.parent_stream is not None or (isinstance(pages, PageNumber | Offset) and known_end)


@dataclass(frozen=True, slots=True)
class Sent:
    """One thing that goes into each request of a list: where, by whom, and the key that says so."""

    place: SendPlace
    by: str
    path: KeyPath

    @property
    def slot(self) -> tuple[str, str] | None:
        """What two things can't share; header names know no case."""
        if self.place.kind in ("url", "spread"):
            return None
        name = self.place.name or str(self.place.path)
        return self.place.kind, name.lower() if self.place.kind == "header" else name


def sent_by_keys(api: Api, stream: Stream, path: KeyPath, pages: Pagination | None, at: KeyPath) -> Iterator[Sent]:
    """What pagination, cursor and credentials send."""
    for owner, key, by, where in (
        (pages, "send", "the page", (*at, "send")),
        (pages and pages.size, "send", "the page's size", (*at, "size", "send")),
        (stream.cursor, "send", "the cursor", (*path, "cursor", "send")),
        (stream.cursor, "send_end", "the cursor's end", (*path, "cursor", "send_end")),
        (api.auth if isinstance(api.auth, ApiKey) else None, "send", "the credentials", ("api", "auth", "send")),
    ):
        place = getattr(owner, key, None)
        if place is not None:
            yield Sent(place, by, where)


@refusal
def two_in_one_place(c: Checked) -> Told:
    """A page's `send` over the cursor's is allowed: the source's token holds the rest of the question."""
    for name, stream in c.streams.items():
        if c.api is None or stream.request is None:
            continue
        path = ("streams", name)
        at = (*path, "pagination") if stream.pagination else ("api", "pagination")
        yield from doubled(list(sent_by_keys(c.api, stream, path, pagination_of(c, stream), at)), c.api, stream, path)


def doubled(sent: list[Sent], api: Api, stream: Stream, path: KeyPath) -> Told:
    taken: dict[tuple[str, str], Sent] = {}
    for one in sent:
        slot = one.slot
        if slot is None:
            continue
        if slot in taken and {taken[slot].by, one.by} != {"the page", "the cursor"}:
            yield one.path, f"a place of its own was expected: {taken[slot].by} is sent to {one.place} already"
        taken.setdefault(slot, one)
        written = fixed_place(slot, one.place, api, stream, path)
        if written is not None:
            yield written, f"one value for {one.place} was expected: {one.by} is sent there"


def fixed_place(slot: tuple[str, str], place: SendPlace, api: Api, stream: Stream, path: KeyPath) -> KeyPath | None:
    """Where the file itself writes a value into the same place."""
    kind, name = slot
    if kind == "body":
        there = place.path.get(stream.body) is not MISSING and place.path.parts
        return (*path, "body", *place.path.parts) if there else None
    block = "query" if kind == "query" else "headers"
    for owner, where in ((stream, path), (api, ("api",))):
        for key in getattr(owner, block):
            if key == name or (kind == "header" and key.lower() == name):
                return (*where, block, key)
    return None


def key_paths(stream: Stream, path: KeyPath) -> Iterator[tuple[Path, KeyPath]]:
    for one in stream.primary_key:
        yield one, (*path, "primary_key")
    if stream.version is not None:
        yield stream.version, (*path, "version")
    if stream.cursor is not None and stream.cursor.field is not None:
        yield stream.cursor.field, (*path, "cursor", "field")


@refusal
def unordered_key(c: Checked) -> Told:
    for name, stream in c.streams.items():
        for key, path in key_paths(stream, ("streams", name)):
            declared = stream.fields.get(str(key))
            if declared is not None and declared.type == "json":
                yield path, f"a field with a plain type was expected: {key} is declared as json"


@refusal
def undeclared_key(c: Checked) -> Told:
    for name, stream in c.streams.items():
        if stream.contract.new_field != "freeze":
            continue
        rows = stream.rows
        around = {*rows.include, *(rows.keyed_by or ()), rows.value}
        for key, path in key_paths(stream, ("streams", name)):
            if key.parts[0] not in around and not is_declared(key, stream.fields):
                yield (
                    path,
                    f"a declared field was expected: `new_field: freeze` stops at {key}, not in `fields`",
                )


def is_declared(key: Path, fields: dict[str, Field]) -> bool:
    return any(parse_path(one).parts == key.parts[: len(parse_path(one).parts)] for one in fields)
