"""Which request asks for what: each stream's requests as patterns, matched and read backwards for their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from integrations_pipeline.simulator.templates import Template, template
from integrations_pipeline.simulator.writeforms import Form, forms
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.pagination import Pagination, SinglePage
from integrations_pipeline.spec.paths import MISSING, step_through
from integrations_pipeline.spec.placeholders import as_text, names_in
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.streams import Count, Records, Stream

Purpose = Literal[
    "list", "full", "get", "feed", "count", "check", "subscribe", "unsubscribe", "find", "create", "update", "upsert",
    "delete",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request as it came. ``path`` is what follows the mount, still quoted."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    content: bytes
    origin: str = ""

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)

    @cached_property
    def body(self) -> Any:
        """The parsed body; None where there is none or it can't be read."""
        if not self.content:
            return None
        if "form" in self.headers.get("content-type", ""):
            return form_body(self.content.decode("utf-8", "replace"))
        try:
            return decode(self.content)
        except ContractError:
            return None

    def sent(self, place: SendPlace) -> Any:
        """The value at a place, or None."""
        if place.kind == "query":
            return self.query.get(place.name, [None])[0]
        if place.kind == "header":
            return self.headers.get(place.name.lower())
        found = step_through(self.body, place.path.parts) if place.kind == "body" else MISSING
        return None if found is MISSING else found


def form_body(text: str) -> dict[str, Any]:
    """``a[b]=c`` as nested objects; a repeated key, or one that ends in ``[]``, as a list."""
    body: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        parts = [part for part in re.split(r"[\[\]]+", key) if part] or [key]
        place = body
        for part in parts[:-1]:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else {}
        if key.endswith("[]"):
            place.setdefault(parts[-1], []).append(value)
        else:
            place[parts[-1]] = value
    return body


Where = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class View:
    """One thing that can be asked for, with the request that asks for it."""

    purpose: Purpose
    stream: str
    method: str
    path: Template
    fixed: tuple[tuple[Where, Any], ...] = ()
    holes: tuple[tuple[Where, Template], ...] = ()
    records: Records | None = None
    pagination: Pagination = field(default_factory=lambda: SinglePage(type="single_page"))
    form: Form | None = None

    def score(self, request: Request) -> tuple[int, int] | None:
        """How literally the path agrees, and how many fixed parts; None where method or path differ."""
        if request.method != self.method or self.path.read(request.path) is None:
            return None
        agree = [same_text(found_at(request, where), value) for where, value in self.fixed]
        return -len(self.path.names), 2 * sum(agree) - len(agree)

    def values(self, request: Request) -> dict[str, Any]:
        """What the placeholders of this view stand for in the request."""
        found: dict[str, Any] = {name: unquote(text) for name, text in (self.path.read(request.path) or {}).items()}
        for where, expected in self.holes:
            sent = found_at(request, where)
            if sent is not MISSING:
                found |= expected.read_value(sent)
        return found


def found_at(request: Request, where: Where) -> Any:
    kind, parts = where
    if kind == "query":
        values = request.query.get(parts[0], [])
        return MISSING if not values else values[0] if len(values) == 1 else values
    if kind == "header":
        return request.headers.get(parts[0].lower(), MISSING)
    return step_through(request.body, parts)


