"""What a simulated source tells of a change: an event in the form the connection's `webhook` reads, and who gets it."""

from __future__ import annotations

import secrets as randomness
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.signatures import sign
from integrations_pipeline.simulator.records import put
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import ReadPlace
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.webhook import EventRule, Subscribe, Webhook

Verb = Literal["created", "updated", "deleted"]
Row = dict[str, Any]

WORDS: dict[Verb, tuple[str, ...]] = {
    "created": ("created", "create", "creation", "opened", "added", "new"),
    "updated": ("updated", "update", "edited", "changed", "change"),
    "deleted": ("deleted", "delete", "deletion", "removed", "cancelled"),
}
"""How providers end the name of an event; where `events` names none of them, the first of its patterns is taken."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Somebody who is told. ``event`` is the pattern subscribed to (None: all), ``kept`` what the answer gave away."""

    id: str
    url: str
    event: str | None = None
    kept: Row = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A change of one record, as it can be told. ``record`` is None where only its key is known any more."""

    stream: str
    verb: Verb
    record: Row
    key: Any
    order: Any


@dataclass
class Message:
    """An event being put together: the document it lies in, and what goes beside the body."""

    event: Row
    document: Any
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)

    def holds(self, place: ReadPlace) -> bool:
        if place.kind in ("header", "query"):
            return place.name in (self.headers if place.kind == "header" else self.query)
        return place.path.get(self.inside(place)) is not MISSING

    def put(self, place: ReadPlace, value: Any) -> None:
        """Puts it there unless something is there already."""
        if self.holds(place):
            return
        if place.kind == "header":
            self.headers[place.name] = as_text(value)
        elif place.kind == "query":
            self.query[place.name] = as_text(value)
        elif isinstance(found := self.inside(place), dict):
            put(found, place.path.parts, value)

    def inside(self, place: ReadPlace) -> Any:
        return self.event if place.kind == "here" else self.document


def rule_for(webhook: Webhook, stream: str, verb: Verb, *, flagged: bool) -> tuple[str, EventRule] | None:
    """The pattern and rule that tell of such a change; None where the provider says nothing of it.

    ``flagged``: a deleted record still comes, with a mark, so that an `upsert` can tell of it.
    """
    rules = [(pattern, rule) for pattern, rule in webhook.events.items() if rule.stream == stream]
    if verb == "deleted":
        told = [one for one in rules if one[1].delete] or [one for one in rules if one[1].sync or one[1].fetch]
        told = told or (rules if flagged else [])
    else:
        told = [one for one in rules if not one[1].delete]
    ends = [one for one in told if one[0].replace("/", ".").split(".")[-1] in WORDS[verb]]
    return next(iter([*ends, *(one for one in told if "*" in one[0]), *told]), None)


def message(webhook: Webhook, found: tuple[str, EventRule], told: Occurrence, event_id: str) -> Message:
    """The event, so that each place of `webhook` reads from it what happened."""
    pattern, rule = found
    made = laid_out(webhook, event_with(webhook, rule, told))
    if rule.key is not None:
        made.put(ReadPlace("here", path=rule.key), told.key)
    event_type = pattern.replace("**", told.verb).replace("*", told.verb)
    places: Sequence[ReadPlace] = webhook.event_type or ()
    for place, text in zip(places, event_type.split(".", len(places) - 1) if places else [], strict=False):
        made.put(place, text)
    for place in webhook.order_by or ():
        made.put(place, told.order)
    for place in webhook.event_id or ():
        made.put(place, event_id)
    if webhook.verify.type == "standard_webhooks":
        made.headers.setdefault("webhook-id", event_id)
    return made


def event_with(webhook: Webhook, rule: EventRule, told: Occurrence) -> Row:
    """The record where the rule looks for it, or where another rule of its stream would: senders tell more than a key.

    A deleted record that is told by its key alone leaves room for it.
    """
    others = [one for one in webhook.events.values() if one.stream == rule.stream]
    path = next((one.record for one in [rule, *others] if one.record is not None), None)
    if path is None:
        return {}
    event: Row = {}
    if path.parts:
        put(event, path.parts, told.record)
    return event if path.parts else dict(told.record)


def laid_out(webhook: Webhook, event: Row) -> Message:
    """The event in the list that `each` reads; alone without one."""
    if webhook.each is None:
        return Message(event, event)
    document: Row = {}
    if webhook.each.parts:
        put(document, webhook.each.parts, [event])
    return Message(event, document if webhook.each.parts else [event])


def delivery(webhook: Webhook, made: Message, url: str) -> Delivery:
    """The request as it will be sent, but for its signature. Its body is JSON where a signature goes into it."""
    method = next((one for one in webhook.methods if one in ("POST", "PUT")), "POST")
    if made.query:
        url += ("&" if "?" in url else "?") + urlencode(made.query, quote_via=quote)
    headers = [(name.lower(), value) for name, value in made.headers.items()]
    if webhook.payload == "json" or signs_into_body(webhook):
        return Delivery(method, url, [*headers, ("content-type", "application/json")], encode(made.document))
    body = urlencode(fields_of(webhook, made.document)).encode()
    headers.append(("content-type", "application/x-www-form-urlencoded"))
    return Delivery(method, url, headers, body, webhook.payload)


def signed(webhook: Webhook, secrets: Sequence[Secret], sent: Delivery, at: datetime) -> Delivery:
    """The request with its signature. One that lies in the body is put there before the form is written around it."""
    made = sign(webhook, secrets, sent, at)
    if webhook.payload == "json" or not signs_into_body(webhook):
        return made
    fields = fields_of(webhook, decode(made.body))
    headers = [(name, value) for name, value in made.headers if name != "content-type"]
    headers.append(("content-type", "application/x-www-form-urlencoded"))
    return replace(made, headers=headers, body=urlencode(fields).encode(), payload=webhook.payload)


def signs_into_body(webhook: Webhook) -> bool:
    return webhook.verify.signature is not None and webhook.verify.signature.kind in ("here", "body")


def fields_of(webhook: Webhook, document: Any) -> list[tuple[str, str]]:
    """The fields of a form: one that holds all as JSON, or one per key."""
    name = webhook.payload.removeprefix("form").strip()
    if name:
        return [(name, encode(document).decode())]
    if not isinstance(document, dict):
        raise DataError("a form holds one event, and `each` names a list of them")
    return [
        (key, encode(one).decode() if isinstance(one, dict | list) else as_text(one)) for key, one in document.items()
    ]


def kept_values(subscribe: Subscribe, webhook: Webhook, number: int) -> Row:
    """What the provider's answer tells of a new subscription: its id, and secrets of its own making."""
    return {name: made_up(name, webhook, number) for name in subscribe.keep}


def made_up(name: str, webhook: Webhook, number: int) -> Any:
    if f"<subscription.{name}>" not in secret_names(webhook):
        return number
    raw = randomness.token_bytes(24)
    if webhook.verify.type == "standard_webhooks":
        return f"whsec_{b64encode(raw).decode()}"
    return b64encode(raw).decode() if webhook.verify.key_encoding == "base64" else raw.hex()


def secret_names(webhook: Webhook) -> Iterator[str]:
    declared = webhook.verify.secret
    yield from declared if isinstance(declared, list) else [declared] if declared else []


def answer_to(subscribe: Subscribe, kept: Row, expires: str) -> Row:
    """The answer to the subscribing call, with what `keep` and `expires` read from it."""
    answer: Row = {}
    for name, path in subscribe.keep.items():
        put(answer, path.parts, kept[name])
    if subscribe.expires is not None and subscribe.expires.path.parts:
        put(answer, subscribe.expires.path.parts, expires)
    return answer
