"""Retention on Dagster: a job, each night by itself."""

from __future__ import annotations

import psycopg
from dagster import DefaultScheduleStatus

from integrations_pipeline_tests.orchestration.conftest import House

CONNECTION = """
connection: shop
api: {url: "URL", pagination: {type: single_page}}
streams: {orders: {request: GET /orders, records: items, primary_key: id}}
"""


def test_the_job_takes_away_what_is_old_and_runs_each_night(house: House) -> None:
    house.add(CONNECTION, records=10)
    definitions = house.definitions()
    schedule = definitions.resolve_schedule_def("prune")
    assert (schedule.cron_schedule, schedule.default_status) == ("40 3 * * *", DefaultScheduleStatus.RUNNING)
    assert house.run().success
    with psycopg.connect(house.url, autocommit=True) as session:
        session.execute("UPDATE integrations.http_log SET at = at - '15 days'::interval")
        assert definitions.resolve_job_def("prune").execute_in_process(instance=house.instance).success
        assert session.execute("SELECT count(*) FROM integrations.http_log").fetchone() == (0,)
        assert session.execute("SELECT count(*) > 0 FROM integrations.decision").fetchone() == (True,)
