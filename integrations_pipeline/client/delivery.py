"""One delivery of a webhook as it came: raw bytes, and what stands where in them. Nothing is decoded before it must."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.paths import MISSING, parse_path
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import ReadPlace

FORM_FIELDS = 1_000
"""More fields are an attack; no provider sends a hundred."""

BOUNDARY = re.compile(r'\bboundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
FIELD_NAME = re.compile(rb'\bname="([^"\r\n]*)"')
Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Delivery:
    """``url`` is the address as its sender knows it, query included; header names are in lower case.

    ``payload`` says how the body is read: ``json``, ``form`` or ``form FIELD``. Whatever can't be read raises
    ContractError.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    payload: str = "json"

    @cached_property
    def query(self) -> Fields:
        return form_fields(urlsplit(self.url).query)

    @cached_property
    def form(self) -> Fields:
        """The fields of a form, urlencoded or multipart, in their order."""
        content_type = self.header("content-type")
        kind = content_type[0] if content_type else ""
        if kind.lower().startswith("multipart/form-data"):
            return multipart_fields(kind, self.body)
        try:
            return form_fields(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise ContractError("a form that is not urlencoded") from None

    @cached_property
    def document(self) -> Any:
        """What the paths of `webhook` look into. Without a body it is the query, dotted names as objects."""
        if not self.body and self.query:
            return object_of(self.query)
        if self.payload == "json":
            return decode(self.body)
        if self.payload == "form":
            return grouped(self.form)
        field = self.payload.removeprefix("form ")
        values = [value for name, value in self.form if name == field]
        if len(values) != 1:
            raise ContractError(f"one form field {field} was expected, not {len(values)}")
        return decode(values[0].encode("utf-8", "surrogatepass"))

    def header(self, name: str) -> list[str]:
        """All values of a header; ``NAME-*`` takes a numbered series."""
        wanted = name.lower()
        if not wanted.endswith("-*"):
            return [value for given, value in self.headers if given == wanted]
        start = wanted[:-1]
        return [value for given, value in self.headers if given.startswith(start) and given[len(start) :].isdecimal()]

    def values(self, place: ReadPlace) -> list[Any]:
        """Everything that stands at a place; nothing where there is nothing."""
        if place.kind == "header":
            return list(self.header(place.name))
        if place.kind == "query":
            return [value for name, value in self.query if name == place.name]
        return value_at(place, self.document)


@dataclass(frozen=True, slots=True)
class Part:
    """One event of a delivery that holds several: a plain path looks into it, the other places into the delivery."""

    delivery: Delivery
    document: Any

    def values(self, place: ReadPlace) -> list[Any]:
        """Everything that stands at a place; nothing where there is nothing."""
        return value_at(place, self.document) if place.kind == "here" else self.delivery.values(place)


def value_at(place: ReadPlace, document: Any) -> list[Any]:
    found = place.path.get(document)
    return [] if found is MISSING or found is None else [found]


def form_fields(text: str) -> Fields:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS)
    except ValueError:
        raise ContractError(f"a form of more than {FORM_FIELDS} fields") from None


def multipart_fields(content_type: str, body: bytes) -> Fields:
    """The text fields of a multipart form. Files are fields too: their bytes must be text."""
    found = BOUNDARY.search(content_type)
    if found is None:
        raise ContractError("a multipart form without a boundary")
    parts = body.split(b"--" + (found[1] or found[2]).encode("latin-1"))[1:-1]
    if len(parts) > FORM_FIELDS:
        raise ContractError(f"a form of more than {FORM_FIELDS} fields")
    return [multipart_field(part) for part in parts]


def multipart_field(part: bytes) -> tuple[str, str]:
    head, _, content = part.partition(b"\r\n\r\n")
    name = FIELD_NAME.search(head)
    try:
        return (name[1] if name else b"").decode(), content.removesuffix(b"\r\n").decode()
    except UnicodeDecodeError:
        raise ContractError("a multipart form that is not UTF-8 text") from None


def grouped(fields: Fields) -> dict[str, Any]:
    """A repeated field becomes a list."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found


def object_of(fields: Fields) -> dict[str, Any]:
    """``hub.mode=subscribe`` as ``{"hub": {"mode": "subscribe"}}``, so that paths and conditions find it."""
    found: dict[str, Any] = {}
    for name, value in fields:
        parts = name if name and "" not in name.split(".") else [name]
        parse_path(parts).put(found, value)
    return found


def joined(source: Delivery | Part, places: Sequence[ReadPlace]) -> str | None:
    """What stands at some places, with dots between; None where there is nothing at any of them."""
    found = [as_text(value) for place in places for value in source.values(place)[:1]]
    return ".".join(found) if found else None
