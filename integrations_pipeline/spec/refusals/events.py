"""Webhooks: what an event may do, given what its signature proves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.refusals.checked import Checked, Told, refusal
from integrations_pipeline.spec.secrets import reference_in
from integrations_pipeline.spec.webhook import LABELLED, SIGNED, SIGNED_WORDS, EventRule, Verify, event_pattern
from integrations_pipeline.spec.wording import did_you_mean, one_of
from integrations_pipeline.spec.yaml_text import KeyPath


def rules(c: Checked) -> Iterator[tuple[KeyPath, EventRule]]:
    for pattern, rule in (c.webhook.events if c.webhook else {}).items():
        yield ("webhook", "events", pattern), rule


def verb(rule: EventRule) -> str:
    return next(name for name in ("upsert", "fetch", "delete", "sync") if getattr(rule, name) is not None)


@refusal
def unknown_event_stream(c: Checked) -> Told:
    for path, rule in rules(c):
        if rule.stream not in c.stream_names:
            hint = did_you_mean(rule.stream, c.stream_names)
            yield (*path, verb(rule)), f"a stream was expected, not {rule.stream}{hint}"


@refusal
def fetch_without_get(c: Checked) -> Told:
    for path, rule in rules(c):
        if rule.fetch is not None and rule.fetch in c.streams and c.streams[rule.fetch].get is None:
            yield (*path, "fetch"), f"a stream with `get` was expected: {rule.fetch} can't read one record"


def covers_body(verify: Verify) -> bool:
    signed = SIGNED.findall(verify.signed or "")
    return verify.type == "standard_webhooks" or (verify.type == "hmac" and ("body" in signed or "form" in signed))


@refusal
def unproven_event(c: Checked) -> Told:
    if c.webhook is None or covers_body(c.webhook.verify) or c.part("hooks").get("verify"):
        return  # what a hook covers is for its author to know
    for path, rule in rules(c):
        if verb(rule) in ("upsert", "delete"):
            yield (
                (*path, verb(rule)),
                "`fetch` or `sync` was expected: the signature doesn't cover the body, which anybody may have written",
            )


@refusal
def unreachable_pattern(c: Checked) -> Told:
    patterns = list(c.webhook.events) if c.webhook else []
    hidden: set[str] = set()
    for wide, narrow in combinations(patterns, 2):
        if narrow not in hidden and covers(wide, narrow):
            hidden.add(narrow)
            yield ("webhook", "events", narrow), f"a place before {wide} was expected: {wide} matches first"


def covers(wide: str, narrow: str) -> bool:
    """Whether each event that the narrow pattern matches is matched by the wide one: ``*`` stays within a part."""
    return event_pattern(wide).fullmatch(narrow.replace("**", "\0.\0")) is not None


@refusal
def unknown_signed_word(c: Checked) -> Told:
    if c.webhook is None:
        return
    for word in SIGNED.findall(c.webhook.verify.signed or ""):
        if word not in SIGNED_WORDS and not word.startswith(("header ", "json ")):
            known = [*SIGNED_WORDS, "header X", "json PATH"]
            yield ("webhook", "verify", "signed"), f"{one_of(known)} was expected in <…>, not {word}"
    for word in names_in(c.webhook.verify.format):
        if word not in ("signature", "timestamp"):
            yield ("webhook", "verify", "format"), f"signature or timestamp was expected in <…>, not {word}"


@refusal
def unreadable_format(c: Checked) -> Told:
    """Where a header holds more than one word, only a label tells which is which."""
    format = c.webhook.verify.format if c.webhook else None
    found = LABELLED.findall(format or "")
    if format and not {"signature", "timestamp"}.issuperset(names_in(format)):
        return  # an unknown word, which is told elsewhere
    if format and "signature" not in [word for _, word in found]:
        yield ("webhook", "verify", "format"), "<signature> was expected in it"
    elif len(found) > 1 and not all(label for label, _ in found):
        message = "a label before each word was expected, as in t=<timestamp>,v1=<signature>"
        yield ("webhook", "verify", "format"), message


@refusal
def missing_signed_word(c: Checked) -> Told:
    """What is signed must be somewhere in the delivery."""
    if c.webhook is None:
        return
    verify = c.webhook.verify
    signed = SIGNED.findall(verify.signed or "")
    if "timestamp" in signed and verify.timestamp is None and "<timestamp>" not in (verify.format or ""):
        yield ("webhook", "verify", "signed"), "<timestamp> needs `timestamp`, or a place in `format`"
    if "id" in signed and c.webhook.event_id is None:
        yield ("webhook", "verify", "signed"), "<id> needs `event_id`"


@refusal
def written_signing_secret(c: Checked) -> Told:
    if c.webhook is None:
        return
    if c.webhook.handshake and c.webhook.handshake.secret and reference_in(c.webhook.handshake.secret) is None:
        yield ("webhook", "handshake", "secret"), "$NAME of a secret was expected"
    secret = c.webhook.verify.secret
    for one in secret if isinstance(secret, list) else [secret]:
        if one is not None and reference_in(one) is None and not one.startswith("<subscription."):
            yield ("webhook", "verify", "secret"), "$NAME of a secret or <subscription.NAME> was expected"
