"""Dagster's own storage: a schema `dagster` beside ours, in whichever PostgreSQL is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Field
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.url import database_url, with_schema

SCHEMA = "dagster"


class HouseStorage(DagsterPostgresStorage):
    """Named in dagster.yaml, so that every Dagster process finds the database with nothing exported.

    Each process that makes one uses the embedded server until it ends.
    """

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {"should_autocreate_tables": Field(bool, is_required=False, default_value=True)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> HouseStorage:  # type: ignore[override]
        url = with_schema(database_url(Home.from_environment()), SCHEMA)
        return cls(as_psycopg2(url), config_value.get("should_autocreate_tables", True), inst_data)


def as_psycopg2(url: str) -> str:
    """Dagster's own queries are written for psycopg 2; sqlalchemy would take version 3 by itself one day."""
    return "postgresql+psycopg2://" + url.split("://", 1)[1]
