"""Subscriptions at providers."""

from integrations_pipeline.store.migration import run_file

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_file("0013_subscription.sql")
