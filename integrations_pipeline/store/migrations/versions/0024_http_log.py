"""The call log."""

from integrations_pipeline.store.migration import run_file

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    run_file("0024_http_log.sql")
