"""Drafting a connection from a sample of the source's answer: what a person would guess, to be looked over.

Every guess is one small function over the decoded answer; nothing here asks the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.paths import MISSING, parse_path

NESTED_DEPTH = 3
"""Deeper objects are drafted as one `json` field: nobody maps them by hand at once."""

KEY_NAMES = ("id", "uuid", "guid", "key", "code", "number", "_id")
CHANGED_NAMES = re.compile(r"(updated|modified|changed|last_?modified|last_?updated)(_?(at|on|date|time))?$", re.I)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
NEXT_TOKEN = re.compile(
    r"(next_?(page_?)?(token|cursor|id)?|(end_?)?cursor|after|continuation|bookmark|page_?token)", re.I
)
TOKEN_PARAMETERS = {"nextPageToken": "pageToken", "next_page_token": "page_token", "next_cursor": "cursor",
                    "nextCursor": "cursor", "endCursor": "after", "end_cursor": "after", "next": "cursor"}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One answer of the list a connection is drafted for."""

    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What was guessed, in the grammar's own form, with a remark wherever a person should look."""

    stream: dict[str, Any]
    pagination: dict[str, Any]
    remarks: list[str]


def draft_stream(sample: Sample, request: str, kind: Kind | None = None) -> Draft:
    """Guesses records, primary key, cursor, fields, map and pagination from a sample. Never raises on its form."""
    remarks: list[str] = []
    path, rows = find_records(sample.body)
    if not rows:
        remarks.append("no list of objects was found in the answer: set `records` by hand")
    fields = draft_fields(rows)
    stream: dict[str, Any] = {"request": request, "records": path}
    stream["primary_key"] = find_key(rows) or "id"
    if find_key(rows) is None:
        remarks.append("no field is unique in the sample: set `primary_key` by hand")
    changed = find_changed(fields)
    if changed:
        remarks.append(f"`{changed}` looks like the time of change: name it under `cursor` once you know its parameter")
    stream["fields"] = fields
    for name in as_list(stream["primary_key"]):
        fields.setdefault(name, {"type": "string"})["required"] = True
    if kind is not None:
        stream["map"] = {"to": kind.kind, "fields": draft_map(fields, kind, remarks)}
    pagination = find_pagination(sample, stream["primary_key"])
    if pagination["type"] == "single_page":
        remarks.append("no sign of further pages was found: check the provider's documentation on paging")
    return Draft(stream, pagination, remarks)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def find_records(body: Any, path: tuple[str, ...] = ()) -> tuple[str, list[dict[str, Any]]]:
    """The longest list of objects, up to two levels down, with its path."""
    if isinstance(body, list):
        return ".".join(path) or ".", [row for row in body if isinstance(row, dict)]
    found: tuple[str, list[dict[str, Any]]] = (".", [])
    if isinstance(body, dict) and len(path) < NESTED_DEPTH:
        for key, inner in body.items():
            if isinstance(inner, list | dict) and "." not in key:
                inner_found = find_records(inner, (*path, key))
                found = max(found, inner_found, key=lambda one: len(one[1]))
    return found


def find_key(rows: list[dict[str, Any]]) -> str | None:
    """A field that is present, not null and different in every row; the usual names first."""
    if not rows:
        return None
    names = sorted(rows[0], key=lambda name: (name not in KEY_NAMES, not name.endswith("_id")))
    for name in names:
        values = [row.get(name) for row in rows]
        if all(isinstance(v, str | int) and not isinstance(v, bool) and v != "" for v in values):
            looks_like_key = name in KEY_NAMES or name.lower().endswith(("id", "key", "code", "number"))
            if looks_like_key and len(set(values)) == len(rows):
                return name
    return None


def find_changed(fields: dict[str, dict[str, Any]]) -> str | None:
    """The field that tells when a record changed."""
    timed = [name for name, one in fields.items() if one["type"] in ("timestamp", "date")]
    return next((name for name in timed if CHANGED_NAMES.search(name.rsplit(".", 1)[-1])), None)


