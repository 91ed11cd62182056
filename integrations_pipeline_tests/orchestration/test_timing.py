"""When things run: schedules, and the sensors that read our own tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import (
    DagsterRunStatus,
    Definitions,
    RunRequest,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.storage.dagster_run import DagsterRun
from dagster._daemon.monitoring.run_monitoring import monitor_started_run
from dagster._utils.schedules import cron_string_iterator

from integrations_pipeline.orchestration import launcher
from integrations_pipeline.orchestration.schedules import cron_of
from integrations_pipeline.orchestration.sensors import full_due, key_time
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.forms import Every, parse_every
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.reports import StreamClock
from integrations_pipeline_tests.orchestration.conftest import House

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("every", ["7m", "90m", "90s", "7h", "2d"])
def test_what_divides_neither_an_hour_nor_a_day_is_no_cron(every: str) -> None:
    assert cron_of(parse_every(every), "crm") is None


def test_a_cron_is_taken_as_it_stands() -> None:
    assert cron_of(parse_every("30 16 * * 1-5 Europe/Berlin"), "crm") == "30 16 * * 1-5"


def test_a_duration_runs_that_often() -> None:
    for minutes in (1, 2, 15, 30, 60, 120, 480, 1440):
        cron = cron_of(Every(interval=timedelta(minutes=minutes)), "crm")
        assert cron is not None
        times = cron_string_iterator(NOW.timestamp(), cron, "UTC")
        first, second, third = next(times), next(times), next(times)
        assert third - second == second - first == timedelta(minutes=minutes), cron


def test_connections_of_one_rhythm_are_spread() -> None:
    crons = {cron_of(Every(interval=timedelta(hours=1)), f"c{number}") for number in range(50)}
    assert len(crons) > 20


def tick(house: House, name: str, definitions: Definitions | None = None) -> list[RunRequest | SkipReason]:
    """What a sensor answers now; of the files as they are, or of definitions that were loaded before."""
    definitions = definitions or house.definitions()
    repository = definitions.get_repository_def()
    with build_sensor_context(
        instance=house.instance, resources=dict(definitions.resources or {}), repository_def=repository
    ) as context:
        data = repository.get_sensor_def(name).evaluate_tick(context)
    return [*data.run_requests, *([SkipReason(data.skip_message)] if data.skip_message else [])]


def asked(requests: Sequence[Any]) -> set[str]:
    """The assets that were asked for."""
    return {key.to_user_string() for one in requests for key in getattr(one, "asset_selection", None) or []}


def test_a_connection_that_never_ran_is_synced_at_once(crm: House) -> None:
    found = tick(crm, "poll_due")
    assert asked(found) == {"crm/contacts", "crm/deals", "canonical/customer"}
    crm.run()
    assert asked(tick(crm, "poll_due")) == set()


def test_an_interval_that_cron_cannot_say_is_polled(crm: House) -> None:
    crm.run()
    crm.ask("UPDATE integrations.run_log SET started_at = now() - interval '8 minutes' RETURNING 1")
    assert asked(tick(crm, "poll_due")) == {"crm/deals"}


def test_a_connection_with_a_run_under_way_is_left_alone(crm: House) -> None:
    crm.instance.add_run(
        DagsterRun(job_name="sync", tags={"integrations/connection": "crm"}, status=DagsterRunStatus.STARTED)
    )
    (skipped,) = tick(crm, "poll_due")
    assert isinstance(skipped, SkipReason)
    assert poll(crm) == (set(), "a sync of crm is still under way")


def poll(house: House) -> tuple[set[str], str | None]:
    """What the schedule asks for, or why it doesn't."""
    definitions = house.definitions()
    schedule = definitions.get_repository_def().get_schedule_def("poll_crm")
    with build_schedule_context(instance=house.instance, resources=dict(definitions.resources or {})) as context:
        data = schedule.evaluate_tick(context)
    return asked(data.run_requests or []), data.skip_message


def test_a_schedule_asks_for_the_streams_of_its_rhythm_and_what_they_feed(crm: House) -> None:
    assert poll(crm) == ({"crm/contacts", "canonical/customer"}, None)


