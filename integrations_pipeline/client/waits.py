"""How long the source tells us to wait: Retry-After, the usual rate-limit headers, and the places declared for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
ITEMS = re.compile(r"""(?:"[^"]*"|[^,"])+""")  # of a header's list; a comma in quotes parts nothing
FIELD = re.compile(r"(?:^|[;,\s])(limit|remaining|reset|r|t|q|w)\s*=\s*\"?(\d+(?:\.\d+)?)")
NAMES = {"r": "remaining", "t": "reset"}
REMAINING = ("X-RateLimit-Remaining", "X-Rate-Limit-Remaining", "RateLimit-Remaining")
RESET = ("X-RateLimit-Reset-After", "X-RateLimit-Reset", "X-Rate-Limit-Reset", "RateLimit-Reset")


@dataclass(frozen=True, slots=True)
class Window:
    """How many requests the source says it will still answer, and in how many seconds it counts anew."""

    left: float
    seconds: float


def told_seconds(answer: Answer, api: Api) -> float | None:
    """Seconds to wait from the answer's own time on, the longest that it tells of; None where it tells of none.

    Absurd waits are cut to a day; unreadable or negative ones are no waits.
    """
    told = [one for one in found_waits(answer, api) if one is not None and one > 0]
    return min(max(told), LONGEST_WAIT_SECONDS) if told else None


def found_waits(answer: Answer, api: Api) -> Iterator[float | None]:
    yield retry_after(answer.headers.get("Retry-After"), answer.told_at)
    yield from (window.seconds for window in windows(answer, api) if window.left <= 0)
    for wait in api.wait:
        yield span(answer.read(wait.read), wait.unit, answer.told_at)


def nothing_remaining(answer: Answer, api: Api) -> bool:
    """Whether the source says that a window is used up."""
    return any(window.left <= 0 for window in windows(answer, api))


def scarcest(answer: Answer, api: Api) -> Window | None:
    """The window with the fewest requests left, of those that have any left and an end."""
    open_ones = [window for window in windows(answer, api) if window.left >= 1 and window.seconds > 0]
    return min(open_ones, key=lambda window: window.left, default=None)


def windows(answer: Answer, api: Api) -> list[Window]:
    """All that the answer tells of; one whose end it doesn't tell has no seconds."""
    found = [usual_window(answer), *draft_windows(answer)]
    if api.quota:
        reset = span(answer.read(api.quota.reset), api.quota.unit, answer.told_at)
        found.append(window_of(number_of(answer.read(api.quota.remaining)), reset))
    return [window for window in found if window is not None]


def window_of(left: float | None, seconds: float | None) -> Window | None:
    return None if left is None else Window(left, min(seconds or 0.0, LONGEST_WAIT_SECONDS))


def usual_window(answer: Answer) -> Window | None:
    """The X-RateLimit headers, and those of the earlier drafts: each value in a header of its own."""
    lefts = [left for name in REMAINING if (left := number_of(answer.headers.get(name))) is not None]
    ends = [end for name in RESET if (end := guessed_span(answer.headers.get(name), answer.told_at)) is not None]
    return window_of(min(lefts, default=None), max(ends, default=None))


def draft_windows(answer: Answer) -> Iterator[Window | None]:
    """``RateLimit: limit=100, remaining=0, reset=30`` (draft 7) and ``RateLimit: "burst";r=0;t=3, "daily";r=9;t=7200``.

    Where a window's own reset is missing, its length from ``RateLimit-Policy`` ("burst";q=10;w=3) stands for it.
    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """
    text = answer.headers.get("RateLimit", "")
    lengths = {
        name_of(item): fields_of(item).get("w") for item in ITEMS.findall(answer.headers.get("RateLimit-Policy", ""))
    }
    for item in [text] if "remaining" in text else ITEMS.findall(text):
        fields = fields_of(item)
        reset = guessed_span(fields.get("reset", lengths.get(name_of(item))), answer.told_at)
        yield window_of(number_of(fields.get("remaining")), reset)


def name_of(item: str) -> str:
    return item.partition(";")[0].strip().strip('"')


def fields_of(item: str) -> dict[str, str]:
    return {NAMES.get(name, name): value for name, value in FIELD.findall(item)}


def number_of(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds (also decimals; sent twice, the longer one) or an HTTP date."""
    if text is None:
        return None
    parts = [number_of(part) for part in text.split(",")]
    seconds = [part for part in parts if part is not None]
    return max(seconds) if len(seconds) == len(parts) else until_moment(text, now)


def until_moment(text: str, now: datetime) -> float | None:
    """Seconds until a moment written as an HTTP date or in ISO 8601; without a zone it is UTC."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return None


def span(value: Any, unit: Unit, now: datetime) -> float | None:
    number = number_of(value)
    if number is None:
        return None
    seconds = number / 1000 if unit in ("ms", "unix_ms") else number
    return seconds - now.timestamp() if unit.startswith("unix") else seconds


def guessed_span(value: Any, now: datetime) -> float | None:
    """Headers of one name hold seconds at one source and a moment at another; their size or form tells which."""
    number = number_of(value)
    if number is None:
        return until_moment(value, now) if isinstance(value, str) else None
    return span(number, "unix_ms" if number >= UNIX_MS_FROM else "unix" if number >= UNIX_FROM else "s", now)
