"""Which secrets of a connection prove who somebody is, and where they stand. The others only say it: a user's name, a
client's id, a tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from integrations_pipeline.spec.auth import ApiKey, Session
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.forms import Model
from integrations_pipeline.spec.places import ReadPlace, SendPlace
from integrations_pipeline.spec.secrets import reference_in

NAMES = re.compile(
    r"key|token|secret|passw|passphrase|pwd|signature|credential|auth(?!ors?$)|ticket|session|cookie|jwt", re.IGNORECASE
)


def names_a_credential(name: str) -> bool:
    """Whether a key, header or parameter of this name holds what proves somebody, as far as its name tells."""
    return NAMES.search(name) is not None


def credential_names(connection: Connection) -> set[str]:
    """The secrets that stand where a name says so, and those that only the team's own hooks use."""
    used = list(references(connection))
    elsewhere = set(connection.secrets) - {name for _, name in used}
    return elsewhere | {name for key, name in used if name in connection.secrets and names_a_credential(key)}


def credential_places(connection: Connection) -> set[tuple[str, str]]:
    """The headers and query parameters that hold credentials, as (kind, name)."""
    auth, hook = connection.api.auth, connection.webhook
    sent = [auth.send] if isinstance(auth, ApiKey) else list(auth.send) if isinstance(auth, Session) else []
    read = [hook.verify.signature] if hook and hook.verify.signature else []
    places: list[SendPlace | ReadPlace] = [*sent, *read]
    found: set[tuple[str, str]] = {(place.kind, place.name) for place in places if place.kind in ("header", "query")}
    for kind, given in (("header", connection.api.headers), ("query", connection.api.query)):
        found |= {(kind, name) for name, value in given.items() if reference_in(value) and names_a_credential(name)}
    return found


def references(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each ``$name`` of a part of the file, with the key under which it stands."""
    if isinstance(value, Model):
        value = dict(value)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from references(inner, str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for inner in value:
            yield from references(inner, key)
    elif name := reference_in(value):
        yield key, name
