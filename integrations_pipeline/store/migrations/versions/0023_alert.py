"""Alerts, and who was told."""

from integrations_pipeline.store.migration import run_file

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_file("0023_alert.sql")
