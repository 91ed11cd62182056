"""Dagster's own storage: a schema `dagster` beside ours, in whichever PostgreSQL is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Field
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)

from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.url import database_url, with_schema

SCHEMA = "dagster"


class Pinged:
    """The web server keeps connections open. Each is asked for a sign of life before it is used, so that a database
    that was away costs nobody an error afterwards."""

    _engine: Any

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        super().optimize_for_webserver(statement_timeout, pool_recycle, max_overflow)  # type: ignore[misc]
        self._engine.pool._pre_ping = True


class Runs(Pinged, PostgresRunStorage):
    """Dagster's runs."""


class Events(Pinged, PostgresEventLogStorage):
    """Dagster's event log."""


class Ticks(Pinged, PostgresScheduleStorage):
    """What schedules and sensors did."""


class HouseStorage(DagsterPostgresStorage):
    """Named in dagster.yaml, so that every Dagster process finds the database with nothing exported.

    Each process that makes one uses the embedded server until it ends.
    """

    def __init__(self, url: str, autocreate: bool = True, inst_data: ConfigurableClassData | None = None):
        self.postgres_url, self.should_autocreate_tables, self._inst_data = url, autocreate, inst_data
        self._run_storage = Runs(url, autocreate)
        self._event_log_storage = Events(url, autocreate)
        self._schedule_storage = Ticks(url, autocreate)
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]  # the parent's makes Dagster's three

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {"should_autocreate_tables": Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> HouseStorage:
        url = with_schema(database_url(Home.from_environment()), SCHEMA)
        return cls(as_psycopg2(url), config_value.get("should_autocreate_tables", True), inst_data)


def as_psycopg2(url: str) -> str:
    """Dagster's own queries are written for psycopg 2; sqlalchemy would take version 3 by itself one day."""
    return "postgresql+psycopg2://" + url.split("://", 1)[1]
