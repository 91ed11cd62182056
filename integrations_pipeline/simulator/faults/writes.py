"""Faults of writes: what is done with one, what a reader sees of it and when, and what its writer hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from integrations_pipeline.simulator.answer import Answer, Delivery, refusal
from integrations_pipeline.simulator.faults.answers import told_to_wait
from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.paths import Path, parse_path

REFUSED = 503
ITEM_REFUSED = 422


@dataclass
class Manner:
    """How one write request is taken. ``instead``: an answer before anything is done."""

    clock: Clock
    instead: Answer | None = None
    ignores_key: bool = False
    overtaken: bool = False
    lag_seconds: float = 0.0
    forms: list[Callable[[str], str]] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    shuffled: Switched | None = None
    loss: str | None = None


@dataclass
class Fate:
    """How one item of a batch is taken. ``status``: it is refused; ``untold``: it is done without a result."""

    status: int | None = None
    untold: bool = False


Disturb = Callable[[Manner, Switched], None]
Single = Callable[[Fate, Switched], None]


def refuse(manner: Manner, switched: Switched) -> None:
    status = switched.arguments.get("status", REFUSED)
    code = "rate_limited" if status == 429 else f"error_{status}"
    answer = refusal(status, code, f"the fault {switched.fault.text!r}: nothing was done")
    manner.instead = manner.instead or told_to_wait(answer, switched, manner.clock)


def ignore_keys(manner: Manner, switched: Switched) -> None:
    manner.ignores_key = True


def change_before(manner: Manner, switched: Switched) -> None:
    manner.overtaken = True


def read_lag(manner: Manner, switched: Switched) -> None:
    manner.lag_seconds = max(manner.lag_seconds, switched.arguments["duration"])


def normalise(manner: Manner, switched: Switched) -> None:
    manner.forms.append(TEXTS[switched.arguments["form"]])


def ignore_field(manner: Manner, switched: Switched) -> None:
    manner.ignored.append(parse_path(switched.arguments["path"]))


def shuffle_results(manner: Manner, switched: Switched) -> None:
    manner.shuffled = switched


def lose_answer(manner: Manner, switched: Switched) -> None:
    manner.loss = manner.loss or switched.arguments.get("loss", "reset")


def fail_item(fate: Fate, switched: Switched) -> None:
    fate.status = switched.arguments.get("status", ITEM_REFUSED)


def omit_result(fate: Fate, switched: Switched) -> None:
    fate.untold = True


def lost(answer: Answer, loss: str) -> Answer:
    """What comes instead of an answer to what was done."""
    if loss.isdecimal():
        broken = refusal(int(loss), f"error_{loss}", "something went wrong")
        broken.wrote, broken.count = answer.wrote, answer.count
        return broken
    answer.delivery = Delivery(loss, {})
    return answer


def number(text: str) -> str:
    """A text such as a phone number without what stands between its digits; any other one as it is."""
    if not any(one.isdigit() for one in text) or any(one.isalpha() for one in text):
        return text
    return "".join(one for one in text if one.isdigit() or one == "+")


TEXTS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "trim": str.strip,
    "number": number,
}
