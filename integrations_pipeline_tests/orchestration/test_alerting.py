"""The sensor that tells people, and the checks of what is expected, as Dagster has them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    GraphDefinition,
    SkipReason,
    build_sensor_context,
    op,
)
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.test_utils import create_run_for_test

from integrations_pipeline.client import Client
from integrations_pipeline.orchestration import alerting
from integrations_pipeline.orchestration.outbox import CHANGES_TAG
from integrations_pipeline.orchestration.schedules import CONNECTION_TAG
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.source import Source
from integrations_pipeline_tests.orchestration.conftest import CRM, House
from integrations_pipeline_tests.orchestration.test_timing import tick
from integrations_pipeline_tests.passing import minutes_pass

TOLD = CRM + "alerts: [{env: CRM_ALERTS}]\n" + "expect: {fresh_within: 1h, records_per_day: at least 1}\n"
SECRET = TOLD.replace("api:\n", "secrets: {token: {env: CRM_TOKEN}}\napi:\n  auth: {type: bearer, token: $token}\n")
OF_CRM = {CONNECTION_TAG: "crm"}


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    with Source(lambda seen: {}) as server:
        monkeypatch.setenv("CRM_ALERTS", server.url.replace("http:", "json:"))
        monkeypatch.setenv("INTEGRATIONS_UI_URL", "http://127.0.0.1:3000")
        yield server


def heard(chat: Source) -> list[dict[str, Any]]:
    found = [seen.json for seen in chat.seen]
    chat.seen.clear()
    return found


def test_a_run_that_failed_before_our_log_could_tell_is_told_with_a_link(
    house: House, chat: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_TOKEN", "planted-3f90aa")
    house.add(SECRET)
    monkeypatch.delenv("CRM_TOKEN")
    run = house.run("crm/contacts", tags=OF_CRM)
    assert not run.success
    for _ in range(2):
        (said,) = tick(house, "alerts")
    assert isinstance(said, SkipReason) and said.skip_message == "1 open alerts, 0 messages sent, 0 not taken"
    (message,) = heard(chat)
    assert message["title"] == "broken: crm: run_failure_sync"
    assert "the environment variable CRM_TOKEN is not set" in message["message"]
    assert f"see: http://127.0.0.1:3000/runs/{run.run_id}" in message["message"]
    monkeypatch.setenv("CRM_TOKEN", "planted-3f90aa")
    assert house.run("crm/contacts", tags=OF_CRM).success
    tick(house, "alerts")
    assert [one["title"] for one in heard(chat)] == ["healed: crm: run_failure_sync"]


def test_a_run_about_to_be_tried_again_is_no_news(house: House, chat: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", "planted-3f90aa")
    house.add(SECRET)
    monkeypatch.delenv("CRM_TOKEN")
    house.run("crm/contacts", tags=OF_CRM)
    (failed,) = house.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
    house.instance.add_run_tags(failed.run_id, {"dagster/will_retry": "true"})
    tick(house, "alerts")
    assert heard(chat) == []
    house.instance.add_run_tags(failed.run_id, {"dagster/will_retry": "false"})
    tick(house, "alerts")
    assert len(heard(chat)) == 1


def test_a_run_that_was_asked_to_stop_is_no_news(house: House, chat: Source) -> None:
    house.add(TOLD)

    @op
    def stopped() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    push = GraphDefinition(name="push", node_defs=[stopped]).to_job(tags={CHANGES_TAG: "crm"})
    with pytest.raises(DagsterExecutionInterruptedError):
        push.execute_in_process(instance=house.instance)
    (failed,) = house.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
    house.instance.add_run_tags(failed.run_id, {"dagster/will_retry": "false"})
    tick(house, "alerts")
    assert heard(chat) == []


def runs(house: House, job: str = "sync", name: str = "crm") -> DagsterRun:
    return create_run_for_test(house.instance, job_name=job, tags={CONNECTION_TAG: name} if name else {})


def dies(house: House, job: str = "sync", name: str = "crm", *, will_retry: bool = False) -> None:
    """A run's process is lost; Dagster tries it again, or gives up."""
    run = runs(house, job, name)
    house.instance.report_run_failed(run)
    house.instance.add_run_tags(run.run_id, {"dagster/will_retry": str(will_retry).lower()})