def leaves(row: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every path with its value; deep or empty objects and lists count as one value."""
    for key, value in row.items():
        if "." in key:
            continue
        if isinstance(value, dict) and value and len(path) + 1 < NESTED_DEPTH:
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def draft_fields(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A type for each path, from all values in the sample."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in leaves(row):
            values.setdefault(name, []).append(value)
    return {name: guess_field([v for v in found if v is not None]) for name, found in values.items()}


def guess_field(found: list[Any]) -> dict[str, Any]:
    """The narrowest type that all values have; `json`, which takes anything, where they differ or there are none."""
    values = [value for value in found if value != ""]
    if found and not values:
        return {"type": "string"}
    for kind, holds in GUESSES:
        if values and all(holds(value) for value in values):
            guess: dict[str, Any] = {"type": kind}
            if kind == "string" and all(EMAIL.fullmatch(value) for value in values):
                guess["format"] = "email"
            return guess
    return {"type": "json"}


def is_time(value: Any) -> bool:
    """An ISO time that names its zone; one without would be rejected at the boundary."""
    try:
        return isinstance(value, str) and bool(ISO_TIME.match(value)) and bool(datetime.fromisoformat(value).tzinfo)
    except ValueError:
        return False


def is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(ISO_DATE.fullmatch(value)) and bool(date.fromisoformat(value))
    except ValueError:
        return False


GUESSES: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("boolean", lambda v: isinstance(v, bool)),
    ("integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    ("decimal", lambda v: isinstance(v, int | float | Decimal) and not isinstance(v, bool)),
    ("timestamp", is_time),
    ("date", is_date),
    ("string", lambda v: isinstance(v, str)),
)


def draft_map(fields: dict[str, dict[str, Any]], kind: Kind, remarks: list[str]) -> dict[str, Any]:
    """For each canonical field the source's field of the same or a close name; the rest is named in a remark."""
    by_name = {plain(name.rsplit(".", 1)[-1]): name for name in reversed(fields)}
    found: dict[str, Any] = {}
    for name, field_ in kind.fields.items():
        if field_.values:  # theirs are called otherwise, as a rule: a person says which is which
            remarks.append(f"map.fields.{name} takes only {', '.join(map(str, field_.values))}: add it with `values`")
            continue
        close = get_close_matches(plain(name), by_name, 1, cutoff=0.8)
        if close:
            found[name] = by_name[close[0]]
    missing = [name for name, one in kind.fields.items() if name not in found and not one.values]
    if missing:
        remarks.append(f"nothing in the sample looks like {', '.join(missing)} of {kind.kind}")
    return found or {next(iter(kind.fields)): next(iter(fields), ".")}


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_pagination(sample: Sample, key: Any) -> dict[str, Any]:
    """How the answer tells of further pages."""
    headers = {name.lower(): value for name, value in sample.headers.items()}
    if 'rel="next"' in headers.get("link", "") or "rel=next" in headers.get("link", ""):
        return {"type": "link_header"}
    if "next-page" in headers:
        return {"type": "link_header", "read": "header Next-Page"}
    for path, value in around(sample.body):
        name = path[-1] if path[-1] not in ("href", "url", "link") else path[-2] if len(path) > 1 else ""
        if value in ("", None) or isinstance(value, bool | list) or not NEXT_TOKEN.fullmatch(plain_key(name)):
            continue
        read = list(path) if any("." in part for part in path) else ".".join(path)
        if isinstance(value, str) and value.startswith(("http", "/")):
            return {"type": "link_body", "read": read}
        return {"type": "cursor", "read": read, "send": TOKEN_PARAMETERS.get(path[-1], path[-1])}
    if isinstance(at(sample.body, "has_more"), bool):
        return {"type": "keyset", "send": "starting_after", "more": "has_more"}
    for name in ("total_pages", "meta.total_pages", "pages", "pagination.pages"):
        if isinstance(at(sample.body, name), int):
            return {"type": "page_number", "send": "page", "pages": name}
    return {"type": "single_page"}


def plain_key(name: str) -> str:
    """``@odata.nextLink`` as ``next``."""
    return re.sub(r"(_?link|_?url|_?uri)$", "", name.rsplit(".", 1)[-1].lstrip("@_$"), flags=re.I)


def around(body: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of the answer that lies outside its lists."""
    if isinstance(body, dict):
        for key, inner in body.items():
            if isinstance(inner, dict) and len(path) < NESTED_DEPTH:
                yield from around(inner, (*path, key))
            else:
                yield (*path, key), inner


def at(body: Any, path: str) -> Any:
    value = parse_path(path).get(body)
    return None if value is MISSING else value
