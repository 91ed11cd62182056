"""Changes made here on their way out, and conflicts."""

from integrations_pipeline.store.migration import run_file

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_file("0017_change.sql")