def succeeds(house: House, job: str = "sync", name: str = "crm") -> None:
    event = DagsterEvent(DagsterEventType.PIPELINE_SUCCESS.value, job)
    house.instance.report_dagster_event(event, runs(house, job, name).run_id)


def titles(house: House, chat: Source, definitions: Definitions | None = None) -> list[str]:
    """Of what the next look tells."""
    tick(house, "alerts", definitions)
    return [one["title"] for one in heard(chat)]


def test_a_job_that_keeps_crashing_is_broken_once(house: House, chat: Source) -> None:
    """Each poll is tried three times: the first two of them are about to be tried again."""
    house.add(TOLD)
    told = []
    for _ in range(2):
        for will_retry in (True, True, False):
            dies(house, will_retry=will_retry)
            told += titles(house, chat)
    assert told == ["broken: crm: run_failure_sync"]
    succeeds(house, "full_refresh")
    assert titles(house, chat) == [], "another job"
    succeeds(house)
    assert titles(house, chat) == ["healed: crm: run_failure_sync"]


def test_what_healed_stays_healed_whatever_others_do(
    house: House, chat: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "LOOK_RUNS", 5)
    house.add(TOLD)
    dies(house)
    assert titles(house, chat) == ["broken: crm: run_failure_sync"]
    for _ in range(5):
        succeeds(house, name="other")
    assert titles(house, chat) == []
    succeeds(house)
    assert titles(house, chat) == ["healed: crm: run_failure_sync"]
    for _ in range(5):
        succeeds(house, name="other")
    assert titles(house, chat) == []


