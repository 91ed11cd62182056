"""Events that wait: one run for many, never two for the same, and numbers on the stream's asset."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from dagster import DagsterRunStatus, RunRequest, SkipReason, build_sensor_context
from dagster._core.storage.dagster_run import DagsterRun

from integrations_pipeline.client import Client
from integrations_pipeline.orchestration.inbox import EVENTS_TAG
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store import inbox
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.receive import Receiver
from integrations_pipeline_tests.orchestration.conftest import CRM, House
from integrations_pipeline_tests.orchestration.test_timing import tick

HOOK = """
webhook:
  verify: {type: standard_webhooks, secret: $signing}
  event_type: type
  events: {deal.*: {upsert: deals, record: deal}}
"""


def told(house: House, *deals: str) -> None:
    """Events as the gateway stores them."""
    payloads = [json.dumps({"type": "deal.changed", "deal": {"id": deal, "title": deal}}) for deal in deals]
    with Store(house.url) as store, store.borrow() as session:
        inbox.append(
            session,
            [
                inbox.Event("crm", None, sha256(one.encode()).digest(), "deal.changed", None, one, "{}")
                for one in payloads
            ],
        )


@pytest.fixture
def house(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """With a connection whose deals come by webhook."""
    monkeypatch.setenv("CRM_SIGNING", "k")
    house.add(CRM.replace("api:", "secrets: {signing: {env: CRM_SIGNING}}\napi:", 1) + HOOK)
    return house


def test_many_events_are_one_run_that_tells_its_numbers(house: House) -> None:
    (skipped,) = tick(house, "inbox")
    assert isinstance(skipped, SkipReason)
    told(house, "a", "b", "c")
    (request,) = tick(house, "inbox")
    assert isinstance(request, RunRequest)
    (again,) = tick(house, "inbox")
    assert isinstance(again, RunRequest) and again.run_key == request.run_key
    job = house.definitions().resolve_job_def("receive")
    result = job.execute_in_process(instance=house.instance, run_config=request.run_config, tags=request.tags)
    assert result.success
    (made,) = result.get_asset_materialization_events()
    assert made.asset_key is not None and made.asset_key.to_user_string() == "crm/deals"
    assert made.materialization.metadata["created"].value == 3
    assert house.ask("SELECT count(*) FROM raw.crm__deals") == [(3,)]
    assert isinstance(tick(house, "inbox")[0], SkipReason)


def test_a_slow_run_is_not_joined_by_a_second_one(house: House) -> None:
    told(house, "a")
    assert isinstance(tick(house, "inbox")[0], RunRequest)
    house.instance.add_run(DagsterRun(job_name="receive", tags={EVENTS_TAG: "crm"}, status=DagsterRunStatus.STARTED))
    told(house, "b")
    assert isinstance(tick(house, "inbox")[0], SkipReason)


def test_events_given_back_are_asked_for_anew(house: House) -> None:
    """Whatever came to nothing has another key afterwards, or the run's key would keep it waiting."""
    told(house, "a")
    (first,) = tick(house, "inbox")
    with Store(house.url) as store, store.borrow() as session:
        inbox.give_back(session, inbox.lease(session, "crm", limit=9))
        session.execute("UPDATE integrations.inbox SET next_try_at = now()")
    (second,) = tick(house, "inbox")
    assert isinstance(first, RunRequest) and isinstance(second, RunRequest) and first.run_key != second.run_key


def test_what_the_gateway_applied_is_reported_once(house: House) -> None:
    told(house, "a", "b")
    connection, kinds = load_connection_and_kinds("crm", house.home)
    with Store(house.url) as store:
        client = Client(connection, limiter=store.limiter(connection))
        Receiver(connection, client, store, kinds, mode="immediately").run(uuid4())
        client.close()
    assert reported(house, None)[0] == []  # its minute isn't over
    house.ask("UPDATE integrations.run_log SET started_at = now() - interval '2 minutes' RETURNING 1")
    events, cursor = reported(house, None)
    assert [(one.asset_key.to_user_string(), one.metadata["created"].value) for one in events] == [("crm/deals", 2)]
    assert reported(house, cursor)[0] == []


def reported(house: House, cursor: str | None) -> tuple[list[Any], str | None]:
    """What the sensor tells of assets, and its cursor afterwards."""
    definitions = house.definitions()
    repository = definitions.get_repository_def()
    resources = dict(definitions.resources or {})
    with build_sensor_context(house.instance, cursor, repository_def=repository, resources=resources) as context:
        data = repository.get_sensor_def("inbox").evaluate_tick(context)
    return list(data.asset_events), data.cursor
