"""Faults of a finished answer: what its text looks like, and how it is sent."""

from __future__ import annotations

from collections.abc import Callable

from integrations_pipeline.simulator.answer import Answer, Delivery
from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.spec.faults import CUTS

Spoil = Callable[[Answer, Switched], None]


def delivered(name: str) -> Spoil:
    """Sent in another way; of several such faults the first one counts."""

    def spoil(answer: Answer, switched: Switched) -> None:
        answer.delivery = answer.delivery or Delivery(name, switched.arguments)

    return spoil


def truncate(answer: Answer, switched: Switched) -> None:
    cut = switched.arguments.get("cut") or CUTS[switched.number(switched.seen) % len(CUTS)]
    answer.delivery = answer.delivery or Delivery("truncate", {"cut": cut})


def slow(answer: Answer, switched: Switched) -> None:
    answer.delay_seconds += switched.arguments["duration"]


def garble(answer: Answer, switched: Switched) -> None:
    at = answer.body.find(b",", len(answer.body) // 2)
    answer.body = answer.body[:at] + b",:," + answer.body[at + 1 :]


def content_type(answer: Answer, switched: Switched) -> None:
    answer.headers["Content-Type"] = switched.arguments["value"]


def charset(answer: Answer, switched: Switched) -> None:
    """A text that isn't ASCII, so that its charset matters."""
    text = answer.body.decode().replace('"', '"\u00fc', 1) if answer.body.isascii() else answer.body.decode()
    name = switched.arguments["charset"]
    answer.body = text.encode("latin-1" if name == "unsaid" else name, "replace")
    answer.headers["Content-Type"] = f"application/json; charset={'utf-8' if name == 'unsaid' else name}"


def bom(answer: Answer, switched: Switched) -> None:
    answer.body = b"\xef\xbb\xbf" + answer.body
