"""Changes on their way to the team's own addresses."""

from integrations_pipeline.store.migration import run_file

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_file("0015_delivery.sql")
