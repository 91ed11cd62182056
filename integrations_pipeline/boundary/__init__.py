"""Floor 1: raw rows become typed, checked and storable ones, or are set aside with the reason. No row is ever lost."""

from integrations_pipeline.boundary.boundary import Boundary
from integrations_pipeline.boundary.outcome import Finding, Landing, Rejected, Split
from integrations_pipeline.boundary.profile import Profile
from integrations_pipeline.boundary.rules_digest import rules_digest

__all__ = ["Boundary", "Finding", "Landing", "Profile", "Rejected", "Split", "rules_digest"]
