"""Pushing: indexes of the outbox, and runs that land answers."""

from integrations_pipeline.store.migration import run_file

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_file("0019_push.sql")
