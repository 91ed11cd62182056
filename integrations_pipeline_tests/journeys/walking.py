"""Walks of a state machine through a house: so many examples of so many steps, each with a database of its own."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from integrations_pipeline_tests.journeys.conftest import MakeHouse


def walk(machine: type[RuleBasedStateMachine], make_house: MakeHouse, examples: int, steps: int) -> None:
    """Without shrinking: a crash strikes at another moment each time."""
    here = type(machine.__name__, (machine,), {"make_house": staticmethod(make_house)})
    run_state_machine_as_test(
        here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
