"""Names: what may be called what, and what must exist."""

from __future__ import annotations

import re

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.faults import WHEN
from integrations_pipeline.spec.refusals.checked import Checked, Told, refusal
from integrations_pipeline.spec.secrets import reference_in
from integrations_pipeline.spec.wording import did_you_mean, one_of

RESERVED_WORDS = ("cursor", "external_id", "fields", "items", "reference", "idempotency_key", "webhook_url", "event")
RESERVED_PREFIXES = ("cursor", "key", "record", "fields", "kept", "subscription")
SECRET_HOLDERS = frozenset(("auth", "headers", "query", "body", "verify", "handshake"))
CREDENTIALS = ("token", "password", "key", "client_secret", "refresh_token")
FAULT_ON = re.compile(WHEN["stream"].pattern.removesuffix("$") + r"\b")
INSIDE = re.compile(r"\$([a-z_][a-z0-9_]*)")


@refusal
def reserved_connection(c: Checked) -> Told:
    if c.name == "canonical":
        yield ("connection",), "another name was expected: canonical is the group of the kinds"


@refusal
def joined_name(c: Checked) -> Told:
    for name in c.stream_names:
        joined = f"{c.name}__{name}".encode(errors="surrogatepass")
        if len(joined) > limits.IDENTIFIER_BYTES:
            over = len(joined) - limits.IDENTIFIER_BYTES
            yield ("streams", name), f"shorter names were expected: the table {c.name}__{name} is {over} bytes too long"


@refusal
def told_twice(c: Checked) -> Told:
    entries = c.data.get("alerts")
    known: dict[str, int] = {}
    for place, one in enumerate(entries if isinstance(entries, list) else []):
        env = one.get("env") if isinstance(one, dict) else None
        if isinstance(env, str) and known.setdefault(env, place) != place:
            message = f"another destination was expected: {env} stands already in alerts[{known[env]}]"
            yield ("alerts", place, "env"), message


@refusal
def reserved_stream(c: Checked) -> Told:
    for name in c.stream_names:
        if name in RESERVED_PREFIXES:
            yield ("streams", name), f"another name was expected: <{name}.…> has a meaning of its own"


@refusal
def reserved_setting(c: Checked) -> Told:
    for name in c.part("settings"):
        if name in (*RESERVED_WORDS, *RESERVED_PREFIXES):
            yield ("settings", name), f"another name was expected: <{name}> has a meaning of its own"


@refusal
def unknown_secret(c: Checked) -> Told:
    """Only where secrets may stand: elsewhere a `$id` is a path."""
    known = c.part("secrets")
    for path, value in secret_places(c):
        name = reference_in(value)
        if name is not None and name not in known:
            yield path, f"a secret declared under `secrets` was expected, not ${name}{did_you_mean(name, known)}"


@refusal
def written_secret(c: Checked) -> Told:
    """A credential in a file is copied, committed and shown; only its name belongs here."""
    auth = c.part("api").get("auth")
    given = auth if isinstance(auth, dict) else {}
    for key in CREDENTIALS:
        value = given.get(key)
        if isinstance(value, str) and value and reference_in(value) is None:
            yield ("api", "auth", key), "$NAME of a secret declared under `secrets` was expected, not the secret itself"


@refusal
def embedded_secret(c: Checked) -> Told:
    known = c.part("secrets")
    for path, value in secret_places(c):
        for name in INSIDE.findall(value) if reference_in(value) is None else ():
            if name in known:
                yield path, f"${name} was expected as the whole value (auth has `prefix` for what stands before it)"


@refusal
def unused_secret(c: Checked) -> Told:
    """Not where a hook is given all of them."""
    if any(c.part("hooks").get(name) for name in ("request", "verify")):
        return
    used = {reference_in(value) for _, value in c.secret_texts}
    for name in c.part("secrets"):
        if name not in used:
            yield ("secrets", name), f"${name} is never used: remove it, or name it where it belongs"


