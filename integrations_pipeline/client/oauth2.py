"""The token endpoint: client credentials, refresh tokens, and assertions (RFC 6749, RFC 7523), exchanged for tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.auth import AUTHORIZATION, Credentials, revealed
from integrations_pipeline.client.grant import Grant, renewal
from integrations_pipeline.client.request import Request, RequestBuilder
from integrations_pipeline.client.signing import Signer
from integrations_pipeline.spec.api import Api, ErrorRule
from integrations_pipeline.spec.auth import Jwt, OAuth2ClientCredentials, OAuth2Refresh
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import ContractError, CredentialsError, PermissionDenied
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# RFC 6749, section 5.2; some endpoints say so with status 200.
RULES = tuple(
    ErrorRule.model_validate(rule)
    for rule in (
        {"when": {"error": ["invalid_grant", "invalid_client"]}, "is": "credentials"},
        {"when": {"error": ["unauthorized_client", "invalid_scope", "access_denied"]}, "is": "permission"},
        {"when": {"error": ["temporarily_unavailable", "server_error"]}, "is": "transient"},
    )
)
TokenAuth = OAuth2ClientCredentials | OAuth2Refresh | Jwt


Ask = Callable[[Request, tuple[ErrorRule, ...], Event], Answer]
"""Sends a request as it is and gives the answer of success."""


def token_api(api: Api, token_url: str) -> Api:
    """The token endpoint as an API of its own: the API's headers, parameters and limits are not meant for it."""
    changed: dict[str, Any] = {
        "url": token_url,
        "origins": [],
        "headers": {},
        "query": {},
        "limits": [],
        "quota": None,
        "wait": [],
    }
    return api.model_copy(update={**changed, "errors": [], "encoding": "form"})


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """``renewal.Issuer`` for the kinds with a `token_url`."""

    auth: TokenAuth
    config: str
    seed: str
    secrets: Mapping[str, Secret]
    builder: RequestBuilder  # of the token endpoint: what is sent there can go nowhere else
    ask: Ask
    clock: Clock
    signer: Signer | None = None

    def obtain(self, before: Grant | None, stop: Event) -> Grant:
        """Raises CredentialsError (revoked, wrong client), PermissionDenied (scope), and what any request raises."""
        spent = self._refresh_token(before)
        try:
            answer = self.ask(self._request(spent), RULES, stop)
        except CredentialsError as error:
            raise self._refused(error, before) from None
        except PermissionDenied as error:
            error.next = "grant the application this scope and grant type in the outside system"
            raise
        return self._granted(answer, spent)

    def credentials(self, grant: Grant, url: str) -> Credentials:
        prefix = self.auth.prefix if isinstance(self.auth, Jwt) else "Bearer "
        return ((AUTHORIZATION, Secret(prefix + grant.values["access_token"])),)

    def _refresh_token(self, before: Grant | None) -> str:
        """The latest descendant of the secret's; the secret's own where there is none yet, or it was replaced."""
        if not isinstance(self.auth, OAuth2Refresh):
            return ""
        if before is not None and before.refresh_token and before.seed == self.seed:
            return before.refresh_token
        return revealed(self.auth.refresh_token, self.secrets)

    def _request(self, refresh_token: str) -> Request:
        given: dict[str, Any] = {}
        if isinstance(self.auth, Jwt):
            assert self.signer is not None
            given = {"grant_type": JWT_BEARER, "assertion": self.signer.token()}
        elif isinstance(self.auth, OAuth2Refresh):
            given = {"grant_type": "refresh_token", "refresh_token": refresh_token, "scope": self.auth.scope}
        else:
            given = {"grant_type": "client_credentials", "scope": self.auth.scope}
        extra = {} if isinstance(self.auth, Jwt) else self.auth.extra
        call = Call.model_validate({"request": f"POST {self.auth.token_url}", "body": extra})
        sends = [(SendPlace("body", path=Path((name,))), value) for name, value in given.items() if value is not None]
        request = self.builder.build(call, {}, sends)
        return request if isinstance(self.auth, Jwt) else self._with_client(request, self.auth)

    def _with_client(self, request: Request, auth: OAuth2ClientCredentials | OAuth2Refresh) -> Request:
        from authlib.oauth2.auth import ClientAuth

        client_id, secret = revealed(auth.client_id, self.secrets), revealed(auth.client_secret, self.secrets)
        method = {"basic": "client_secret_basic", "body": "client_secret_post"}[auth.client_auth] if secret else "none"
        _, headers, body = ClientAuth(client_id, secret, method).prepare("POST", request.url, {}, "")
        parts = [part for part in (request.content or b"", body.encode()) if part]
        return replace(request, headers={**request.headers, **headers}, content=b"&".join(parts))

    def _granted(self, answer: Answer, spent: str) -> Grant:
        document = answer.document if isinstance(answer.document, dict) else {}
        token = document.get("access_token")
        if not isinstance(token, str) or not token:
            where = answer.request
            raise ContractError("the token endpoint's answer holds no access_token", where=where)
        rotated = document.get("refresh_token")
        return Grant(
            config=self.config,
            values={"access_token": token},
            refresh_token=rotated if isinstance(rotated, str) and rotated else spent,
            seed=self.seed,
            renew_at=renewal(self.clock.now().timestamp(), lifetime_of(document.get("expires_in"))),
        )

    def _refused(self, error: CredentialsError, before: Grant | None) -> CredentialsError:
        """Who must do what: the words depend on what was shown."""
        if isinstance(self.auth, Jwt):
            next = "compare the key, `key_id` and `claims` of `auth` with what the source expects"
            return CredentialsError(f"the signed assertion was refused: {error.what}", where=error.where, next=next)
        if "invalid_grant" not in error.what or not isinstance(self.auth, OAuth2Refresh):
            next = "compare the client id and secret with the application in the outside system, renew the secret"
            return CredentialsError(f"the client is not accepted: {error.what}", where=error.where, next=next)
        what = f"the refresh token was revoked, has expired or was used before: {error.what}"
        if before is not None and before.spending_since is not None:
            at = datetime.fromtimestamp(before.spending_since, UTC).strftime("%Y-%m-%d %H:%M UTC")
            what += f"; a renewal begun at {at} ended before its answer was stored, so that token may be lost"
        return CredentialsError(
            what,
            where=error.where,
            who="whoever holds the account",
            next="allow the access again, put the new refresh token into the secret"
            f" {self.auth.refresh_token.removeprefix('$')}, then run `integrations connect`",
        )


def lifetime_of(told: Any) -> float | None:
    """`expires_in` in seconds, as a number or its text; None where it isn't told."""
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        seconds = float(told)
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e10 else None
