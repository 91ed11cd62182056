"""Full refreshes that bring rows without a key."""

from integrations_pipeline.store.migration import run_file

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_file("0020_unnamed.sql")
