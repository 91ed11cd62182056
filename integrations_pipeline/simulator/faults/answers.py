"""Faults that stand instead of an answer: a status, a limit of the source's own, a redirect, a page for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime

from integrations_pipeline.simulator.access import Meter
from integrations_pipeline.simulator.answer import Answer, refusal
from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.simulator.views import Request
from integrations_pipeline.spec.api import Limit
from integrations_pipeline.spec.clock import Clock

HTML = b"<!doctype html>\n<html><head><title>We'll be back soon</title></head><body>Maintenance</body></html>\n"
MARK = "redirected"


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that meets a fault. ``further``: it asks for another page than the first."""

    request: Request
    switched: Switched
    clock: Clock
    further: bool


Instead = Callable[[Asking], Answer | None]
"""The answer, or None where this fault doesn't concern the request after all."""


def status(asking: Asking) -> Answer:
    given = asking.switched.arguments
    code = "rate_limited" if given["status"] in (200, 403, 429) else f"error_{given['status']}"
    answer = refusal(given["status"], code, f"the fault {asking.switched.fault.text!r}")
    if given["status"] in (204, 304):
        answer.body = b""
    return told_to_wait(answer, asking.switched, asking.clock)


def told_to_wait(answer: Answer, switched: Switched, clock: Clock) -> Answer:
    """With the hint that a fault names, if any."""
    given = switched.arguments
    if "hint" in given:
        answer.told_seconds = seconds_of(given["value"])
        answer.headers |= hint(given["hint"], given["value"], clock)
    return answer


def seconds_of(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0


def hint(form: str, value: str, clock: Clock) -> dict[str, str]:
    """The headers that tell to wait, in one of the forms that sources use."""
    if form == "retry-after":
        return {"Retry-After": value}
    seconds = seconds_of(value)
    moment = clock.now() + timedelta(seconds=seconds)
    whole = str(math.ceil(seconds))
    forms = {
        "date": {"Retry-After": format_datetime(moment + timedelta(seconds=1), usegmt=True)},
        "reset": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(math.ceil(moment.timestamp()))},
        "reset-after": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": value},
        "draft": {"RateLimit": f"limit=100, remaining=0, reset={whole}"},
        "structured": {"RateLimit": f'"default";r=0;t={whole}', "RateLimit-Policy": '"default";q=100;w=60'},
    }
    return forms[form]


def limit(asking: Asking) -> Answer | None:
    """Keeps its own count, so that it can be tighter than what the connector declares."""
    switched = asking.switched
    if switched.memory is None:
        switched.memory = Meter(Limit(rate=switched.arguments["rate"]), asking.clock.monotonic_seconds)
    wait = switched.memory.wait_seconds()
    if wait <= 0:
        switched.memory.take()
        return None
    return too_many(wait)


def too_many(wait: float) -> Answer:
    """429 with the whole seconds to wait."""
    seconds = max(math.ceil(wait), 1)
    answer = refusal(429, "rate_limited", f"too many requests: wait {seconds} s", {"Retry-After": str(seconds)})
    answer.told_seconds = float(seconds)
    return answer


def is_not_moved(asking: Asking) -> bool:
    """What came by a redirect within the API has arrived."""
    return asking.switched.arguments.get("where", "within") != "within" or MARK not in asking.request.query


def redirect(asking: Asking) -> Answer:
    request, where = asking.request, asking.switched.arguments.get("where", "within")
    url = (elsewhere(request.origin) if where == "elsewhere" else request.origin) + request.path
    query = request.query_string if MARK in request.query else f"{request.query_string}&{MARK}=1".lstrip("&")
    return Answer(302, b"", {"Location": f"{url}?{query}"})


def elsewhere(origin: str) -> str:
    """The same server by another name, which makes it another origin; the request log tells who came there."""
    return origin.replace("//127.0.0.1", "//localhost", 1)


def html(asking: Asking) -> Answer:
    return Answer(200, HTML, {"Content-Type": "text/html; charset=utf-8"})


def empty_body(asking: Asking) -> Answer:
    return Answer(200, b"")


def has_position(asking: Asking) -> bool:
    return asking.further


def expire_cursor(asking: Asking) -> Answer:
    return refusal(asking.switched.arguments.get("status", 410), "expired", "this position has expired")
