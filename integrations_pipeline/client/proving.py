"""From the declared `auth` to the proof that requests carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from threading import Event

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.auth import Proof, fixed, references, revealed
from integrations_pipeline.client.exchange import Asked, Exchange
from integrations_pipeline.client.login import Login
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.client.oauth2 import Ask, TokenAuth, TokenEndpoint, token_api
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.client.renewal import Issuer, Renewable
from integrations_pipeline.client.request import Request, RequestBuilder
from integrations_pipeline.client.signing import Signed, Signer
from integrations_pipeline.spec.api import Api, ErrorRule
from integrations_pipeline.spec.auth import Auth, Jwt, OAuth2Refresh, Session
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.ports import TokenStore
from integrations_pipeline.spec.secrets import Secret

MakeExchange = Callable[[Api, RequestBuilder], Exchange]
"""A way out that shows no credentials: to the API itself, or to its token endpoint."""


@dataclass(frozen=True, slots=True)
class Means:
    """What obtaining credentials needs."""

    connection: str
    api: Api
    secrets: Mapping[str, Secret]
    builder: RequestBuilder
    make_exchange: MakeExchange
    tokens: TokenStore | None
    clock: Clock
    meter: Meter
    redactor: Redactor


def proof_of(means: Means) -> Proof:
    """Raises ConfigError where a secret is not declared or a key can't be read."""
    auth = means.api.auth
    known = fixed(auth, means.secrets)
    if known is not None:
        return known
    if isinstance(auth, Jwt) and auth.token_url is None:
        return Signed(auth, Signer(auth, means.secrets, means.clock), means.clock, means.redactor)
    if means.tokens is None:
        raise ConfigError(f"auth type {auth.type} needs a place to keep its tokens", next="use it with a database")
    return Renewable(issuer_of(means), means.tokens, means.clock, means.meter, means.redactor)


def issuer_of(means: Means) -> Issuer:
    auth, config = means.api.auth, digest_of(means.api.auth, means.secrets)
    if isinstance(auth, Session):
        ask = asking(means, means.make_exchange(means.api, means.builder))
        return Login(auth, config, means.builder, ask, tuple(means.api.errors), means.clock)
    assert isinstance(auth, TokenAuth)
    endpoint = token_api(means.api, str(auth.token_url))
    builder = RequestBuilder(endpoint, means.secrets)
    ask = asking(means, means.make_exchange(endpoint, builder))
    signer = Signer(auth, means.secrets, means.clock) if isinstance(auth, Jwt) else None
    seed = seed_of(auth, means) if isinstance(auth, OAuth2Refresh) else ""
    return TokenEndpoint(auth, config, seed, means.secrets, builder, ask, means.clock, signer)


def asking(means: Means, exchange: Exchange) -> Ask:
    """Asking for a token is repeated like a read: a second one costs nothing, and a lost answer leaves no other way."""

    def ask(request: Request, rules: tuple[ErrorRule, ...], stop: Event) -> Answer:
        asked = Asked(means.connection, rules, repeatable=True, private=True)
        try:
            return exchange.answer(request, asked, stop)[0]
        except IntegrationError as error:
            raise error.at(f"{means.connection} {request}") from None

    return ask


def digest_of(auth: Auth, secrets: Mapping[str, Secret]) -> str:
    """Of all that a grant depends on. It is stored among what is encrypted only."""
    values = [secrets[name].reveal() for name in sorted(set(references(auth))) if name in secrets]
    return blake2b("\0".join([repr(auth), *values]).encode(), digest_size=16).hexdigest()


def seed_of(auth: OAuth2Refresh, means: Means) -> str:
    """Stored in the clear: it tells a replaced refresh token from the first, and gives nothing away of either."""
    return sha256(f"{means.connection}\0{revealed(auth.refresh_token, means.secrets)}".encode()).hexdigest()
