"""What each connector of the catalogue must hold to, without a line of test code of its own.

A new file in `connectors/` is met by these tests at once: an account of it is simulated and synced over HTTP.
"""

from __future__ import annotations

import re

import pytest

from integrations_pipeline.simulator.dataset import Dataset
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.cautions import cautions
from integrations_pipeline_tests.connectors.account import CATALOGUE, account_of, open_account
from integrations_pipeline_tests.journeys.conftest import ROOT, House

CHANGES = ("created", "updated", "deleted", "tombstoned", "quarantined")


@pytest.mark.parametrize("connector", CATALOGUE)
def test_its_facts_have_a_source_and_a_page_for_people(connector: str) -> None:
    text = CATALOGUE[connector].read_text(encoding="utf-8")
    assert re.search(r"https://\S+", text), "name the provider's documentation"
    assert re.search(r"read 20\d\d-\d\d-\d\d", text, re.IGNORECASE), "say when it was read"
    assert f"`{connector}`" in (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("connector", CATALOGUE)
def test_an_account_arrives_whole_stays_quiet_and_follows_its_source(house: House, connector: str) -> None:
    source = open_account(house, connector)
    assert not cautions({connector: source.connection})

    first = house.sync(connector)
    for name, counts in first.items():
        house.assert_whole(connector, name)
        assert counts["created"] + counts["skipped"] == source.counts()[name] > 0
        assert counts["quarantined"] == 0
        mapped = source.connection.streams[name].map is not None
        assert counts["shaped"]["created"] == (counts["created"] if mapped else 0)

    for name, counts in house.sync(connector).items():
        assert {change: counts[change] for change in CHANGES} == dict.fromkeys(CHANGES, 0), name

    for dataset in changeable(source):
        change(source, dataset)
    house.sync(connector, "--full")
    for name in source.connection.streams:
        house.assert_whole(connector, name)


def changeable(source: Simulation) -> list[Dataset]:
    return [one for one in source.datasets.values() if not one.plan.stream.parent and not one.plan.stream.record]


def change(source: Simulation, dataset: Dataset) -> None:
    """Some of everything that the stream has a way to tell."""
    name = dataset.plan.name
    if dataset.parents is None:
        source.insert(name, 2)
    source.update(name, 3)
    if dataset.plan.stream.deletes:
        source.delete(name, 2)


def test_an_account_needs_no_more_than_its_file_says() -> None:
    document, secrets = account_of("shopify")
    assert (document["settings"], list(secrets)) == ({"shop": None, "version": None}, ["token"])
    document, secrets = account_of("google_calendar")
    assert (document["settings"], list(secrets)) == ({}, [])
