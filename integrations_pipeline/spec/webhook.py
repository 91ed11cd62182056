"""The `webhook` block: how a delivery is verified, split, named and applied."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Key

from integrations_pipeline.spec.conditions import ConditionText
from integrations_pipeline.spec.forms import Call, Duration, Model
from integrations_pipeline.spec.paths import PathText
from integrations_pipeline.spec.places import ReadPlaceText, parse_read_place


def parse_read_places(value: Any) -> Any:
    """One place, or a list of places that are joined."""
    if isinstance(value, tuple):
        return value
    return tuple(parse_read_place(one) for one in value) if isinstance(value, list) else (parse_read_place(value),)


Places = Annotated[tuple[Any, ...], BeforeValidator(parse_read_places, json_schema_input_type=str | list[str])]


PUBLIC_URL = "INTEGRATIONS_PUBLIC_URL"
"""The variable with the address that providers know the gateway by."""

SIGNED_WORDS = ("body", "timestamp", "url", "method", "id", "form")
SIGNED = re.compile(r"<(header \S+?|json \S+?|[^<>\s]*)>")
"""A word of ``signed``: one of SIGNED_WORDS, or ``header NAME``, or ``json PATH``."""

LABELLED = re.compile(r"[\s,;]*(?P<label>[^<>]*)<(?P<word>signature|timestamp)>")
"""A part of ``format``: what stands before a word, without the separator from the part before it."""


STARS = re.compile(r"(\*\*|\*)")


@cache
def event_pattern(text: str) -> re.Pattern[str]:
    """What a key of ``events`` matches: ``*`` stays within one dotted part, ``**`` does not."""
    wild = {"**": ".*", "*": r"[^.]*"}
    return re.compile("".join(wild.get(part) or re.escape(part) for part in STARS.split(text)), re.DOTALL)


class Verify(Model):
    type: Literal["hmac", "standard_webhooks", "shared_secret", "none"]
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signature: ReadPlaceText | None = None
    format: str | None = None
    signed: str | None = None
    timestamp: ReadPlaceText | None = None
    unit: Literal["s", "ms"] = "s"
    tolerance: Duration = timedelta(minutes=5)
    secret: str | list[str] | None = None
    prefix: str = ""
    key_encoding: Literal["utf8", "hex", "base64"] = "utf8"

    @model_validator(mode="after")
    def _complete(self) -> Verify:
        needs = {
            "hmac": ("signature", "signed", "secret"),
            "standard_webhooks": ("secret",),
            "shared_secret": ("signature", "secret"),
        }
        missing = [name for name in needs.get(self.type, ()) if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.type} needs {', '.join(missing)}")
        return self


class EventRule(Model):
    """What an event does: exactly one of upsert, fetch, delete, sync."""

    upsert: str | None = None
    fetch: str | None = None
    delete: str | None = None
    sync: str | None = None
    record: PathText | None = None
    key: PathText | None = None

    @model_validator(mode="after")
    def _one(self) -> EventRule:
        verbs = [n for n in ("upsert", "fetch", "delete", "sync") if getattr(self, n) is not None]
        if len(verbs) != 1:
            raise ValueError("exactly one of upsert, fetch, delete, sync was expected")
        needs = {"upsert": "record", "fetch": "key", "delete": "key"}.get(verbs[0])
        for name in ("record", "key"):
            if (getattr(self, name) is not None) != (name == needs):
                raise ValueError(f"{verbs[0]} {'needs' if name == needs else 'has no'} `{name}`")
        return self

    @property
    def stream(self) -> str:
        return self.upsert or self.fetch or self.delete or self.sync or ""


class Handshake(Model):
    """A question a provider asks before it sends events. Without ``echo`` it is answered by ``reply``."""

    when: ConditionText
    echo: ReadPlaceText | None = None
    token: ReadPlaceText | None = None
    secret: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> Handshake:
        if (self.token is None) != (self.secret is None):
            raise ValueError("`token` (a place) and `secret` ($NAME) belong together")
        return self


class Reply(Model):
    status: int = Key(202, ge=200, le=299)
    body: str = ""


class Subscribe(Call):
    keep: dict[str, PathText] = {}
    expires: ReadPlaceText | None = None


def parse_payload(value: Any) -> str:
    """``json``, ``form``, or ``form FIELD`` where one field of the form holds the JSON."""
    if not isinstance(value, str) or not re.fullmatch(r"json|form( \S+)?", value):
        raise ValueError(f"json, form or 'form FIELD' was expected, not {value!r}")
    return value


Payload = Annotated[str, BeforeValidator(parse_payload, json_schema_input_type=str)]


class Webhook(Model):
    """The `webhook` block: how a delivery is verified, read and answered, and what each event does."""

    verify: Verify
    payload: Payload = "json"
    each: PathText | None = None
    event_type: Places | None = None
    event_id: Places | None = None
    order_by: Places | None = None
    events: dict[str, EventRule] = Key(min_length=1)
    handshake: Handshake | None = None
    reply: Reply | None = None
    methods: list[Literal["GET", "HEAD", "POST", "PUT"]] = ["POST"]
    apply: Literal["sensor", "immediately"] = "sensor"
    subscribe: Subscribe | None = None
    unsubscribe: Call | None = None

    def rule_for(self, event_type: str | None) -> EventRule | None:
        """What an event of the type does: the first pattern that matches; None for a type nobody named."""
        found = (rule for pattern, rule in self.events.items() if event_pattern(pattern).fullmatch(event_type or ""))
        return next(found, None)
