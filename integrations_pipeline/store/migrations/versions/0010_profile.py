"""What a stream's rows usually look like, and what differs from it."""

from integrations_pipeline.store.migration import run_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_file("0010_profile.sql")
