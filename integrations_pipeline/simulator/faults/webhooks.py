"""Faults of a webhook's way from its sender to us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from integrations_pipeline.simulator.faults.board import Switched


@dataclass
class Way:
    """How a delivery goes. ``times`` is 0 where it is lost; ``overtaken``: the next one goes first."""

    times: int = 1
    delay_seconds: float = 0.0
    overtaken: bool = False
    tampered: bool = False


Disturb = Callable[[Way, Switched], None]


def lose(way: Way, switched: Switched) -> None:
    way.times = 0


def double(way: Way, switched: Switched) -> None:
    way.times *= 2


def reorder(way: Way, switched: Switched) -> None:
    way.overtaken = True


def delay(way: Way, switched: Switched) -> None:
    way.delay_seconds += switched.arguments["duration"]


def tamper(way: Way, switched: Switched) -> None:
    way.tampered = True
