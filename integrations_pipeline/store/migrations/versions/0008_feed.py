"""The feed of deletions has a place of its own; edits of what a stream is read by are noticed."""

from integrations_pipeline.store.migration import run_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_file("0008_feed.sql")
