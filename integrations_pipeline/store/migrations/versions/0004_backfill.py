"""Runs of a third mode: backfill."""

from integrations_pipeline.store.migration import run_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_file("0004_backfill.sql")
