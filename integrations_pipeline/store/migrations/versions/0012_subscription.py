"""Subscriptions at providers."""

from integrations_pipeline.store.migration import run_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_file("0012_subscription.sql")
