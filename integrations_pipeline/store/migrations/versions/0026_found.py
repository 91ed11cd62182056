"""What was found to differ stays beside what is sent of it."""

from integrations_pipeline.store.migration import run_file

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    run_file("0026_found.sql")
