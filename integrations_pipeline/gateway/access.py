"""Who may read and edit data through the gateway: whoever has the token; without one only this machine."""

from __future__ import annotations

import hmac
import os
from urllib.parse import urlsplit

from starlette.requests import Request

from integrations_pipeline.gateway.asked import Told
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import TOKEN_CHARACTERS

TOKEN = "INTEGRATIONS_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Access:
    """``token``: INTEGRATIONS_TOKEN unless given. ``public_url``: where the gateway is reached from outside.

    Raises ConfigError for a token that could be guessed.
    """

    def __init__(self, public_url: str | None, token: str | None = None):
        text = (os.environ.get(TOKEN, "") if token is None else token).strip()
        if 0 < len(text) < TOKEN_CHARACTERS:
            raise ConfigError(
                f"{TOKEN} holds {len(text)} characters, at least {TOKEN_CHARACTERS} were expected",
                who="whoever runs the gateway",
                next="make one with `openssl rand -base64 32`",
            )
        self._token = text.encode()
        self._public = public_url is not None and urlsplit(public_url).hostname not in LOOPBACK

    def refusal(self, http: Request) -> Told | None:
        """What whoever may not is told; None where they may."""
        if not self._token:
            return None if self._local(http) else refused(403, f"only this machine may, until {TOKEN} is set")
        scheme, _, given = http.headers.get("authorization", "").partition(" ")
        right = self.is_token(given) and scheme.lower() == "bearer"
        return None if right else refused(401, f"the bearer token of {TOKEN} was expected")

    def is_token(self, given: str) -> bool:
        """Whether it is the token; never where there is none."""
        return bool(self._token) and hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)

    @property
    def by_token(self) -> bool:
        """Whether there is a token to give."""
        return bool(self._token)

    def _local(self, http: Request) -> bool:
        """A proxy on this machine is as local as a browser that a foreign page sends here: neither is believed."""
        named = host_of(http.headers.get("host", ""))
        through = any(name in http.headers for name in PROXIED)
        peer = http.client.host if http.client else ""
        return not self._public and not through and peer in LOOPBACK and named in LOOPBACK


def host_of(named: str) -> str | None:
    """The host of a ``Host`` header, without its port; None for what is none."""
    try:
        return urlsplit(f"//{named}").hostname
    except ValueError:
        return None


def refused(status: int, why: str) -> Told:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Told(status, "permission", why, next="ask whoever runs the gateway", headers=headers)
