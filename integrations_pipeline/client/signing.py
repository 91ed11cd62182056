"""JSON Web Tokens signed by ourselves: sent as they are, or as the assertion that a token endpoint takes."""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from integrations_pipeline.client.auth import AUTHORIZATION, Credentials, Fixed, Shown, revealed
from integrations_pipeline.client.grant import renewal
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.spec.auth import Jwt
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.secrets import Secret

if TYPE_CHECKING:
    from joserfc.jwk import Key

BACKDATED_SECONDS = 30  # a source whose clock is behind ours refuses a token of the future
BACKDATED_PART = 10
KINDS = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


def key_material(auth: Jwt, secrets: Mapping[str, Secret]) -> bytes:
    """The key as the algorithm takes it. Raises ConfigError where it isn't written as `key_encoding` says."""
    text = revealed(auth.key, secrets)
    try:
        if auth.key_encoding == "hex":
            return bytes.fromhex(text)
        if auth.key_encoding == "base64":
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise wrong_key(auth, f"is not written in {auth.key_encoding}") from None
    return (text.replace("\\n", "\n") if auth.key_encoding == "pem" else text).encode()  # variables hold no lines


def signing_key(auth: Jwt, secrets: Mapping[str, Secret]) -> Key:
    """Raises ConfigError for a key that doesn't fit the algorithm."""
    from joserfc.jwk import import_key

    kind = KINDS[auth.algorithm[:2]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys shorter than advised: the source gave them
            key: Key = import_key(key_material(auth, secrets), kind)  # type: ignore[call-overload]
    except (ValueError, TypeError):  # also joserfc's and cryptography's own: their texts may quote the key
        raise wrong_key(auth, f"can't be read as a key for {auth.algorithm}") from None
    if kind != "oct" and not key.is_private:
        raise wrong_key(auth, "is a public key; signing needs the private one")
    return key


def wrong_key(auth: Jwt, what: str) -> ConfigError:
    return ConfigError(
        f"the key of `auth` ({auth.key}) {what}",
        next="compare `algorithm` and `key_encoding` with what the source gave you; a PEM file is best named as"
        " {file: /path}",
    )


class Signer:
    """Makes tokens of the declared claims. Raises ConfigError for a key that can't be used."""

    def __init__(self, auth: Jwt, secrets: Mapping[str, Secret], clock: Clock):
        self._auth, self._clock = auth, clock
        self._key = signing_key(auth, secrets)
        self._claims = filled(auth.claims, secrets)
        if auth.token_url:
            self._claims.setdefault("aud", auth.token_url)  # RFC 7523, section 3

    def token(self) -> str:
        """One that is valid from now on for the declared lifetime."""
        from joserfc import jwt

        lifetime = int(self._auth.lifetime.total_seconds())
        issued_at = int(self._clock.now().timestamp()) - min(BACKDATED_SECONDS, lifetime // BACKDATED_PART)
        header = {"alg": self._auth.algorithm, **({"kid": self._auth.key_id} if self._auth.key_id else {})}
        claims = {"iat": issued_at, "exp": issued_at + lifetime, **self._claims}
        return jwt.encode(header, claims, self._key, algorithms=[self._auth.algorithm])


def filled(value: Any, secrets: Mapping[str, Secret]) -> Any:
    """A copy with its secrets."""
    if isinstance(value, dict):
        return {key: filled(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, secrets) for inner in value]
    return revealed(value, secrets) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Signature(Fixed):
    renew_at: int = 0


class Signed:
    """``Proof`` by a token of our own, signed anew shortly before it expires, and once after a 401."""

    def __init__(self, auth: Jwt, signer: Signer, clock: Clock, redactor: Redactor):
        self._auth, self._signer, self._clock, self._redactor = auth, signer, clock, redactor
        self._current: Signature | None = None
        self._accepted: Shown | None = None

    def shown(self, stop: Event) -> Signature:
        current, now = self._current, self._clock.now().timestamp()
        if current is None or now >= current.renew_at:
            current = self._signed(now)
        return current

    def accepted(self, shown: Shown) -> None:
        self._accepted = shown

    def instead_of(self, refused: Shown, stop: Event) -> Signature | None:
        if refused is not self._accepted:
            return None
        return self._signed(self._clock.now().timestamp())

    def _signed(self, now: float) -> Signature:
        lifetime = self._auth.lifetime.total_seconds()
        token = self._signer.token()
        self._redactor.learn([Secret(token)])
        credentials: Credentials = ((AUTHORIZATION, Secret(self._auth.prefix + token)),)
        renew_at = renewal(now, lifetime - min(BACKDATED_SECONDS, lifetime // BACKDATED_PART))
        self._current = Signature(credentials, renew_at or 0)
        return self._current
