"""The demo connections: served where their files say, with nothing exported."""

from __future__ import annotations

import pytest

from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.spec.simulated import PORT, is_simulated
from integrations_pipeline_tests.journeys.conftest import ROOT

DEMO = {name: one for name, one in load_all(Home(ROOT)).connections.items() if name.startswith("demo_")}


@pytest.mark.parametrize("name", DEMO)
def test_a_demo_connection_needs_nothing_but_the_simulator(name: str) -> None:
    connection = DEMO[name]
    assert is_simulated(connection)
    assert (connection.secrets, connection.api.auth.type if connection.api.auth else "none") == ({}, "none")
    assert Simulation(connection, records=10).url(PORT) == connection.api.url
    assert connection.expect is not None


def test_all_three_shapes_have_one() -> None:
    assert {"demo_rates", "demo_shop", "demo_calendar"} <= set(DEMO)