def test_a_schedule_leaves_out_what_is_deferred_or_stopped(crm: House) -> None:
    crm.run("crm/contacts")
    crm.ask("UPDATE integrations.stream_state SET resume_at = now() + interval '1 hour' RETURNING 1")
    assert poll(crm)[0] == set()
    crm.ask("UPDATE integrations.stream_state SET resume_at = NULL, active = false RETURNING 1")
    assert poll(crm)[0] == set()


def test_a_deferred_stream_is_resumed_at_its_time(crm: House) -> None:
    port = crm.running[0].port
    crm.running[0].stop()
    crm.run("crm/contacts")
    assert asked(tick(crm, "resume_deferred")) == set()
    crm.ask("UPDATE integrations.stream_state SET resume_at = now() - interval '1 second' RETURNING 1")
    (request,) = tick(crm, "resume_deferred")
    assert asked([request]) == {"crm/contacts", "canonical/customer"}
    crm.simulations.clear()
    crm.running.clear()
    text = (crm.home.connections / "crm.yaml").read_text().replace(f"http://127.0.0.1:{port}/crm/v3", "URL")
    crm.add(text, port=port)
    assert crm.run("crm/contacts").success
    assert asked(tick(crm, "resume_deferred")) == set()


def test_while_calls_are_paused_nothing_is_started_and_what_fell_due_goes_on_afterwards(crm: House) -> None:
    crm.run("crm/contacts")
    open_breaker = "INSERT INTO integrations.breaker (connection, failures, reason, opened_at, retry_at) VALUES "
    crm.ask(open_breaker + "('crm', 10, 'it is down', now(), now() + interval '1 minute') RETURNING 1")
    crm.ask("UPDATE integrations.run_log SET started_at = now() - interval '1 hour' RETURNING 1")
    assert poll(crm) == (set(), "crm is disconnected, deferred to a later time, or its source is down")
    assert asked(tick(crm, "poll_due")) == set(), "deals never ran, and wait too"
    assert asked(tick(crm, "resume_deferred")) == set()
    crm.ask("UPDATE integrations.breaker SET retry_at = now() RETURNING 1")
    assert asked(tick(crm, "resume_deferred")) == set(), "its own time hasn't come"
    crm.ask("UPDATE integrations.stream_state SET resume_at = now() WHERE resume_at IS NOT NULL RETURNING 1")
    assert asked(tick(crm, "resume_deferred")) == {"crm/contacts", "canonical/customer"}
    assert "crm/deals" in asked(tick(crm, "poll_due"))
    result = crm.run("crm/contacts")
    (event,) = (e for e in result.get_asset_materialization_events() if "contacts" in str(e.asset_key))
    assert event.materialization.metadata["breaker"].value == "closed", "the probe succeeded"


def test_a_stopped_connection_is_not_asked_for(crm: House) -> None:
    crm.run()
    crm.ask("UPDATE integrations.run_log SET started_at = now() - interval '8 minutes' RETURNING 1")
    crm.ask("UPDATE integrations.stream_state SET active = false RETURNING 1")
    assert asked(tick(crm, "poll_due")) == set()


def test_a_full_refresh_is_due_in_off_peak_hours_only(crm: House) -> None:
    connection = load_connection("crm", crm.home)
    clock = StreamClock("crm", "contacts", True, None, NOW - timedelta(days=8), NOW)
    noon, night = NOW, NOW.replace(hour=22)
    assert full_due(connection, clock, noon) is None
    assert full_due(connection, clock, night) == NOW - timedelta(days=1)
    fresh = StreamClock("crm", "contacts", True, None, NOW, NOW)
    assert full_due(connection, fresh, night) is None


def test_the_same_due_time_has_one_key_for_a_while() -> None:
    at = NOW - timedelta(hours=1)
    assert key_time(at, NOW) == key_time(at, NOW + timedelta(minutes=9))
    assert key_time(at, NOW) != key_time(at, NOW + timedelta(minutes=11))


