"""Which runs are alive: a run's process holds a session that bears the run's name, and loses it however it ends.

Dagster's default launcher can't tell. A run whose process was lost with its code server (a reboot, `kill -9` of all)
would stay STARTED for ever, and keep its pools.
"""

from __future__ import annotations

import time

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.beacon import is_lit
from integrations_pipeline.store.url import database_url

GRACE_SECONDS = 60.0
"""From its start until a run has lit its beacon; loading a thousand connections takes a while."""


class HouseRunLauncher(DefaultRunLauncher):
    """Launches as the default one does, and lets run monitoring find dead runs, which are then retried."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where no process of the run is there; RUNNING while that can't be known."""
        if self.seconds_since_start(run) < GRACE_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has just started")
        try:
            lit = is_lit(database_url(Home.from_environment()), run.run_id)
        except IntegrationError as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"unknown: {error.what}")
        if lit:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone; what it committed is kept")

    def seconds_since_start(self, run: DagsterRun) -> float:
        record = self._instance.get_run_record_by_id(run.run_id)
        started = record.start_time if record else None
        return time.time() - started if started else 0.0
