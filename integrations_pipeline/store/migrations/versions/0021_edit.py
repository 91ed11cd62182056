"""Edits through the gateway."""

from integrations_pipeline.store.migration import run_file

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_file("0021_edit.sql")