def same_text(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return [as_text(one) for one in found] == wanted if isinstance(found, list) else [as_text(found)] == wanted
    return found is not MISSING and as_text(found) == wanted


def parts_of(value: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Scalars of a body with their paths, through objects and lists."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts_of(inner, (*before, str(key)))
    else:
        yield before, value


def asked(query: Mapping[str, Any], headers: Mapping[str, Any], body: Any) -> Iterator[tuple[Where, Any]]:
    """Every value that the YAML puts into a request beside its path."""
    for name, value in query.items():
        if value is not None:
            yield ("query", (name,)), value
    for name, value in headers.items():
        if value is not None:
            yield ("header", (name,)), value
    for parts, value in parts_of(body) if body is not None else ():
        yield ("body", parts), value


class Views:
    """All views of a connection, in the order of the file."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.base = urlsplit(connection.api.url).path.rstrip("/")
        self.all = [view for name, stream in connection.streams.items() for view in self.of(name, stream)]
        if connection.api.check:
            self.all.append(self.view("check", "", connection.api.check.request, connection.api.check.query or {}))
        hook = connection.webhook
        for purpose, call in (("subscribe", hook.subscribe), ("unsubscribe", hook.unsubscribe)) if hook else ():
            if call is not None:
                body = graphql_body(call.body, call.graphql)
                self.all.append(
                    self.view(purpose, "", call.request, call.query or {}, call.headers or {}, body)  # type: ignore[arg-type]
                )

    def match(self, request: Request) -> View | None:
        """The view with the most literal path, then the one whose fixed parts agree best, then the first."""
        scored = [(score, -index) for index, view in enumerate(self.all) if (score := view.score(request))]
        return self.all[-max(scored)[1]] if scored else None

    def of(self, name: str, stream: Stream) -> Iterator[View]:
        if stream.request is None:
            return
        pagination = stream.pagination or self.connection.api.pagination
        body = graphql_body(stream.body, stream.graphql)
        yield self.view("list", name, stream.request, stream.query, stream.headers, body, stream.rows, pagination)
        if stream.full:
            yield self.full(name, stream, pagination)
        if stream.get:
            records = Records.model_validate({"path": stream.get.record}) if stream.get.record else None
            get = stream.get
            body = graphql_body(get.body, get.graphql)
            yield self.view("get", name, get.request, get.query or {}, get.headers or {}, body, records)
        if isinstance(stream.probe, Count):
            probe = stream.probe
            body = graphql_body(probe.body, probe.graphql)
            yield self.view("count", name, probe.request, probe.query or {}, probe.headers or {}, body)
        feed = stream.deletes.feed if stream.deletes else None
        if feed:
            call = feed.call
            body = graphql_body(call.body, call.graphql)
            yield self.view(
                "feed", name, call.request, call.query or {}, call.headers or {}, body, feed.records, pagination
            )
        yield from self.writes(name, stream)

    def writes(self, name: str, stream: Stream) -> Iterator[View]:
        """The requests that write, and the one that looks for what was written."""
        if stream.write is None:
            return
        for form, call, body in forms(stream.write):
            body = graphql_body(body, call.graphql)
            view = self.view(form.operation, name, call.request, call.query or {}, call.headers or {}, body)
            yield replace(view, form=form)
        find = stream.write.find
        if find is not None:
            body = graphql_body(find.body, find.graphql)
            records = Records(path=find.records) if find.records else None
            yield self.view("find", name, find.request, find.query or {}, find.headers or {}, body, records)

    def full(self, name: str, stream: Stream, pagination: Pagination | None) -> View:
        """The request of a full refresh: the stream's own with what differs; null removes."""
        full = stream.full
        assert full is not None
        given = full.model_fields_set
        query = {} if "query" in given and full.query is None else {**stream.query, **(full.query or {})}
        headers = {} if "headers" in given and full.headers is None else {**stream.headers, **(full.headers or {})}
        body = full.body if "body" in given else stream.body
        body = graphql_body(body, full.graphql if "graphql" in given else stream.graphql)
        records, request = full.records or stream.rows, full.request or stream.request or ""
        return self.view("full", name, request, query, headers, body, records, full.pagination or pagination)

    def view(
        self,
        purpose: Purpose,
        stream: str,
        request: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        body: Any = None,
        records: Records | None = None,
        pagination: Pagination | None = None,
    ) -> View:
        method, path = request.split(None, 1)
        parts = list(asked(query or {}, headers or {}, body))
        fixed = tuple((where, as_fixed(value)) for where, value in parts if not list(names_in(value)))
        holes = tuple(
            (where, template(value)) for where, value in parts if isinstance(value, str) and list(names_in(value))
        )
        pagination = pagination or SinglePage(type="single_page")
        whole = template(below_mount(self.connection.api.url, path), "([^/]+?)")
        return View(purpose, stream, method, whole, fixed, holes, records, pagination)


def below_mount(url: str, path: str) -> str:
    """Where a call's path is served: below the base path of the API's url, or below its host if that is another one."""
    if path.startswith("/"):
        return urlsplit(url).path.rstrip("/") + path
    if path.startswith(f"{url}/"):
        return below_mount(url, path.removeprefix(url))
    return "/" + path.split("://", 1)[1]


def as_fixed(value: Any) -> Any:
    return [as_text(one) for one in value] if isinstance(value, list) else as_text(value)


def graphql_body(body: Any, graphql: str | None) -> Any:
    """GraphQL text goes to ``body.query``, where ``<`` has no meaning."""
    if graphql is None:
        return body
    return {**(body or {}), "query": graphql.replace("<", "<<")}
