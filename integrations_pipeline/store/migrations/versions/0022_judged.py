"""What polls find out about webhooks."""

from integrations_pipeline.store.migration import run_file

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_file("0022_judged.sql")
