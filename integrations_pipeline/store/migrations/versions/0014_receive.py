"""Events are applied to rows."""

from integrations_pipeline.store.migration import run_file

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_file("0014_receive.sql")
