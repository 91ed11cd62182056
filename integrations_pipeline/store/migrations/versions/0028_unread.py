"""A link tells since when a write of ours waits to be seen."""

from integrations_pipeline.store.migration import run_file

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    run_file("0028_unread.sql")
