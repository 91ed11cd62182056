"""Asking "anything new?": a first request with the validator of the last complete read, which a 304 answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.request import Sends
from integrations_pipeline.spec.places import SendPlace

Probe = Literal["etag", "last_modified"]
HEADERS: dict[Probe, tuple[str, str]] = {
    "etag": ("ETag", "If-None-Match"),
    "last_modified": ("Last-Modified", "If-Modified-Since"),
}


def conditional(kind: Probe | None, validator: Mapping[str, str] | None) -> Sends:
    """What the first request of a list sends."""
    if kind is None or not validator or not validator.get(kind):
        return []
    return [(SendPlace("header", name=HEADERS[kind][1]), validator[kind])]


def validator_of(kind: Probe | None, answer: Answer) -> dict[str, str] | None:
    """What the first page gives to ask with next time. It speaks of that page only: a list of several may change
    behind it, so the caller keeps it only where the first page is also the last."""
    value = answer.headers.get(HEADERS[kind][0]) if kind else None
    return {kind: value} if kind and value else None
