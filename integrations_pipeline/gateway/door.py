"""The door of one connection: what is asked of a delivery, and the events it holds. Nothing here waits for anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations_pipeline.client.delivery import Delivery, Part, joined
from integrations_pipeline.client.redaction import redactor_of, resolved
from integrations_pipeline.client.signatures import Signatures, matches
from integrations_pipeline.gateway.verifying import OwnVerifier
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.decoding import encode, encode_ascii
from integrations_pipeline.spec.errors import ConfigError, ContractError, DataError
from integrations_pipeline.spec.limits import WEBHOOK_EVENTS
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import ReadPlace
from integrations_pipeline.spec.secrets import Secret, reference_in
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.spec.webhook import PUBLIC_URL, Handshake, Webhook
from integrations_pipeline.store.inbox import Event

SUBSCRIPTION = re.compile(r"<subscription\.([^<>\s]+)>")
Kept = Mapping[str, Any]
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender is told."""

    status: int
    body: bytes = b""
    media_type: str = TEXT


class Door:
    """Built when files change, used for each delivery.

    Raises ConfigError where nothing could be verified: a secret is missing, or the public address that is signed.
    """

    def __init__(
        self,
        connection: Connection,
        webhook: Webhook,
        public_url: str | None,
        kept: Sequence[Kept] = (),
        own: OwnVerifier | None = None,
    ):
        """``kept``: what the provider gave for each of the connection's subscriptions. ``own`` is asked beside the
        declared scheme, by ``own_refusal``."""
        self.own = own
        self.name = connection.name
        self.webhook = webhook
        signing = signing_secrets(connection, webhook, kept)
        self.signatures = Signatures(webhook, signing)
        self.knows = redactor_of(connection, resolved(connection), signing)
        self.token = secret_of(connection, webhook.handshake.secret) if webhook.handshake else None
        reply = webhook.reply
        self.reply = Answer(reply.status, reply.body.encode()) if reply else Answer(202)
        self.kept_headers = sorted({place.name.lower() for place in places(webhook) if place.kind == "header"})
        if self.signatures.needs_url and not public_url:
            raise ConfigError(
                f"the sender signs the address it calls, and {PUBLIC_URL} is not set",
                where=self.name,
                who="whoever runs the gateway",
                next=f"set {PUBLIC_URL} to the address the sender was given, without /webhooks/…",
            )

    def greeting(self, delivery: Delivery) -> Answer | None:
        """The answer to a handshake, or to a HEAD; None for a delivery of events. Raises ContractError."""
        handshake = self.webhook.handshake
        if handshake is not None and self.is_greeting(handshake, delivery):
            return echo(handshake, delivery) if handshake.echo else Answer(200, self.reply.body)
        return Answer(200) if delivery.method == "HEAD" else None

    def is_greeting(self, handshake: Handshake, delivery: Delivery) -> bool:
        try:
            if not handshake.when.holds(delivery.document):
                return False
        except ContractError:  # no handshake, but perhaps a delivery: that is for its signature to say
            return False
        if self.token is None or handshake.token is None:
            return True
        given = [as_text(one).encode("utf-8", "replace") for one in delivery.values(handshake.token)]
        return matches([self.token.reveal().encode("utf-8", "replace")], given)

    def refusal(self, delivery: Delivery, now: datetime) -> str | None:
        """Why a delivery proves nothing, in a word for our log; None where it is genuine."""
        return self.signatures.refusal(delivery, now)

    def own_refusal(self, delivery: Delivery) -> str | None:
        """The same by the team's own hook, which may take its time."""
        return self.own.refusal(delivery) if self.own is not None else None

    def events(self, delivery: Delivery) -> list[Event]:
        """The events of a genuine delivery, without credentials that it repeats. Raises ContractError where it can't be
        read, or holds too many."""
        found = [self.event(part) for part in self.parts(delivery)]
        if len(found) > WEBHOOK_EVENTS:
            raise ContractError(f"a delivery of more than {WEBHOOK_EVENTS} events")
        return found

    def parts(self, delivery: Delivery) -> Iterator[Part]:
        """Where `each` finds no list, the whole is one event: what is signed is kept, whatever it is."""
        items = self.webhook.each.get(delivery.document) if self.webhook.each else MISSING
        repeats = self.knows.repeated_in(delivery.body or delivery.url.encode("utf-8", "replace"))
        for item in items[: WEBHOOK_EVENTS + 1] if isinstance(items, list) else [delivery.document]:
            yield Part(delivery, self.knows.data(item) if repeats else item)

    def event(self, part: Part) -> Event:
        hook = self.webhook
        payload = json_text(part.document)
        headers = {
            name: self.knows.data(found[0]) for name in self.kept_headers if (found := part.delivery.header(name))
        }
        return Event(
            self.name,
            joined(part, hook.event_id or ()),
            hashlib.blake2b(payload.encode(), digest_size=16).digest(),
            joined(part, hook.event_type or ()),
            order_text(part, hook.order_by or ()),
            payload,
            encode(headers).decode(),
        )


def echo(handshake: Handshake, delivery: Delivery) -> Answer:
    """The value asked for, as text; an object as JSON. Where it is missing, nothing."""
    assert handshake.echo is not None
    found = delivery.values(handshake.echo)[:1]
    if found and isinstance(found[0], dict | list):
        return Answer(200, json_text(found[0]).encode(), JSON)
    return Answer(200, "".join(map(as_text, found)).encode("utf-8", "replace"))


def places(webhook: Webhook) -> Iterator[ReadPlace]:
    for found in (webhook.event_type, webhook.event_id, webhook.order_by):
        yield from found or ()


def json_text(value: Any) -> str:
    """Exact JSON; NaN and lone surrogates, which have none, as the text of what they are."""
    try:
        return encode(value).decode()
    except DataError:
        return encode_ascii(value)


def order_text(part: Part, order_by: Sequence[ReadPlace]) -> str | None:
    """The event's place in the source's order, sortable; None where it has none."""
    found = part.values(order_by[0])[:1] if len(order_by) == 1 else [joined(part, order_by)]
    try:
        return version_text(found[0]) if found and found[0] is not None else None
    except ValueError:
        return None


def signing_secrets(connection: Connection, webhook: Webhook, kept: Sequence[Kept]) -> list[Secret]:
    declared = webhook.verify.secret
    names = declared if isinstance(declared, list) else [declared]
    found: list[Secret] = []
    for name in names:
        given = [one[key] for one in kept if (key := subscription_key(name)) in one]
        found += [Secret(as_text(value)) for value in given]
        if not given and (secret := secret_of(connection, name)) is not None:
            found.append(secret)
    return found


def subscription_key(text: str | None) -> str:
    """The name in ``<subscription.NAME>``; empty for anything else."""
    found = SUBSCRIPTION.fullmatch(text or "")
    return found[1] if found else ""


def secret_of(connection: Connection, text: str | None) -> Secret | None:
    """The secret that ``$NAME`` means. Raises ConfigError where it is missing."""
    if text is None:
        return None
    name = reference_in(text)
    sources: Mapping[str, Any] = connection.secrets
    if name is None or name not in sources:
        raise ConfigError(
            f"{text} is not known: nothing is subscribed",
            where=connection.name,
            next=f"run `integrations connect {connection.name}`",
        )
    try:
        secret: Secret = sources[name].resolve(name)
    except ConfigError as error:
        raise error.at(connection.name) from None
    return secret
