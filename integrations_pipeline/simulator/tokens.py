"""The other side of credentials that are obtained at run time: a token endpoint, a login, a verifier of signed tokens.

Refresh tokens are used once; a second use revokes the whole family, its access tokens with it, as RFC 9700 advises.
"""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from integrations_pipeline.simulator.records import put
from integrations_pipeline.simulator.verifying import Verifier
from integrations_pipeline.simulator.views import Request, asked, below_mount, found_at, same_text
from integrations_pipeline.spec.auth import Jwt, LoginCall, OAuth2ClientCredentials, OAuth2Refresh, Session
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.placeholders import as_text, names_in, render
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import reference_in

COOKIE = "simulated_session"
AUTHORIZATION = SendPlace("header", "Authorization")
Reveal = Callable[[str], str]


@dataclass(frozen=True)
class Given:
    """The answer of a token endpoint or a login."""

    status: int
    document: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def no(error: str, status: int = 400) -> Given:
    return Given(status, {"error": error, "error_description": f"the simulator says {error}"})


@dataclass
class Issued:
    """A token or session while it lives."""

    expires_at: float
    requests_left: int | None
    family: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    cookie: str = ""
    steps: int = 0


class Tokens:
    """Issues and checks. ``lifetime_seconds`` and ``lifetime_requests`` hold for what is issued from then on;
    ``single_use``: whether a refresh gives a new refresh token and uses the old one up."""

    def __init__(self, connection: Connection, reveal: Reveal, now: Callable[[], float]):
        self.connection, self.auth = connection, connection.api.auth
        self.reveal, self.now = reveal, now
        self.lifetime_seconds = 3600.0
        self.lifetime_requests: int | None = None
        self.single_use = True
        self.calls = 0
        self.reset()

    def reset(self) -> None:
        """Nothing is issued yet; the first refresh token is good again."""
        self.issued: dict[str, Issued] = {}
        self.families: dict[str, str] = {}  # refresh token → its family
        self.used: set[str] = set()
        self.revoked: set[str] = set()

    def revoke(self) -> None:
        """The account's holder takes the permission back: nothing issued so far is good any more."""
        self.revoked.update({"first", *self.families.values()})
        self.expire()

    def expire(self) -> None:
        """What is issued so far has expired; what it can be renewed with has not."""
        self.issued.clear()

    def control(self, given: Mapping[str, Any]) -> None:
        """What the control door is told. Raises DataError for a word it doesn't know."""
        for name, value in given.items():
            if name in ("lifetime_seconds", "lifetime_requests", "single_use"):
                setattr(self, name, value)
            elif name in ("revoke", "expire") and value is True:
                getattr(self, name)()
            else:
                known = "lifetime_seconds, lifetime_requests, single_use, revoke: true or expire: true"
                raise DataError(f"{known} was expected, not {name}")

    def answer(self, request: Request) -> Given | None:
        """The answer of the token endpoint or a login; None where the request is for neither."""
        auth = self.auth
        token_url = getattr(auth, "token_url", None)
        if token_url and request.method == "POST" and request.path == below_mount(self.connection.api.url, token_url):
            self.calls += 1
            return self.token(request)
        return self.session(request, auth) if isinstance(auth, Session) else None

    def allows(self, request: Request) -> bool:
        """Whether the request shows what was issued and still lives."""
        auth = self.auth
        if isinstance(auth, Session):
            return any(self.spend(one) for one in [*self.issued.values()] if self.shows(request, auth, one))
        sent = as_text(request.sent(AUTHORIZATION))
        if isinstance(auth, Jwt) and auth.token_url is None:
            return sent.startswith(auth.prefix) and self.verifier(auth).accepts(sent.removeprefix(auth.prefix))
        prefix = auth.prefix if isinstance(auth, Jwt) else "Bearer "
        found = self.issued.get(sent.removeprefix(prefix)) if sent.startswith(prefix) else None
        return found is not None and found.family not in self.revoked and self.spend(found)

    def spend(self, one: Issued) -> bool:
        """Counts a request; False where the lifetime is over."""
        if one.requests_left is not None:
            one.requests_left -= 1
        return self.now() < one.expires_at and (one.requests_left is None or one.requests_left >= 0)

    def issue(self, family: str = "") -> Issued:
        return Issued(self.now() + self.lifetime_seconds, self.lifetime_requests, family)

    # token endpoint

    def token(self, request: Request) -> Given:
        body = request.body if isinstance(request.body, dict) else {}
        auth = self.auth
        if isinstance(auth, Jwt):
            good = body.get("grant_type", "").endswith(":jwt-bearer")
            return (
                self.given() if good and self.verifier(auth).accepts(body.get("assertion", "")) else no("invalid_grant")
            )
        assert isinstance(auth, OAuth2ClientCredentials | OAuth2Refresh)
        if not self.knows_client(request, body, auth):
            return no("invalid_client", 401)
        if any(as_text(body.get(name)) != self.reveal(as_text(value)) for name, value in auth.extra.items()):
            return no("invalid_request")
        if isinstance(auth, OAuth2Refresh):
            return self.refreshed(body, auth)
        return self.given() if body.get("grant_type") == "client_credentials" else no("unsupported_grant_type")

    def verifier(self, auth: Jwt) -> Verifier:
        return Verifier(auth, self.reveal, self.now)

    def knows_client(
        self, request: Request, body: Mapping[str, Any], auth: OAuth2ClientCredentials | OAuth2Refresh
    ) -> bool:
        wanted = self.reveal(auth.client_id), self.reveal(auth.client_secret)
        if auth.client_auth == "body" or not wanted[1]:
            return (body.get("client_id"), body.get("client_secret", "")) == wanted
        sent = as_text(request.sent(AUTHORIZATION)).removeprefix("Basic ")
        return sent.isascii() and b64decode(sent + "==").decode("latin-1") == ":".join(wanted)

    def refreshed(self, body: Mapping[str, Any], auth: OAuth2Refresh) -> Given:
        token = as_text(body.get("refresh_token"))
        family = "first" if token == self.reveal(auth.refresh_token) else self.families.get(token)
        if body.get("grant_type") != "refresh_token" or family is None or family in self.revoked:
            return no("invalid_grant")
        if token in self.used:
            self.revoked.add(family)
            return no("invalid_grant")
        if not self.single_use:
            return self.given(family)
        self.used.add(token)
        fresh = f"refresh-{secrets.token_hex(12)}"
        self.families[fresh] = family
        return self.given(family, {"refresh_token": fresh})

    def given(self, family: str = "", more: Mapping[str, Any] | None = None) -> Given:
        token = f"access-{secrets.token_hex(12)}"
        self.issued[token] = self.issue(family)
        told = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_seconds, **(more or {})}
        return Given(200, told, {"Cache-Control": "no-store"})

    # session

    def session(self, request: Request, auth: Session) -> Given | None:
        """One call of the login, or the refresh."""
        for step, call in enumerate(auth.login):
            if self.is_for(request, call):
                self.calls += 1
                before = [one for one in self.issued.values() if one.steps == step] if step else [self.issue()]
                return self.stepped(request, auth, call, before)
        if auth.refresh is not None and self.is_for(request, auth.refresh):
            self.calls += 1
            alive = [
                one for one in self.issued.values() if one.steps >= len(auth.login) and self.now() < one.expires_at
            ]
            return self.stepped(request, auth, auth.refresh, alive)
        return None

    def is_for(self, request: Request, call: LoginCall) -> bool:
        before, hole, _ = call.path.partition("<")
        path = below_mount(self.connection.api.url, before)
        return request.method == call.method and (request.path.startswith(path) if hole else request.path == path)

    def stepped(self, request: Request, auth: Session, call: LoginCall, before: list[Issued]) -> Given:
        """Goes on with the session whose kept values the request shows."""
        found = next((one for one in before if self.is_asked(request, call, one)), None)
        if found is None or (found.cookie and f"{COOKIE}={found.cookie}" not in cookies_of(request)):
            return no("wrong_login", 401)
        now_on = self.issue()
        now_on.steps, now_on.cookie = found.steps + 1, secrets.token_hex(12) if auth.cookies else ""
        document: dict[str, Any] = {}
        now_on.kept = dict(found.kept)
        for name, path in call.keep.items():
            now_on.kept[name] = f"kept-{secrets.token_hex(12)}"
            put(document, path.parts, now_on.kept[name])
        headers = {"Set-Cookie": f"{COOKIE}={now_on.cookie}; Path=/; HttpOnly"} if auth.cookies else {}
        self.tell_end(call, document, headers)
        self.issued = {key: one for key, one in self.issued.items() if one is not found}
        self.issued[secrets.token_hex(8)] = now_on
        return Given(200, document, headers)

    def tell_end(self, call: LoginCall, document: dict[str, Any], headers: dict[str, str]) -> None:
        if call.expires is None:
            return
        seconds = self.lifetime_seconds + (self.now() if call.expires.unit.startswith("unix") else 0)
        told = seconds * (1000 if call.expires.unit.endswith("ms") else 1)
        if call.expires.read.kind == "header":
            headers[call.expires.read.name] = as_text(told)
        else:
            put(document, call.expires.read.path.parts, told)

    def is_asked(self, request: Request, call: LoginCall, one: Issued) -> bool:
        """Whether everything the call declares is in the request, with the secrets and this session's values."""
        path = below_mount(self.connection.api.url, self.filled(call.path, one))
        if unquote(request.path) != path:
            return False
        parts = asked(call.query or {}, call.headers or {}, call.body)
        return all(same_text(found_at(request, where), as_text(self.filled(value, one))) for where, value in parts)

    def filled(self, value: Any, one: Issued) -> Any:
        if reference_in(value):
            return self.reveal(value)
        if any(name.removeprefix("kept.") not in one.kept for name in names_in(value)):
            return None
        return render(value, lambda name: one.kept[name.removeprefix("kept.")])

    def shows(self, request: Request, auth: Session, one: Issued) -> bool:
        if one.steps < len(auth.login) or (auth.cookies and f"{COOKIE}={one.cookie}" not in cookies_of(request)):
            return False
        return all(as_text(request.sent(place)) == as_text(self.filled(text, one)) for place, text in auth.send.items())


def cookies_of(request: Request) -> list[str]:
    return [part.strip() for part in request.headers.get("cookie", "").split(";")]