def secret_places(c: Checked) -> Told:
    return ((path, value) for path, value in c.secret_texts if SECRET_HOLDERS.intersection(path[:-1]))


@refusal
def fault_on_nothing(c: Checked) -> Told:
    given = c.data.get("faults")
    for index, text in enumerate(given if isinstance(given, list) else []):
        found = FAULT_ON.search(text) if isinstance(text, str) else None
        if found and found["stream"] not in c.stream_names:
            name = found["stream"]
            yield ("faults", index), f"a stream was expected after `on`, not {name}{did_you_mean(name, c.stream_names)}"


@refusal
def unknown_selected(c: Checked) -> Told:
    given = c.data.get("select")
    selected = given if isinstance(given, list) else []
    for index, name in enumerate(selected):
        if name not in c.stream_names:
            yield ("select", index), f"a stream was expected, not {name}{did_you_mean(name, c.stream_names)}"
        parent = c.streams[name].parent_stream if name in c.streams else None
        if parent in c.stream_names and parent not in selected:
            yield ("select", index), f"{name} is read under {parent}: {parent} was expected in the list too"


@refusal
def unknown_parent(c: Checked) -> Told:
    for name, stream in c.streams.items():
        if stream.parent is not None and stream.parent not in c.stream_names:
            yield (
                ("streams", name, "parent"),
                f"a stream was expected, not {stream.parent}{did_you_mean(stream.parent, c.stream_names)}",
            )


@refusal
def circle_of_parents(c: Checked) -> Told:
    told: set[str] = set()
    for name in c.streams:
        line: list[str] = []
        at: str | None = name
        while at is not None and at in c.streams and at not in line:
            line.append(at)
            at = c.streams[at].parent_stream
        if at == name and name not in told:
            told.update(line)
            key = "parent" if c.streams[name].parent else "request"
            yield ("streams", name, key), f"a parent outside the circle was expected: {' → '.join([*line, name])}"


@refusal
def unknown_kind(c: Checked) -> Told:
    for name, stream in c.streams.items():
        if stream.map is None or stream.map.to in c.kinds:
            continue
        to, path = stream.map.to, ("streams", name, "map", "to")
        if to in c.unread_kinds:
            yield path, f"the kind {to} can't be read: mend its file in models/ first"
        else:
            yield path, f"a kind with a file in models/ was expected, not {to}{did_you_mean(to, c.kinds)}"


@refusal
def unknown_canonical_field(c: Checked) -> Told:
    for name, stream in c.streams.items():
        kind = c.kinds.get(stream.map.to) if stream.map else None
        if stream.map is None or kind is None:
            continue
        for field in stream.map.fields:
            if field not in kind.fields:
                hint = did_you_mean(field, kind.fields)
                yield (
                    ("streams", name, "map", "fields", field),
                    f"a field of {kind.kind} ({one_of(kind.fields)}) was expected, not {field}{hint}",
                )


@refusal
def unknown_match(c: Checked) -> Told:
    for name, stream in c.streams.items():
        if stream.map is None:
            continue
        for index, keys in enumerate(stream.map.match):
            for key in keys:
                if key not in stream.map.fields:
                    hint = did_you_mean(key, stream.map.fields)
                    yield (
                        ("streams", name, "map", "match", index),
                        f"a field that the map fills was expected, not {key}{hint}",
                    )


@refusal
def unknown_lookup(c: Checked) -> Told:
    for name, stream in c.streams.items():
        for field, source in (stream.map.fields if stream.map else {}).items():
            path = ("streams", name, "map", "fields", field, "lookup")
            if source.lookup is None:
                continue
            if source.lookup not in c.stream_names:
                yield path, f"a stream was expected, not {source.lookup}{did_you_mean(source.lookup, c.stream_names)}"
            elif source.lookup in c.streams and c.streams[source.lookup].map is None:
                yield path, f"a stream with a `map` was expected: {source.lookup} has no canonical records"
