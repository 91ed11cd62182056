"""Polls judge webhooks: numbers and a check on the asset of their stream, and rarer polls while nothing is missing."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from dagster import AssetKey, ExecuteInProcessResult

from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store import inbox
from integrations_pipeline.store.reports import StreamClock
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.due import interval_now
from integrations_pipeline_tests.orchestration.conftest import CRM, House
from integrations_pipeline_tests.orchestration.test_runs import numbers
from integrations_pipeline_tests.orchestration.test_timing import NOW, asked, poll, tick
from integrations_pipeline_tests.passing import minutes_pass

HOOK = """
webhook:
  verify: {type: standard_webhooks, secret: $signing}
  event_type: type
  events: {deal.*: {upsert: deals, record: row}, contact.*: {upsert: contacts, record: row}}
expect: {webhook_loss: under 5%}
"""
MINUTES = timedelta(minutes=1)


@pytest.fixture
def house(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """With a connection whose changes come by webhook, and its first sync."""
    monkeypatch.setenv("CRM_SIGNING", "k")
    house.add(CRM.replace("api:", "secrets: {signing: {env: CRM_SIGNING}}\napi:", 1) + HOOK)
    assert house.run().success
    return house


def told(house: House, type: str, **row: Any) -> None:
    """An event as the gateway stores it, applied by a run."""
    payload = json.dumps({"type": type, "row": row})
    event = inbox.Event("crm", None, sha256(payload.encode()).digest(), type, None, payload, "{}")
    with Store(house.url) as store, store.borrow() as session:
        inbox.append(session, [event])
    config = {"ops": {"apply_events": {"config": {"connection": "crm"}}}}
    job = house.definitions().resolve_job_def("receive")
    assert job.execute_in_process(instance=house.instance, run_config=config).success


def loss_check(result: ExecuteInProcessResult) -> tuple[bool, str, dict[str, Any]]:
    (found,) = (
        one
        for one in result.get_asset_check_evaluations()
        if one.check_name == "webhook_loss" and one.asset_key == AssetKey(["crm", "deals"])
    )
    return found.passed, found.severity.value, {name: value.value for name, value in found.metadata.items()}


def test_a_run_tells_what_webhooks_missed_and_the_check_warns(house: House) -> None:
    told(house, "deal.changed", id="a", title="told")
    minutes_pass(house.url, 10)
    result = house.run("crm/deals")
    found = numbers(result, "crm/deals")
    assert (found["webhooks told"], found["webhooks missed"], found["webhook loss %"]) == (1, 0, 0)
    assert loss_check(result)[:2] == (True, "WARN")
    house.simulations["crm"].insert("deals", 1)
    assert house.run("crm/deals").success  # brings it, and can't know yet
    minutes_pass(house.url, 10)
    result = house.run("crm/deals")
    assert (numbers(result, "crm/deals")["webhooks missed"], result.success) == (1, True)
    assert loss_check(result) == (False, "WARN", {"told": 1, "missed": 1, "loss %": 50.0})


def whole(house: House) -> None:
    """A poll has judged that nothing is missing, and an event comes now."""
    told(house, "deal.changed", id="a", title="told")
    told(house, "contact.changed", id="a", updated="2024-05-01T12:00:00Z")
    minutes_pass(house.url, 10)
    assert house.run().success
    told(house, "deal.changed", id="a", title="again")
    told(house, "contact.changed", id="a", updated="2024-05-02T12:00:00Z")


def test_while_webhooks_are_whole_polls_are_rarer(house: House) -> None:
    whole(house)
    minutes_pass(house.url, 4)
    told(house, "deal.changed", id="a", title="once more")
    minutes_pass(house.url, 4)  # past the 7m of deals
    assert asked(tick(house, "poll_due")) == set()
    minutes_pass(house.url, 6)  # about the 15m of contacts
    assert poll(house) == (set(), "webhooks bring the changes of crm: a later poll is soon enough")
    for day in (3, 4, 5):
        told(house, "contact.changed", id="a", updated=f"2024-05-0{day}T12:00:00Z")
        minutes_pass(house.url, 15)
    assert poll(house)[0] == {"crm/contacts", "canonical/customer"}  # four times its interval is over


def test_when_webhooks_fall_silent_polls_come_at_every(house: House) -> None:
    whole(house)
    minutes_pass(house.url, 10)
    assert asked(tick(house, "poll_due")) == {"crm/deals"}
    minutes_pass(house.url, 20)
    assert poll(house)[0] == {"crm/contacts", "canonical/customer"}


def test_when_webhooks_miss_something_polls_come_at_every(house: House) -> None:
    whole(house)
    house.simulations["crm"].insert("deals", 1)
    assert house.run("crm/deals").success
    minutes_pass(house.url, 10)
    assert house.run("crm/deals").success  # it judges
    told(house, "deal.changed", id="a", title="alive")
    minutes_pass(house.url, 8)
    assert asked(tick(house, "poll_due")) == {"crm/deals"}


@pytest.mark.parametrize(("expect", "minutes"), [("{}", 60), ("{fresh_within: 50m}", 35), ("{fresh_within: 10m}", 15)])
def test_polls_are_never_rarer_than_fresh_within_asks(house: House, expect: str, minutes: int) -> None:
    text = (house.home.connections / "crm.yaml").read_text().replace("{webhook_loss: under 5%}", expect)
    house.write(text)
    connection = load_connection("crm", house.home)
    clock = StreamClock("crm", "contacts", True, None, NOW, NOW - 20 * MINUTES, last_event=NOW)
    assert interval_now(connection, clock, NOW) == minutes * MINUTES
    silent = StreamClock("crm", "contacts", True, None, NOW, NOW - 20 * MINUTES, last_event=NOW - 17 * MINUTES)
    assert interval_now(connection, silent, NOW) == 15 * MINUTES
