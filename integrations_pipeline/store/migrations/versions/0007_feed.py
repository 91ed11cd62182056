"""The feed of deletions has a place of its own; edits of what a stream is read by are noticed."""

from integrations_pipeline.store.migration import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_file("0007_feed.sql")
