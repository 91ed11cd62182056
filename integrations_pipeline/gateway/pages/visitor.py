"""Who looks at a page: a signed cookie says so, and each form proves that it came from a page of ours.

The cookie holds an id, until when it counts, and a signature by a key that is made anew when the gateway starts. The
key isn't derived from INTEGRATIONS_TOKEN: every stranger gets such a signature, and could try tokens against it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.spec.limits import SESSION_HOURS

COOKIE = "integrations_session"
FORM_FIELDS = 200
FORM_TOKEN = "form_token"
MEMBER, GUEST = "member", "guest"


@dataclass(frozen=True)
class Visitor:
    """``cookie`` is what the browser keeps; ``form_token`` what a form of this visitor's must bring along. ``known``:
    by the token, or by being on this machine; ``signed_in``: by the cookie, which can be given back."""

    cookie: str
    form_token: str
    known: bool
    signed_in: bool


class Visitors:
    """Knows visitors again while this process lives. ``public_url``: where the gateway is reached from outside."""

    def __init__(self, access: Access, public_url: str | None):
        self.access, self._public = access, origin_of(public_url or "")
        self.secure = self._public.startswith("https:")
        self._key = secrets.token_bytes(32)
        self._ended: dict[str, int] = {}

    def visitor(self, http: Request) -> Visitor:
        """Of a request; a new guest where it brings no cookie of ours that still counts."""
        cookie = http.cookies.get(COOKIE, "")
        word = self._word(cookie)
        if word is None:
            cookie, word = self._cookie(GUEST), GUEST
        signed_in = word == MEMBER
        return Visitor(cookie, self._form_token(cookie), signed_in or self.access.refusal(http) is None, signed_in)

    def member(self) -> str:
        """A new cookie for whoever gave the token."""
        return self._cookie(MEMBER)

    def guest(self, leaving: Visitor) -> str:
        """A new cookie for whoever logged out; the one they had counts no more, whoever holds a copy of it."""
        if leaving.signed_in:
            now = time.time()
            self._ended = {cookie: until for cookie, until in self._ended.items() if until > now}
            self._ended[leaving.cookie] = until_of(leaving.cookie)
        return self._cookie(GUEST)

    def keep(self, response: Response, cookie: str) -> Response:
        response.set_cookie(
            COOKIE, cookie, max_age=SESSION_HOURS * 3600, httponly=True, samesite="strict", secure=self.secure
        )
        return response

    def forged(self, http: Request, form: Mapping[str, str], visitor: Visitor) -> str | None:
        """Why a form is not taken: it wasn't sent by a page of ours, to this visitor. None where it was."""
        if http.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "the form was sent by another site"
        origin = http.headers.get("origin")
        if origin is not None and origin != self._public and not names(origin, http.headers.get("host", "")):
            return (
                "the form was sent by another site; where a proxy stands between, it has to pass Host on, "
                "or INTEGRATIONS_PUBLIC_URL has to be this page's address"
            )
        if not hmac.compare_digest(form.get(FORM_TOKEN, "").encode(), visitor.form_token.encode()):
            return "the form is too old, or cookies are off"
        return None

    def _cookie(self, word: str) -> str:
        until = int(time.time()) + SESSION_HOURS * 3600
        said = f"{word}.{secrets.token_urlsafe(18)}.{until}"
        return f"{said}.{self._signed('cookie', said)}"

    def _word(self, cookie: str) -> str | None:
        said, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signed("cookie", said).encode()):
            return None
        ended = cookie in self._ended or until_of(cookie) <= time.time()
        return None if ended else said.partition(".")[0]

    def _form_token(self, cookie: str) -> str:
        return self._signed("form", cookie)

    def _signed(self, purpose: str, said: str) -> str:
        return hmac.new(self._key, f"{purpose}:{said}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def until_of(cookie: str) -> int:
    """When a cookie of ours ends, in seconds since 1970."""
    return int(cookie.split(".")[2])


def origin_of(url: str) -> str:
    """As browsers write it: small, without the scheme's own port."""
    parts = urlsplit(url)
    port = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(port)}"


def names(origin: str, host: str) -> bool:
    """Whether an origin is of the host that was asked; behind a proxy it may be of another scheme."""
    return bool(host) and origin.partition("://")[2] == host.lower()


def form_in(http: Request, body: bytes) -> dict[str, str]:
    """The fields of a form that was sent; of several with one name the last. Raises ValueError."""
    media_type = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise ValueError("a form was expected")
    pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS)
    if any("\0" in name + value for name, value in pairs):
        raise ValueError("no field of a form holds a NUL character")
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def own_path(path: str) -> str:
    """A path of ours to go on to; the first page where it might lead elsewhere."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"
