"""Checks a signed token as a source does: signature, key id, time, claims. Written apart from what signs them."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from integrations_pipeline.spec.auth import Jwt
from integrations_pipeline.spec.errors import ConfigError

if TYPE_CHECKING:
    from joserfc.jwk import Key

SKEW_SECONDS = 5
KEY_TYPES = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True)
class Verifier:
    auth: Jwt
    reveal: Callable[[str], str]
    now: Callable[[], float]

    def accepts(self, text: str) -> bool:
        from joserfc import errors, jwt

        try:
            token = jwt.decode(text, self.key(), algorithms=[self.auth.algorithm])
        except (errors.JoseError, ValueError):
            return False
        claims, now = token.claims, self.now()
        lifetime = self.auth.lifetime.total_seconds()
        in_time = claims.get("iat", now + 60) <= now + SKEW_SECONDS and now < claims.get("exp", 0) <= now + lifetime + 1
        declared = all(
            claims.get(name) == (self.reveal(value) if isinstance(value, str) else value)
            for name, value in self.auth.claims.items()
        )
        return in_time and declared and token.header.get("kid") == self.auth.key_id

    def key(self) -> Key:
        from joserfc.jwk import import_key

        text, encoding = self.reveal(self.auth.key), self.auth.key_encoding
        try:
            if encoding in ("hex", "base64"):
                material = bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text)
            else:
                material = text.replace("\\n", "\n").encode()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                key: Key = import_key(material, KEY_TYPES[self.auth.algorithm[:2]])  # type: ignore[call-overload]
        except ValueError:
            raise ConfigError(f"{self.auth.key} can't be read as a key for {self.auth.algorithm}") from None
        return key
