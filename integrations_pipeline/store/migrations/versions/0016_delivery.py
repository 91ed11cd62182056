"""Changes on their way to the team's own addresses."""

from integrations_pipeline.store.migration import run_file

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_file("0016_delivery.sql")
