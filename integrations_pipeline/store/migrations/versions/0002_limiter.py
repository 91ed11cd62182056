"""The shared rate limiter as one function call."""

from integrations_pipeline.store.migration import run_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_file("0002_limiter.sql")