ASKED = """
connection: notes
every: 15m
api:
  url: URL
  retry: {attempts: 1}
  pagination: {type: single_page}
streams:
  notes:
    request: GET /notes
    records: data
    primary_key: id
    cursor: {field: updated, send: since}
    probe: etag
    fields: {id: {type: string, required: true}, updated: {type: timestamp, required: true}}
"""


def test_a_source_that_can_say_so_is_asked_before_a_run_is_started(house: House) -> None:
    source = house.add(ASKED)
    assert [one.name for one in house.definitions().get_repository_def().schedule_defs] == ["prune"]
    assert house.run("notes/notes").success
    assert house.run("notes/notes").success  # from the watermark on: this list has a validator
    later = "UPDATE integrations.run_log SET started_at = started_at - interval '16 minutes' RETURNING 1"
    house.ask(later)
    assert asked(tick(house, "ask_sources")) == set()
    latest = "SELECT status, fetched, requests FROM integrations.run_log ORDER BY started_at DESC LIMIT 1"
    assert house.ask(latest) == [("succeeded", 0, 1)]
    house.ask(later)
    source.insert("notes", 1)
    assert asked(tick(house, "ask_sources")) == {"notes/notes"}
    house.running[0].stop()
    assert asked(tick(house, "ask_sources")) == {"notes/notes"}


COUNTED = ASKED.replace("probe: etag", "probe: {request: GET /notes/count, query: {since: <cursor>}, read: count}")
LATER = "UPDATE integrations.run_log SET started_at = started_at - interval '16 minutes' RETURNING 1"
LATEST = "SELECT status, fetched, requests FROM integrations.run_log ORDER BY started_at DESC LIMIT 1"


class Hands(SystemClock):
    """The source's clock, moved by hand."""

    ahead = timedelta(hours=-3)

    def now(self) -> datetime:
        return super().now() + self.ahead


def newest(source: Simulation) -> str:
    """The key of the record that was changed last."""
    return str(max(source.contents("notes"), key=lambda row: str(row["updated"]))["id"])


def test_a_source_is_asked_how_many_records_are_new(house: House) -> None:
    clock = Hands()
    source = house.add(COUNTED, clock=clock)
    assert house.run("notes/notes").success

    def polled() -> set[str]:
        house.ask(LATER)
        return asked(tick(house, "ask_sources"))

    assert polled() == set()
    assert house.ask(LATEST) == [("succeeded", 0, 1)]
    assert source.requests()[-1].purpose == "count"
    for change in (lambda: source.insert("notes", 1), lambda: source.update("notes", [newest(source)])):
        clock.ahead += timedelta(minutes=30)
        change()
        assert polled() == {"notes/notes"}
        assert house.run("notes/notes").success
        assert polled() == set()
    house.running[0].stop()
    assert polled() == {"notes/notes"}, "the run tells what is wrong"


def test_nothing_is_counted_while_late_records_may_come(house: House) -> None:
    source = house.add(COUNTED.replace("send: since", "send: since, lookback: 5h"), clock=Hands())
    source.update("notes", 1)  # three hours ago
    assert house.run("notes/notes").success
    house.ask(LATER)
    assert asked(tick(house, "ask_sources")) == {"notes/notes"}
    assert "count" not in {request.purpose for request in source.requests()}


def test_a_run_orphaned_by_a_reboot_blocks_its_streams_only_until_it_is_found(
    crm: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes died at once: nobody told Dagster. Run monitoring finds that nobody works on it."""
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.0)
    orphan = DagsterRun(job_name="sync", tags={"integrations/connection": "crm"}, status=DagsterRunStatus.STARTED)
    crm.instance.add_run(orphan)
    assert poll(crm) == (set(), "a sync of crm is still under way")
    record = crm.instance.get_run_record_by_id(orphan.run_id)
    assert record is not None
    monitor_started_run(crm.instance, None, record, logging.getLogger("monitor"))  # type: ignore[arg-type]
    found = crm.instance.get_run_by_id(orphan.run_id)
    assert found is not None and found.status == DagsterRunStatus.FAILURE
    assert poll(crm) == ({"crm/contacts", "canonical/customer"}, None)
