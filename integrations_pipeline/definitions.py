"""What Dagster loads (workspace.yaml): everything of the home as definitions."""

from integrations_pipeline.orchestration.building import build
from integrations_pipeline.spec.home import Home

defs = build(Home.from_environment())
