"""The first tables."""

from integrations_pipeline.store.migration import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_file("0001_house.sql")
