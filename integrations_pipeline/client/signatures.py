"""Signatures of webhooks, as the `verify` block declares them: one engine that checks and makes them all.

The schemes of Standard Webhooks, Stripe, GitHub, Shopify, HubSpot, Slack, DocuSign, Dropbox Sign, Square and Twilio are
data (docs/webhooks.md has each); nothing here knows a provider by name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote, urlsplit
from uuid import uuid4

from integrations_pipeline.client.delivery import Delivery, joined
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ConfigError, ContractError, DataError
from integrations_pipeline.spec.paths import parse_path
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import ReadPlace
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.webhook import LABELLED, SIGNED, Verify, Webhook

SIGNATURES = 100
"""Compared per delivery: DocuSign sends up to this many (one per key), others two while a secret is rotated."""

KEY_PREFIX = "whsec_"
DIGITS = re.compile(r"\d{1,16}", re.ASCII)
UNITS = {"s": 1.0, "ms": 1_000.0}
Part = Callable[[Delivery, str], bytes]

STANDARD = {
    "type": "hmac",
    "signature": "header webhook-signature",
    "format": "v1,<signature>",
    "encoding": "base64",
    "timestamp": "header webhook-timestamp",
    "signed": "<header webhook-id>.<timestamp>.<body>",
    "key_encoding": "base64",
}
"""Standard Webhooks in our own words: https://github.com/standard-webhooks/standard-webhooks, read 2025-10."""


class Signatures:
    """The scheme of one webhook with its secrets, the newest first: while one is rotated there are two.

    Raises ConfigError for a secret that isn't in the declared encoding; the message never holds it.
    """

    def __init__(self, webhook: Webhook, secrets: Sequence[Secret]):
        self.verify = expanded(webhook.verify)
        self.ids = webhook.event_id or ()
        self.keys = [key_bytes(secret, self.verify, webhook.verify.type) for secret in secrets]
        self.parts = [part(literal, word, self.ids) for literal, word in signed_parts(self.verify.signed or "")]
        labels = LABELLED.findall(self.verify.format or "<signature>")
        self.labels = {word: reader(label) if label else None for label, word in labels}

    @property
    def needs_url(self) -> bool:
        """Whether the address is signed, so that the public one must be known."""
        return "<url>" in (self.verify.signed or "")

    def refusal(self, delivery: Delivery, now: datetime) -> str | None:
        """Why the delivery proves nothing (``signature``, ``timestamp`` or ``malformed``), or None where it is genuine.

        For our log only: a sender is never told which. Signatures are compared in constant time, as raw bytes.
        """
        try:
            return self._refusal(delivery, now)
        except (ContractError, DataError):
            return "malformed"

    def _refusal(self, delivery: Delivery, now: datetime) -> str | None:
        if self.verify.type == "none":
            return None
        given = list(self.given(delivery, "signature"))
        if not given or len(given) > SIGNATURES:
            return "signature"
        if self.verify.type == "shared_secret":
            wanted, found = (
                self.keys,
                [one.removeprefix(self.verify.prefix).encode("utf-8", "replace") for one in given],
            )
            if not all(one.startswith(self.verify.prefix) for one in given):
                return "signature"
            return None if matches(wanted, found) else "signature"
        stamp = self.timestamp(delivery)
        if stamp is not None and not self.in_time(stamp, now):
            return "timestamp"
        found = [raw for one in given if (raw := self.decoded(one)) is not None]
        signed = self.signed(delivery, stamp or "")
        return None if matches([self.digest(key, signed) for key in self.keys], found) else "signature"

    def given(self, delivery: Delivery, word: str) -> Iterator[str]:
        """Each signature, or time stamp, in the place of the signature."""
        assert self.verify.signature is not None
        find = self.labels.get(word)
        for value in delivery.values(self.verify.signature):
            text = as_text(value)
            yield from [text.strip()] if find is None else find(text)

    def timestamp(self, delivery: Delivery) -> str | None:
        """The stamp as it was signed; None where the scheme has none. Raises ContractError where it is missing."""
        if self.verify.timestamp is not None:
            found = [as_text(value) for value in delivery.values(self.verify.timestamp)]
        elif "timestamp" in self.labels:
            found = list(self.given(delivery, "timestamp"))
        else:
            return None
        if len(found) != 1:
            raise ContractError("one time stamp was expected")
        return found[0]

    def in_time(self, stamp: str, now: datetime) -> bool:
        """Neither too old, which may be a replay, nor from the future, which could be replayed for long."""
        if not DIGITS.fullmatch(stamp):
            raise ContractError("a time stamp that is no number")
        seconds = int(stamp) / UNITS[self.verify.unit]
        return abs(now.timestamp() - seconds) <= self.verify.tolerance.total_seconds()

    def signed(self, delivery: Delivery, stamp: str) -> bytes:
        return b"".join(one(delivery, stamp) for one in self.parts)

    def digest(self, key: bytes, signed: bytes) -> bytes:
        return hmac.digest(key, signed, self.verify.algorithm)

    def decoded(self, text: str) -> bytes | None:
        try:
            return binascii.unhexlify(text) if self.verify.encoding == "hex" else base64.b64decode(text, validate=True)
        except ValueError:
            return None

    def encoded(self, digest: bytes) -> str:
        return digest.hex() if self.verify.encoding == "hex" else base64.b64encode(digest).decode()


