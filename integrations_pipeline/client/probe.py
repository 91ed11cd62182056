"""Asking "anything new?": by the validator of the last complete read, which a 304 answers, or by a number."""

from __future__ import annotations

from collections.abc import Mapping

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.request import Sends
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.streams import Count, Probe, Validator

HEADERS: dict[Validator, tuple[str, str]] = {
    "etag": ("ETag", "If-None-Match"),
    "last_modified": ("Last-Modified", "If-Modified-Since"),
}


def validator_kind(probe: Probe | None) -> Validator | None:
    """By which header a list itself is asked with; a count is a request of its own."""
    return None if isinstance(probe, Count) else probe


def conditional(kind: Validator | None, validator: Mapping[str, str] | None) -> Sends:
    """What the first request of a list sends."""
    if kind is None or not validator or not validator.get(kind):
        return []
    return [(SendPlace("header", name=HEADERS[kind][1]), validator[kind])]


def validator_of(kind: Validator | None, answer: Answer) -> dict[str, str] | None:
    """What the first page gives to ask with next time. It speaks of that page only: a list of several may change
    behind it, so the caller keeps it only where the first page is also the last."""
    value = answer.headers.get(HEADERS[kind][0]) if kind else None
    return {kind: value} if kind and value else None


def number_of(probe: Count, answer: Answer) -> int:
    """The number an answer holds. Raises ContractError where there is none."""
    found = answer.read(probe.read)
    text = str(found) if isinstance(found, int | str) and not isinstance(found, bool) else ""
    if not text.strip().isdecimal():
        said = "nothing" if found is MISSING else f"a value of type {type(found).__name__}"
        raise ContractError(f"the answer to `probe` holds {said}, where a count should be")
    return int(text)
