"""Decisions name the call that brought the record."""

from integrations_pipeline.store.migration import run_file

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    run_file("0025_witness.sql")
