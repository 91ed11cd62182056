"""What trying a quarantined row again needs to know."""

from integrations_pipeline.store.migration import run_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_file("0006_retry.sql")