def sign(webhook: Webhook, secrets: Sequence[Secret], delivery: Delivery, at: datetime) -> Delivery:
    """The delivery with what proves its sender: what ``Signatures`` accepts. Signs with each secret, as while one is
    rotated.

    A time stamp and (Standard Webhooks) an id are added; one that is there already stays. Raises ConfigError for a
    secret in the wrong encoding, DataError where a place can't be written to.
    """
    scheme = Signatures(webhook, secrets)
    verify = scheme.verify
    if verify.type == "none" or verify.signature is None:
        return delivery
    if verify.type == "shared_secret":
        return placed(delivery, verify.signature, [verify.prefix + secrets[0].reveal()])
    if webhook.verify.type == "standard_webhooks" and not delivery.header("webhook-id"):
        delivery = placed(delivery, ReadPlace("header", name="webhook-id"), [f"msg_{uuid4().hex}"])
    stamp = str(int(at.timestamp() * UNITS[verify.unit]))
    if verify.timestamp is not None:
        found = delivery.values(verify.timestamp)
        stamp = as_text(found[0]) if found else stamp
        delivery = delivery if found else placed(delivery, verify.timestamp, [stamp])
    signed = scheme.signed(delivery, stamp)
    proofs = [scheme.encoded(scheme.digest(key, signed)) for key in scheme.keys]
    return placed(delivery, verify.signature, written(verify.format, stamp, proofs))


def written(format: str | None, stamp: str, proofs: list[str]) -> list[str]:
    """The signatures as one header holds them, or as several where there is no format."""
    if format is None:
        return proofs
    first = format.replace("<timestamp>", stamp).replace("<signature>", proofs[0])
    label = next(label for label, word in LABELLED.findall(format) if word == "signature")
    between = "," if "<timestamp>" in format else " "
    return [between.join([first, *(label + proof for proof in proofs[1:])])]


def placed(delivery: Delivery, place: ReadPlace, texts: list[str]) -> Delivery:
    """The delivery with texts at a place: headers (a series is numbered), the query, or a path in a JSON body."""
    if place.kind == "header":
        name = place.name.lower()
        names = [f"{name[:-1]}{number}" if name.endswith("-*") else name for number in range(1, len(texts) + 1)]
        return replace(delivery, headers=[*delivery.headers, *zip(names, texts, strict=True)])
    if place.kind == "query":
        mark = "&" if urlsplit(delivery.url).query else "?"
        return replace(delivery, url=f"{delivery.url}{mark}{place.name}={quote(texts[0], safe='')}")
    document = decode(delivery.body)
    if delivery.payload != "json" or not isinstance(document, dict):
        raise DataError(f"nothing can be written at {place.path}: the body is no JSON object")
    place.path.put(document, texts[0])
    return replace(delivery, body=encode(document))


