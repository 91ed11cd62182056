"""Edits made here: found by a sensor, sent by one run, and no run where nothing is to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterRunStatus, Failure, RunRequest, SkipReason
from dagster._core.storage.dagster_run import DagsterRun

from integrations_pipeline.client import Client
from integrations_pipeline.orchestration import outbox
from integrations_pipeline.orchestration.outbox import CHANGES_TAG
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import push as pushing
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.source import Reply, Source
from integrations_pipeline_tests.orchestration.conftest import House
from integrations_pipeline_tests.orchestration.test_timing import tick
from integrations_pipeline_tests.sync.provider import Provider

DESK = """
connection: desk
api: {url: URL, pagination: {type: single_page}, retry: {attempts: 1}}
streams:
  people:
    request: GET /people
    records: items
    primary_key: id
    version: version
    fields: {id: {type: string, required: true}, version: {type: integer, required: true}}
    map: {to: customer, fields: {name: name, email: email}}
    write: {fields: [name, email], create: POST /people, update: PATCH /people/<external_id>}
"""


@pytest.fixture
def provider() -> Provider:
    provider = Provider()
    provider.add(name="Anna", email="a@b.example")
    return provider


@pytest.fixture
def house(house: House, provider: Provider) -> Iterator[House]:
    """With a connection that writes, synced once."""
    with Source(provider) as source:
        house.write(DESK.replace("URL", source.url))
        connection, kinds = load_connection_and_kinds("desk", house.home)
        with Store(house.url) as store:
            client = Client(connection, limiter=store.limiter(connection), secrets={})
            assert sync(connection, client, store, kinds).status == "succeeded"
            client.close()
        yield house


def edit(house: House, email: str) -> None:
    with Store(house.url) as store, store.borrow() as session:
        session.execute("UPDATE canonical.customer SET email = %s", (email,))


def run(house: House, request: RunRequest) -> Any:
    job = house.definitions().resolve_job_def("push")
    return job.execute_in_process(instance=house.instance, run_config=request.run_config, tags=request.tags)


def test_an_edit_is_found_and_sent_by_one_run(house: House, provider: Provider) -> None:
    (whole,) = tick(house, "outbox")  # the first look compares all there is: a run's work
    assert isinstance(whole, RunRequest) and run(house, whole).success
    (skipped,) = tick(house, "outbox")
    assert isinstance(skipped, SkipReason)
    edit(house, "new@b.example")
    (request,) = tick(house, "outbox")
    assert isinstance(request, RunRequest) and request.tags["dagster/priority"] == "10"
    (again,) = tick(house, "outbox")
    assert isinstance(again, RunRequest) and again.run_key == request.run_key
    assert run(house, request).success
    assert provider.people["p1"]["email"] == "new@b.example"
    (skipped,) = tick(house, "outbox")
    assert isinstance(skipped, SkipReason)


def test_a_slow_run_is_not_joined_by_a_second_one(house: House) -> None:
    edit(house, "new@b.example")
    assert isinstance(tick(house, "outbox")[0], RunRequest)
    house.instance.add_run(DagsterRun(job_name="push", tags={CHANGES_TAG: "desk"}, status=DagsterRunStatus.STARTED))
    assert isinstance(tick(house, "outbox")[0], SkipReason)


def test_a_source_that_told_to_wait_is_left_alone(house: House, provider: Provider) -> None:
    edit(house, "new@b.example")
    provider.instead = lambda seen: Reply({}, 429, {"Retry-After": "300"})
    (request,) = tick(house, "outbox")
    assert isinstance(request, RunRequest) and run(house, request).success
    with Store(house.url) as store, store.borrow() as session:
        session.execute("INSERT INTO canonical.customer (id, name) VALUES (gen_random_uuid(), 'Bert')")
    assert isinstance(tick(house, "outbox")[0], SkipReason)


def test_what_a_look_did_not_foresee_is_told_by_the_run_of_its_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*parts: Any, **more: Any) -> Any:
        raise ValueError("a defect of one connection")

    edit(house, "new@b.example")
    monkeypatch.setattr(outbox, "merge", fail)
    monkeypatch.setattr(pushing, "merge", fail)
    (request,) = tick(house, "outbox")
    assert isinstance(request, RunRequest)
    with pytest.raises(Failure, match="a defect of one connection"):
        run(house, request)


def test_more_edits_than_a_tick_compares_are_left_to_a_run(
    house: House, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MERGED_AT_ONCE", 1)
    edit(house, "new@b.example")
    (request,) = tick(house, "outbox")
    assert isinstance(request, RunRequest) and "edits" in str(request.run_key)
    assert run(house, request).success
    assert provider.people["p1"]["email"] == "new@b.example"
