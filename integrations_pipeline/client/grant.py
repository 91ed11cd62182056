"""What a source granted at run time: tokens, kept values, cookies; and the form in which it is stored."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.limits import TOKEN_MARGIN_SECONDS

MARGIN_PART = 5  # of a short lifetime: a token of ten seconds is renewed after eight


@dataclass(frozen=True, slots=True)
class Grant:
    """One answer of the source. Moments are whole Unix seconds by our clock; no told end is None."""

    config: str  # digest of the declared auth and its secrets: a grant of other ones isn't used
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    cookies: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)  # by origin
    refresh_token: str = field(default="", repr=False)
    seed: str = ""  # digest of the first refresh token, of which this one is a descendant
    renew_at: int | None = None
    spending_since: int | None = None  # the refresh token has been sent, and no answer has been stored yet
    refused: dict[str, Any] | None = None  # why nothing is asked until the secret changes
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def usable(self, config: str, now: float) -> bool:
        """Whether requests can show it."""
        given = bool(self.values or self.cookies)
        return given and self.config == config and (self.renew_at is None or now < self.renew_at)

    def texts(self) -> Iterator[str]:
        """Every secret in it."""
        yield from (str(value) for value in self.values.values() if not isinstance(value, bool))
        for jar in self.cookies.values():
            yield from jar.values()
        yield self.refresh_token

    def stored(self) -> bytes:
        return encode(asdict(self))


def grant_of(stored: bytes | None) -> Grant | None:
    return Grant(**decode(stored)) if stored else None


def renewal(now: float, lifetime_seconds: float | None) -> int | None:
    """When a token is to be renewed: a margin before it expires."""
    if lifetime_seconds is None:
        return None
    return int(now + max(lifetime_seconds - min(TOKEN_MARGIN_SECONDS, lifetime_seconds / MARGIN_PART), 0.0))