def test_many_failures_of_others_hide_none(house: House, chat: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a tick takes: the next one goes on where it ended."""
    monkeypatch.setattr(alerting, "LOOK_RUNS", 3)
    house.add(TOLD)
    dies(house)
    for _ in range(4):
        dies(house, name="other")
    found, cursor = alerting.failures(house.instance, None)
    assert [one.dagster_run.tags[CONNECTION_TAG] for one in found] == ["crm", "other", "other"]
    found, cursor = alerting.failures(house.instance, cursor)
    assert [one.dagster_run.tags[CONNECTION_TAG] for one in found] == ["other", "other"]
    assert titles(house, chat) == ["broken: crm: run_failure_sync"]


def test_a_crash_stays_open_until_a_success_however_long(house: House, chat: Source) -> None:
    house.add(TOLD)
    dies(house)
    assert titles(house, chat) == ["broken: crm: run_failure_sync"]
    house.ask("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '8 days' RETURNING 1")
    assert titles(house, chat) == []
    succeeds(house)
    assert titles(house, chat) == ["healed: crm: run_failure_sync"]


def test_jobs_of_the_whole_home_are_told_too(house: House, chat: Source) -> None:
    house.add(TOLD)
    dies(house, "prune", "")
    dies(house, "deliver", "")
    assert titles(house, chat) == ["broken: the whole home: 2 alerts"]
    succeeds(house, "prune", "")
    assert titles(house, chat) == ["healed: the whole home: run_failure_prune"]


def test_a_disconnected_connection_has_no_crashed_runs(house: House, chat: Source) -> None:
    house.add(TOLD)
    dies(house)
    stopped = "INSERT INTO integrations.stream_state (connection, stream, active) VALUES "
    house.ask(stopped + "('crm', 'contacts', false), ('crm', 'deals', false) RETURNING 1")
    assert titles(house, chat) == []


def test_a_file_that_breaks_is_told_before_anybody_reloads(house: House, chat: Source) -> None:
    house.add(TOLD)
    file = house.home.connections / "crm.yaml"
    whole = file.read_text()
    definitions = house.definitions()
    assert titles(house, chat, definitions) == []
    file.write_text(whole + "evry: 5m\n")
    assert titles(house, chat, definitions) == ["broken: connections/crm.yaml: broken_file"]
    file.write_text(whole)
    assert titles(house, chat, definitions) == ["healed: connections/crm.yaml: broken_file"]


def test_a_stream_that_failed_in_words_is_told_once_with_its_run(house: House, chat: Source) -> None:
    simulation = house.add(TOLD)
    house.run(tags=OF_CRM)
    assert tick(house, "alerts") and heard(chat) == []
    simulation.switch(["404 on contacts"])
    run = house.run("crm/contacts", tags=OF_CRM)
    assert not run.success
    tick(house, "alerts")
    (message,) = heard(chat)
    assert message["title"] == "broken: crm/contacts: run_failure"
    assert f"/runs/{run.run_id}" in message["message"]


def test_what_is_wrong_is_known_also_where_nobody_is_told(crm: House) -> None:
    crm.simulations["crm"].switch(["404 on contacts"])
    crm.run("crm/contacts", tags=OF_CRM)
    (said,) = tick(crm, "alerts")
    assert isinstance(said, SkipReason) and said.skip_message == "1 open alerts, 0 messages sent, 0 not taken"
    assert crm.ask("SELECT connection, stream, condition FROM integrations.alert") == [
        ("crm", "contacts", "run_failure")
    ]


def test_what_is_expected_is_a_check_with_its_number(house: House) -> None:
    house.add(TOLD)
    result = house.run()
    checks = {
        one.check_name: {name: value.value for name, value in one.metadata.items()}
        for one in result.get_asset_check_evaluations()
        if one.asset_key == AssetKey(["crm", "contacts"]) and one.passed
    }
    assert checks["records_per_day"] == {"records per day": 30}
    assert checks["zero_records"] == {"records per hour": 30}
    assert checks["invalid_record_percent"] == {"invalid %": 0.0}
    assert set(checks) >= {"record_count_deviation", "run_time_drift"}


def test_freshness_is_promised_for_streams_and_the_kinds_they_feed(house: House) -> None:
    house.add(TOLD)
    graph = house.definitions().resolve_asset_graph()
    for key in (AssetKey(["crm", "contacts"]), AssetKey(["canonical", "customer"])):
        policy = graph.get(key).freshness_policy
        assert isinstance(policy, TimeWindowFreshnessPolicy)
        assert policy.fail_window.to_timedelta() == timedelta(hours=1)


def sync_by_hand(house: House, name: str) -> None:
    """What `integrations sync` does."""
    connection, kinds = load_connection_and_kinds(name, house.home)
    with Store(house.url) as store:
        client = Client(connection, limiter=store.limiter(connection))
        try:
            assert sync(connection, client, store, kinds).status == "succeeded"
        finally:
            client.close()


def told_from_outside(house: House) -> set[str]:
    """The assets that the sensor says were read without a run of Dagster."""
    minutes_pass(house.url, 1)
    definitions = house.definitions()
    repository = definitions.get_repository_def()
    with build_sensor_context(
        instance=house.instance, resources=dict(definitions.resources or {}), repository_def=repository
    ) as context:
        data = repository.get_sensor_def("read_outside_runs").evaluate_tick(context)
    return {one.asset_key.to_user_string() for one in data.asset_events if one.asset_key}


def test_what_was_read_without_a_run_of_dagster_counts_for_its_freshness(house: House) -> None:
    """In the terminal here; a question answered with "nothing new" leaves the same in our log."""
    house.add(TOLD)
    house.run(tags=OF_CRM)
    assert told_from_outside(house) == set()
    sync_by_hand(house, "crm")
    assert told_from_outside(house) == {"crm/contacts", "crm/deals", "canonical/customer"}
