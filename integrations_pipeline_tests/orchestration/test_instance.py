"""Dagster's instance on our database: its own schema, lost connections, and runs whose process is gone."""

from __future__ import annotations

import pytest
from dagster import DagsterRunStatus
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun, RunsFilter

from integrations_pipeline.orchestration import launcher
from integrations_pipeline.store.beacon import is_lit, light
from integrations_pipeline.store.url import with_schema
from integrations_pipeline_tests.orchestration.conftest import House
from integrations_pipeline_tests.patience import until


def test_dagster_lives_in_a_schema_of_its_own(house: House) -> None:
    assert house.ask("SELECT to_regclass('dagster.runs') IS NOT NULL, to_regclass('public.runs') IS NULL") == [
        (True, True)
    ]


def test_a_url_with_options_keeps_them(house: House) -> None:
    found = with_schema(f"{house.url}?connect_timeout=5", "other")
    assert found.endswith("?connect_timeout=5&options=-csearch_path%3Dother")
    assert house.ask("SELECT to_regnamespace('other') IS NOT NULL") == [(True,)]


def test_the_web_servers_connections_survive_a_lost_database(house: House) -> None:
    house.instance.run_storage.optimize_for_webserver(5_000, 3_600, 5)
    house.instance.run_storage.get_runs_count()
    house.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert house.instance.run_storage.get_runs_count(RunsFilter()) == 0


def test_a_beacon_goes_out_with_its_process(house: House) -> None:
    with light(house.url, "a"):
        assert is_lit(house.url, "a")
        assert not is_lit(house.url, "b")
    until(lambda: not is_lit(house.url, "a"))


def test_a_run_without_its_process_is_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.0)
    run = house.instance.add_run(DagsterRun(job_name="sync", status=DagsterRunStatus.STARTED))
    check = house.instance.run_launcher.check_run_worker_health
    assert house.instance.run_launcher.supports_check_run_worker_health
    assert check(run).status == WorkerStatus.FAILED
    with light(house.url, run.run_id):
        assert check(run).status == WorkerStatus.RUNNING
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 60.0)
    assert check(run).status == WorkerStatus.RUNNING


def test_a_run_that_cannot_be_asked_about_is_left_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.0)
    run = house.instance.add_run(DagsterRun(job_name="sync", status=DagsterRunStatus.STARTED))
    monkeypatch.setattr(launcher, "database_url", lambda home: "postgresql://nobody@127.0.0.1:1/none")
    assert house.instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
