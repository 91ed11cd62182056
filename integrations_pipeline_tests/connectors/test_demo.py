"""The demo connections: served where their files say, with nothing exported."""

from __future__ import annotations

import pytest

from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.cautions import cautions
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


def test_the_demo_gives_no_cause_for_doubt() -> None:
    assert cautions(DEMO) == {}


def test_a_customer_lives_in_the_crm_and_in_payments() -> None:
    """Both create customers, each says which, and both find by e-mail those that the other has."""
    streams = [DEMO["demo_crm"].streams["contacts"], DEMO["demo_payments"].streams["customers"]]
    for stream in streams:
        assert stream.map and stream.write
        assert (stream.map.to, stream.map.match) == ("customer", [["email"]])
        assert stream.write.creates
        assert stream.write.create_when
        assert stream.write.create_when.holds({"stage": "active"})
        assert not stream.write.create_when.holds({"stage": "unknown"})


def test_all_three_shapes_have_one() -> None:
    assert {"demo_rates", "demo_shop", "demo_calendar"} <= set(DEMO)
