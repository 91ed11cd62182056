"""How requests prove who sends them: which value goes to which place, for the kinds whose values never change."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

from integrations_pipeline.spec.auth import ApiKey, Auth, Basic, Bearer, NoAuth, Session
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.forms import Model
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret, reference_in

AUTHORIZATION = SendPlace("header", name="Authorization")
Credentials = tuple[tuple[SendPlace, Secret], ...]


class Shown(Protocol):
    """What one request shows of its sender."""

    def at(self, url: str) -> Credentials:
        """What goes with a request to this URL."""


class Proof(Protocol):
    """Gives each request what it shows. Safe to use from several threads."""

    def shown(self, stop: Event) -> Shown:
        """What is valid now; obtained first where there is none. Raises CredentialsError and what a request raises."""

    def accepted(self, shown: Shown) -> None:
        """The source took it."""

    def instead_of(self, refused: Shown, stop: Event) -> Shown | None:
        """What to show after a 401, once; None where nothing else can be obtained."""


def revealed(text: str, secrets: Mapping[str, Secret]) -> str:
    """The text, or the secret it names. Raises ConfigError for one that isn't declared."""
    name = reference_in(text)
    if name is None:
        return text
    if name not in secrets:
        raise ConfigError(f"${name} is used, but no secret of that name is declared", next="add it under `secrets`")
    return secrets[name].reveal()


def references(value: Any) -> Iterator[str]:
    """The names of all secrets that a part of the file uses."""
    if isinstance(value, Model):
        value = dict(value)
    if isinstance(value, dict):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from references(inner)
    elif name := reference_in(value):
        yield name


def places_of(auth: Auth) -> tuple[SendPlace, ...]:
    """Where the credentials of a kind stand in a request."""
    if isinstance(auth, NoAuth):
        return ()
    if isinstance(auth, Session):
        return tuple(auth.send)
    return (auth.send,) if isinstance(auth, ApiKey) else (AUTHORIZATION,)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same for every request: ``Proof`` and ``Shown`` of the kinds that obtain nothing."""

    credentials: Credentials = ()

    def at(self, url: str) -> Credentials:
        return self.credentials

    def shown(self, stop: Event) -> Fixed:
        return self

    def accepted(self, shown: Shown) -> None:
        """Nothing is to be learnt from it."""

    def instead_of(self, refused: Shown, stop: Event) -> None:
        return None


def fixed(auth: Auth, secrets: Mapping[str, Secret]) -> Fixed | None:
    """The proof of a kind whose values never change; None for the others."""
    match auth:
        case NoAuth():
            return Fixed()
        case Bearer():
            return Fixed(((AUTHORIZATION, Secret(f"Bearer {revealed(auth.token, secrets)}")),))
        case Basic():
            pair = f"{revealed(auth.username, secrets)}:{revealed(auth.password, secrets)}"
            return Fixed(((AUTHORIZATION, Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")),))
        case ApiKey():
            return Fixed(((auth.send, Secret(auth.prefix + revealed(auth.key, secrets))),))
    return None
