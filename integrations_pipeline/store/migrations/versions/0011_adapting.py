"""The limiter learns from the source's answers."""

from integrations_pipeline.store.migration import run_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_file("0011_adapting.sql")
