"""Placeholders: which may stand where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from integrations_pipeline.spec.auth import Session
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.refusals.checked import Checked, Told, refusal, texts_in
from integrations_pipeline.spec.streams import Count, Stream
from integrations_pipeline.spec.wording import did_you_mean
from integrations_pipeline.spec.yaml_text import KeyPath

BRACES = re.compile(r"\{[A-Za-z_][A-Za-z0-9_.]*\}")
OBJECTS = ("fields", "items")


@dataclass(frozen=True, slots=True)
class Text:
    """Something with placeholders, and the names that may stand in it; ``key.`` stands for any ``key.…``."""

    path: KeyPath
    value: Any
    known: tuple[str, ...]
    call_key: str = "body"

    def allows(self, name: str) -> bool:
        prefix, dot, rest = name.partition(".")
        return name in self.known or (bool(dot and rest) and f"{prefix}." in self.known)


def call_texts(call: Call | None, path: KeyPath, known: Iterable[str]) -> Iterator[Text]:
    """The parts of a call that are substituted; `graphql` never is."""
    if call is None:
        return
    names = tuple(known)
    for key in ("request", "query", "headers", "body"):
        value = getattr(call, key)
        if value:
            yield Text((*path, key), value, names, key)


def key_names(stream: Stream) -> list[str]:
    return ["external_id", *(f"key.{path}" for path in stream.primary_key)]


def texts(c: Checked) -> Iterator[Text]:
    """Every text of the connection that may hold placeholders."""
    for name, stream in c.streams.items():
        yield from list_texts(c, stream, ("streams", name))
        yield from write_texts(stream, ("streams", name, "write"), [f"{parent}." for parent in c.stream_names])
    yield from api_texts(c)
    yield from webhook_texts(c)


def list_texts(c: Checked, stream: Stream, path: KeyPath) -> Iterator[Text]:
    parents = [f"{name}." for name in c.stream_names]
    known = (*(("cursor", "cursor.end") if stream.cursor else ()), *parents)
    for key in ("request", "query", "headers", "body"):
        yield Text((*path, key), getattr(stream, key), known, key)
        if stream.full is not None:
            yield Text((*path, "full", key), getattr(stream.full, key), known, key)
    yield from call_texts(stream.get, (*path, "get"), [*key_names(stream), *parents])
    if isinstance(stream.probe, Count):
        yield from call_texts(stream.probe, (*path, "probe"), ["cursor"])
    if stream.deletes and stream.deletes.feed:
        yield from call_texts(stream.deletes.feed.call, (*path, "deletes", "feed", "call"), ["cursor", "cursor.end"])


def write_texts(stream: Stream, path: KeyPath, parents: list[str]) -> Iterator[Text]:
    write = stream.write
    if write is None:
        return
    fields = [f"fields.{name}" for name in write.fields]
    new = ["fields", "reference", "idempotency_key", *fields, *parents]
    known = [*new, *key_names(stream), "record."]
    yield Text((*path, "set"), write.set, tuple(known))
    for key in ("create", "update", "upsert", "delete"):
        call = getattr(write, key)
        allowed = new if key == "create" else known
        yield from call_texts(call, (*path, key), allowed)
        yield Text((*path, key, "set"), call.set if call else None, tuple(allowed))
    yield from call_texts(write.find, (*path, "find"), ["reference", *fields, *parents])
    if write.batch is not None:
        yield Text((*path, "batch", "set"), write.batch.set, tuple(known))
        yield Text((*path, "batch", "body"), write.batch.body, ("items", "idempotency_key"))
        for key in ("create", "update", "upsert"):
            yield from call_texts(getattr(write.batch, key), (*path, "batch", key), ["items", "idempotency_key"])


def api_texts(c: Checked) -> Iterator[Text]:
    if c.api is None:
        return
    yield Text(("api", "url"), c.api.url, (), "request")
    yield Text(("api", "headers"), c.api.headers, (), "headers")
    yield Text(("api", "query"), c.api.query, (), "query")
    yield from call_texts(c.api.check, ("api", "check"), [])
    if isinstance(c.api.auth, Session):
        kept: list[str] = []
        for index, call in enumerate(c.api.auth.login):
            yield from call_texts(call, ("api", "auth", "login", index), kept)
            kept.extend(f"kept.{name}" for name in call.keep)
        yield from call_texts(c.api.auth.refresh, ("api", "auth", "refresh"), kept)
        yield Text(("api", "auth", "send"), list(c.api.auth.send.values()), tuple(kept))


def webhook_texts(c: Checked) -> Iterator[Text]:
    if c.webhook is None:
        return
    subscribe = c.webhook.subscribe
    kept = [f"subscription.{name}" for name in subscribe.keep] if subscribe else []
    yield from call_texts(subscribe, ("webhook", "subscribe"), ["webhook_url", "event"])
    yield from call_texts(c.webhook.unsubscribe, ("webhook", "unsubscribe"), ["webhook_url", "event", *kept])
    yield Text(("webhook", "verify", "secret"), c.webhook.verify.secret, tuple(kept))


@refusal
def unknown_placeholder(c: Checked) -> Told:
    settings = list(c.part("settings"))
    for text in texts(c):
        for path, value in texts_in(text.value, text.path, "<"):
            for name in names_in(value):
                if not text.allows(name):
                    yield path, unknown(name, [*text.known, *settings])


def unknown(name: str, known: list[str]) -> str:
    if name in ("cursor", "cursor.end"):
        return f"<{name}> needs a `cursor` in its stream"
    hint = did_you_mean(name, [one for one in known if not one.endswith(".")])
    return f"a placeholder or a setting was expected, not <{name}>{hint}; a plain < is written <<"


@refusal
def unquotable_placeholder(c: Checked) -> Told:
    for text in texts(c):
        if text.call_key == "body":
            continue
        for path, value in texts_in(text.value, text.path, "<"):
            for name in names_in(value):
                if name in OBJECTS and text.allows(name):
                    yield path, f"<{name}> was expected in a body only: it is no text that could be quoted"


@refusal
def braces(c: Checked) -> Told:
    for text in texts(c):
        if text.call_key == "body":
            continue
        for path, value in texts_in(text.value, text.path, "{"):
            for found in BRACES.findall(value):
                yield path, f"<{found[1:-1]}> was expected: placeholders are written <…>, not {found}"


@refusal
def two_parents(c: Checked) -> Told:
    for name, stream in c.streams.items():
        value = [stream.request, stream.query, stream.headers, stream.body]
        parents = {one.partition(".")[0] for one in names_in(value) if "." in one}.intersection(c.stream_names)
        if stream.parent_stream in c.stream_names and len(parents) > 1:
            yield ("streams", name, "request"), f"one parent was expected, not {', '.join(sorted(parents))}"