def expanded(verify: Verify) -> Verify:
    """Standard Webhooks is a scheme like the others, with its keys filled in."""
    if verify.type != "standard_webhooks":
        return verify
    return Verify.model_validate({**STANDARD, "secret": verify.secret, "tolerance": verify.tolerance})


def key_bytes(secret: Secret, verify: Verify, declared: str) -> bytes:
    text = secret.reveal()
    if declared == "standard_webhooks":
        text = text.removeprefix(KEY_PREFIX)
    try:
        if verify.key_encoding == "hex":
            return binascii.unhexlify(text)
        return base64.b64decode(text, validate=True) if verify.key_encoding == "base64" else text.encode()
    except ValueError:
        raise ConfigError(
            f"a secret of webhook.verify is not {verify.key_encoding}",
            who="whoever set the secret",
            next="copy the secret again from the provider's page, or correct `key_encoding`",
        ) from None


def signed_parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Literal text and words, in their order: (literal, None) or ("", word)."""
    end = 0
    for found in SIGNED.finditer(text):
        yield text[end : found.start()].replace("<<", "<"), None
        yield "", found[1]
        end = found.end()
    yield text[end:].replace("<<", "<"), None


def part(literal: str, word: str | None, ids: Sequence[ReadPlace]) -> Part:
    """How one part of what is signed is made of a delivery and its time stamp."""
    if word is None:
        return lambda delivery, stamp: literal.encode()
    kind, _, name = word.partition(" ")
    path = parse_path(name) if kind == "json" else None
    parts: dict[str, Part] = {
        "body": lambda delivery, stamp: delivery.body,
        "timestamp": lambda delivery, stamp: stamp.encode(),
        "url": lambda delivery, stamp: delivery.url.encode("utf-8", "surrogateescape"),
        "method": lambda delivery, stamp: delivery.method.encode(),
        "id": lambda delivery, stamp: (joined(delivery, ids) or "").encode("utf-8", "replace"),
        "form": lambda delivery, stamp: sorted_form(delivery),
        "header": lambda delivery, stamp: one_header(delivery, name),
        "json": lambda delivery, stamp: text_at(delivery, ReadPlace("here", path=path)) if path else b"",
    }
    return parts[kind]


def sorted_form(delivery: Delivery) -> bytes:
    """Names and values of a form without separators, sorted, each pair once.

    Source: https://www.twilio.com/docs/usage/security (2025-10) and the test of duplicates in Twilio's own libraries.
    """
    if not delivery.body:
        return b""
    return "".join(name + value for name, value in sorted(set(delivery.form))).encode("utf-8", "surrogatepass")


def one_header(delivery: Delivery, name: str) -> bytes:
    found = delivery.header(name)
    if len(found) != 1:
        raise ContractError(f"one header {name} was expected")
    return found[0].encode("latin-1", "replace")


def text_at(delivery: Delivery, place: ReadPlace) -> bytes:
    found = delivery.values(place)
    if len(found) != 1 or isinstance(found[0], dict | list):
        raise ContractError(f"a plain value was expected at {place.path}")
    return as_text(found[0]).encode("utf-8", "replace")


def reader(label: str) -> Callable[[str], list[str]]:
    """Finds each value with a label, wherever it stands in a list: ``v1=…``, ``v1,…``, ``sha256=…``."""
    return re.compile(rf"(?:^|[\s,;]){re.escape(label)}([^\s,;]+)").findall


def matches(wanted: list[bytes], found: list[bytes]) -> bool:
    """Whether any of one is any of the other, in constant time: each is compared with each, whatever is found."""
    return sum(hmac.compare_digest(one, other) for one in wanted for other in found) > 0
