"""The circuit breaker of each connection."""

from integrations_pipeline.store.migration import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_file("0007_breaker.sql")
