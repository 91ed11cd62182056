"""Credentials that are obtained at run time: by expiry, at most once on a 401, and by one process among many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Protocol

from integrations_pipeline.client.auth import Credentials, Shown
from integrations_pipeline.client.grant import Grant, grant_of
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.client.retry import Waiting
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import ConfigError, CredentialsError, Transient
from integrations_pipeline.spec.limits import HOLD_SECONDS
from integrations_pipeline.spec.ports import TokenStore
from integrations_pipeline.spec.secrets import Secret

ASK_AGAIN_SECONDS = 0.1  # while another process renews
RETRY_AFTER = timedelta(seconds=30)


class Issuer(Protocol):
    """One way to obtain a grant from the source."""

    @property
    def config(self) -> str:
        """Digest of what the grants depend on."""

    @property
    def seed(self) -> str:
        """Not empty where refresh tokens are spent: that is noted before it is done."""

    def obtain(self, before: Grant | None, stop: Event) -> Grant:
        """A new grant, by what was stored before. Raises CredentialsError where the source refuses."""

    def credentials(self, grant: Grant, url: str) -> Credentials:
        """What a request to this URL shows of it."""


@dataclass(frozen=True, slots=True)
class Current:
    """A grant that one request shows."""

    grant: Grant
    show: Callable[[Grant, str], Credentials]

    def at(self, url: str) -> Credentials:
        return self.show(self.grant, url)


class Renewable:
    """``Proof`` of a kind that obtains grants. ``try_again``: a refusal noted earlier doesn't stop the next try."""

    def __init__(self, issuer: Issuer, tokens: TokenStore, clock: Clock, meter: Meter, redactor: Redactor):
        self._issuer, self._tokens, self._clock, self._meter = issuer, tokens, clock, meter
        self._redactor = redactor
        self._grant: Grant | None = None
        self._accepted = ""  # the grant that the source took last
        self._obtained = ""  # the grant that this process asked for last
        self.try_again = False

    def shown(self, stop: Event) -> Current:
        grant = self._grant
        if grant is None or not grant.usable(self._issuer.config, self._now()):
            grant = self._renewed(None, stop)
        return Current(grant, self._issuer.credentials)

    def accepted(self, shown: Shown) -> None:
        if isinstance(shown, Current):
            self._accepted = shown.grant.id

    def instead_of(self, refused: Shown, stop: Event) -> Current | None:
        """A grant that was asked for just now and never taken is not renewed: another one would fare no better."""
        if not isinstance(refused, Current) or refused.grant.id == self._obtained != self._accepted:
            return None
        return Current(self._renewed(refused.grant, stop), self._issuer.credentials)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _renewed(self, refused: Grant | None, stop: Event) -> Grant:
        """Whoever is alone asks the source; the others wait and take what it stored."""
        waiting = Waiting(self._clock, self._meter, stop)
        ends = self._clock.monotonic_seconds() + HOLD_SECONDS
        while True:
            with self._tokens.alone() as alone:
                stored = self._read()
                if stored is not None and self._fits(stored, refused):
                    return self._remember(stored)
                if alone:
                    return self._obtain(stored, stop)
            if self._clock.monotonic_seconds() > ends:
                resume_at = self._clock.now() + RETRY_AFTER
                raise Transient("another process is still renewing the credentials", resume_at=resume_at)
            waiting.hold(ASK_AGAIN_SECONDS, "another process renews the credentials")

    def _read(self) -> Grant | None:
        try:
            return grant_of(self._tokens.read(self._issuer.seed))
        except ConfigError:
            if self.try_again and not self._issuer.seed:
                return None  # nothing is lost by asking anew
            raise

    def _fits(self, stored: Grant, refused: Grant | None) -> bool:
        known = refused is not None and stored.id == refused.id
        return not known and stored.usable(self._issuer.config, self._now())

    def _obtain(self, before: Grant | None, stop: Event) -> Grant:
        """Asks the source and stores its answer before anybody uses it."""
        self._refuse_again(before)
        if before is not None:
            self._learn(before)
        noted = self._note_spending(before)
        try:
            grant = self._issuer.obtain(before, stop)
        except CredentialsError as error:
            self._tokens.write(self._refusal(noted, error).stored(), self._issuer.seed, None)
            raise
        self._learn(grant)
        ends = datetime.fromtimestamp(grant.renew_at, UTC) if grant.renew_at is not None else None
        self._tokens.write(grant.stored(), self._issuer.seed, ends)
        self._obtained, self.try_again = grant.id, False
        return self._remember(grant)

    def _refuse_again(self, before: Grant | None) -> None:
        """The source said no to these very secrets: they are not shown again until they change, or a person asks."""
        if before is None or before.refused is None or before.config != self._issuer.config or self.try_again:
            return
        told = before.refused
        at = datetime.fromtimestamp(told["at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
        what = f"{told['what']} (on {at}; it is not asked again until the secret changes)"
        raise CredentialsError(what, who=told["who"], next=told["next"])

    def _note_spending(self, before: Grant | None) -> Grant:
        """Noted before a refresh token is spent: it proves that the store takes a write, and explains a crash."""
        known = before or Grant(config=self._issuer.config, seed=self._issuer.seed)
        if not self._issuer.seed:
            return known
        noted = replace(known, spending_since=int(self._now()), refused=None)
        self._tokens.write(noted.stored(), self._issuer.seed, None)
        return noted

    def _refusal(self, noted: Grant, error: CredentialsError) -> Grant:
        told = {"what": error.what, "who": error.who, "next": error.next, "at": int(self._now())}
        return replace(noted, config=self._issuer.config, values={}, cookies={}, refused=told)

    def _remember(self, grant: Grant) -> Grant:
        self._learn(grant)
        self._grant = grant
        return grant

    def _learn(self, grant: Grant) -> None:
        self._redactor.learn(Secret(text) for text in grant.texts())
