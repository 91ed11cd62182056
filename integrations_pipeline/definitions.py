"""What Dagster loads (workspace.yaml): everything of the home as definitions."""

from integrations_pipeline.orchestration.building import build
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.lines import log_lines

log_lines("info")
defs = build(Home.from_environment())
