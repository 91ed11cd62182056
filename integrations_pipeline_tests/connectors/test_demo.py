"""The demo connections: served where their files say, with nothing exported."""

from __future__ import annotations

import pytest

from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.cautions import cautions
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.spec.simulated import PORT, VARIABLE, is_simulated
from integrations_pipeline_tests.journeys.conftest import ROOT, House

DEMO = {name: one for name, one in load_all(Home(ROOT)).connections.items() if name.startswith("demo_")}


@pytest.mark.parametrize("name", DEMO)
def test_a_demo_connection_needs_nothing_but_the_simulator(name: str) -> None:
    connection = DEMO[name]
    assert is_simulated(connection)
    assert (connection.secrets, connection.api.auth.type if connection.api.auth else "none") == ({}, "none")
    assert Simulation(connection, records=10).url(PORT) == connection.api.url
    assert connection.expect is not None


@pytest.mark.parametrize("name", DEMO)
def test_a_demo_arrives_whole(house: House, name: str) -> None:
    for file in [ROOT / "connections" / f"{name}.yaml", *(ROOT / "models").iterdir()]:
        house.write(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
    source = Simulation(DEMO[name], records=120)
    with serve([source]) as running:
        house.environment[VARIABLE] = f"http://127.0.0.1:{running.port}"
        for stream, counts in house.sync(name).items():
            assert counts["created"] + counts["skipped"] == source.counts()[stream] > 0
            assert counts["quarantined"] == counts["shaped"]["quarantined"] == 0


def test_the_crm_leaves_out_whom_nobody_could_tell_from_others() -> None:
    """README's walk asks why one of them was skipped."""
    stream = DEMO["demo_crm"].streams["contacts"]
    contacts = list(Simulation(DEMO["demo_crm"], records=1_000).contents("contacts"))
    assert stream.skip is not None
    skipped = {one["id"] for one in contacts if stream.skip.holds(one)}
    assert 0 < len(skipped) < 100 and "con_0000014" in skipped and "con_0000001" not in skipped
    assert all("@" in one["properties"]["email"] for one in contacts if one["id"] not in skipped)


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
