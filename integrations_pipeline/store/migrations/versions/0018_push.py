"""Pushing: indexes of the outbox, and runs that land answers."""

from integrations_pipeline.store.migration import run_file

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_file("0018_push.sql")
