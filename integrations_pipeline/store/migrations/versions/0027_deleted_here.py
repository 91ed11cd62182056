"""A link tells whether we deleted its record at the source."""

from integrations_pipeline.store.migration import run_file

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    run_file("0027_deleted_here.sql")
