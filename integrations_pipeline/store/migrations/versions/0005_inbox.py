"""The inbox of events, and the dead letters."""

from integrations_pipeline.store.migration import run_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_file("0005_inbox.sql")
