"""How long the source tells us to wait: Retry-After, the usual rate-limit headers, and the places declared for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.forms import Unit

LONGEST_WAIT_SECONDS = 86_400.0  # more is a mistake of the source: it is asked again after a day
UNIX_FROM = 1_000_000_000  # a reset beyond 30 years is no span but a moment,
UNIX_MS_FROM = 1_000_000_000_000  # and beyond this one in milliseconds
FIELD = re.compile(r"(?:^|[;,\s])(remaining|reset|r|t)\s*=\s*\"?(\d+(?:\.\d+)?)")
REMAINING = ("X-RateLimit-Remaining", "X-Rate-Limit-Remaining", "RateLimit-Remaining")
RESET = ("X-RateLimit-Reset-After", "X-RateLimit-Reset", "X-Rate-Limit-Reset", "RateLimit-Reset")


def told_seconds(answer: Answer, api: Api) -> float | None:
    """Seconds to wait from the answer's own time on, the longest that it tells of; None where it tells of none.

    Absurd waits are cut to a day; unreadable or negative ones are no waits.
    """
    told = [one for one in found_waits(answer, api) if one is not None and one > 0]
    return min(max(told), LONGEST_WAIT_SECONDS) if told else None


def found_waits(answer: Answer, api: Api) -> Iterator[float | None]:
    yield retry_after(answer.headers.get("Retry-After"), answer.read_at)
    if nothing_remaining(answer, api):
        yield from resets(answer, api)
    for wait in api.wait:
        yield span(answer.read(wait.read), wait.unit, answer.read_at)


def nothing_remaining(answer: Answer, api: Api) -> bool:
    """Whether the source says that this window is used up."""
    values: list[Any] = [answer.headers.get(name) for name in REMAINING]
    values.append(draft_fields(answer.headers).get("remaining"))
    if api.quota:
        values.append(answer.read(api.quota.remaining))
    numbers = [number for value in values if (number := number_of(value)) is not None]
    return any(number <= 0 for number in numbers)


def resets(answer: Answer, api: Api) -> Iterator[float | None]:
    for name in RESET:
        yield guessed_span(answer.headers.get(name), answer.read_at)
    yield guessed_span(draft_fields(answer.headers).get("reset"), answer.read_at)
    if api.quota:
        yield span(answer.read(api.quota.reset), api.quota.unit, answer.read_at)


def draft_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """``RateLimit: limit=100, remaining=0, reset=30`` and ``RateLimit: "default";r=0;t=30``."""
    names = {"r": "remaining", "t": "reset"}
    found = FIELD.findall(headers.get("RateLimit", ""))
    return {names.get(name, name): value for name, value in found}


def number_of(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds (also decimals) or an HTTP date."""
    if text is None:
        return None
    seconds = number_of(text)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


def span(value: Any, unit: Unit, now: datetime) -> float | None:
    number = number_of(value)
    if number is None:
        return None
    seconds = number / 1000 if unit in ("ms", "unix_ms") else number
    return seconds - now.timestamp() if unit.startswith("unix") else seconds


def guessed_span(value: Any, now: datetime) -> float | None:
    """Headers of one name hold seconds at one source and a moment at another; their size tells which."""
    number = number_of(value)
    if number is None:
        return None
    return span(number, "unix_ms" if number >= UNIX_MS_FROM else "unix" if number >= UNIX_FROM else "s", now)
