"""A session: calls that log in, the values and cookies they leave, and what later requests show of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from threading import Event
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.auth import Credentials
from integrations_pipeline.client.grant import Grant, renewal
from integrations_pipeline.client.oauth2 import Ask
from integrations_pipeline.client.origins import origin_of
from integrations_pipeline.client.request import RequestBuilder, Sends, resolver
from integrations_pipeline.client.waits import span
from integrations_pipeline.spec.api import ErrorRule
from integrations_pipeline.spec.auth import LoginCall, Session
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import (
    ContractError,
    CredentialsError,
    Deferred,
    DestinationError,
    IntegrationError,
)
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret

COOKIE = SendPlace("header", name="Cookie")
Jars = dict[str, dict[str, str]]


@dataclass
class Visit:
    """A login under way."""

    kept: dict[str, Any] = field(default_factory=dict)
    jars: Jars = field(default_factory=dict)
    renew_at: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """``renewal.Issuer`` of `session`."""

    auth: Session
    config: str
    builder: RequestBuilder
    ask: Ask
    rules: tuple[ErrorRule, ...]
    clock: Clock
    seed: str = ""

    def obtain(self, before: Grant | None, stop: Event) -> Grant:
        """By `refresh` where there is a session to refresh, else, or where that is refused, by `login`."""
        if self.auth.refresh is not None and before is not None and before.values and before.config == self.config:
            try:
                return self._walked([self.auth.refresh], Visit(dict(before.values), dict(before.cookies)), stop)
            except (Deferred, DestinationError):
                raise
            except IntegrationError:
                pass  # the session is over: sources say so with 400, 404 or their login page as well as with 401
        try:
            return self._walked(self.auth.login, Visit(), stop)
        except CredentialsError as error:
            next = "correct the user name or password in the secret, then run `integrations connect`"
            raise CredentialsError(f"the login was refused: {error.what}", where=error.where, next=next) from None

    def credentials(self, grant: Grant, url: str) -> Credentials:
        resolve = resolver({"kept": grant.values})
        sent = [(place, as_text(self.builder.fill(text, resolve))) for place, text in self.auth.send.items()]
        return tuple((place, Secret(value)) for place, value in [*sent, *cookies_for(grant.cookies, url)])

    def _walked(self, calls: list[LoginCall], visit: Visit, stop: Event) -> Grant:
        for call in calls:
            request = self.builder.build(call, {"kept": visit.kept}, [])
            cookies = tuple((place, Secret(text)) for place, text in cookies_for(visit.jars, request.url))
            answer = self.ask(self.builder.proved(request, cookies), self.rules, stop)
            self._keep(call, answer, visit)
        return Grant(config=self.config, values=visit.kept, cookies=visit.jars, renew_at=visit.renew_at)

    def _keep(self, call: LoginCall, answer: Answer, visit: Visit) -> None:
        """What the answer leaves. Raises ContractError where a value to be kept isn't in it."""
        for name, path in call.keep.items():
            value = path.get(answer.document)
            if value is MISSING or value is None or isinstance(value, dict | list):
                raise ContractError(
                    f"the login's answer holds no value for `keep.{name}` ({path})", where=answer.request
                )
            visit.kept[name] = value
        if call.expires is not None:
            lifetime = span(answer.read(call.expires.read), call.expires.unit, answer.told_at)
            visit.renew_at = renewal(self.clock.now().timestamp(), lifetime)
        origin = origin_of(answer.url)
        if self.auth.cookies and origin is not None:
            name = origin_name(origin)
            visit.jars[name] = received(answer.cookies, visit.jars.get(name, {}))


def origin_name(origin: tuple[str, str, int]) -> str:
    return f"{origin[0]}://{origin[1]}:{origin[2]}"


def cookies_for(jars: Jars, url: str) -> Sends:
    """A cookie goes back to the origin that gave it, whatever its Domain says."""
    origin = origin_of(url)
    jar = jars.get(origin_name(origin), {}) if origin else {}
    return [(COOKIE, "; ".join(f"{name}={value}" for name, value in jar.items()))] if jar else []


def received(lines: tuple[str, ...], jar: dict[str, str]) -> dict[str, str]:
    """The cookies after an answer; one with an age of zero is taken back."""
    found = dict(jar)
    for line in lines:
        cookie: SimpleCookie = SimpleCookie()
        try:
            cookie.load(line)
        except CookieError:
            continue
        for name, morsel in cookie.items():
            found.pop(name, None)
            if morsel["max-age"] not in ("0", 0):
                found[name] = morsel.coded_value
    return found
