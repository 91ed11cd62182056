"""The triggers of canonical tables, and the view of each record's state."""

from integrations_pipeline.store.migration import run_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_file("0003_canonical.sql")
