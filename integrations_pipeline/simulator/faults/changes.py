"""Changes of the source's contents while a list is being read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.simulator.records import put
from integrations_pipeline.simulator.stamps import microseconds

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Simulation

Change = Callable[["Simulation", str, Switched], None]


def parent_of(simulation: Simulation, stream: str) -> str | None:
    """Some parent for a new record of a child stream."""
    parents = simulation.dataset(stream).parents
    return None if parents is None else simulation.external_id(parents, next(parents.live()))


def insert(simulation: Simulation, stream: str, switched: Switched) -> None:
    simulation.insert(stream, switched.arguments.get("count", 1), parent_of(simulation, stream))


def update(simulation: Simulation, stream: str, switched: Switched) -> None:
    simulation.update(stream, switched.arguments.get("count", 1))


def delete(simulation: Simulation, stream: str, switched: Switched) -> None:
    simulation.delete(stream, switched.arguments.get("count", 1))


def late_row(simulation: Simulation, stream: str, switched: Switched) -> None:
    stamped(simulation, stream, -switched.arguments["duration"])


def future_row(simulation: Simulation, stream: str, switched: Switched) -> None:
    stamped(simulation, stream, switched.arguments["duration"])


def stamped(simulation: Simulation, stream: str, seconds: float) -> None:
    """A new record whose stamp lies so far from now; where the stream has no stamp, an ordinary one."""
    plan = simulation.dataset(stream).plan
    values: dict[str, Any] = {}
    if plan.stamp_path is not None and not plan.form.is_number:
        moment = simulation.clock.now() + timedelta(seconds=seconds)
        put(values, plan.stamp_path.parts, plan.form.write(microseconds(moment)))
    simulation.insert(stream, [values], parent_of(simulation, stream))
