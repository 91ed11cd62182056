"""Floor 1: raw rows become typed, checked and storable ones, or are set aside with the reason. No row is ever lost."""

from integrations_pipeline.boundary.boundary import Boundary
from integrations_pipeline.boundary.outcome import Finding, Landing, Rejected, Split

__all__ = ["Boundary", "Finding", "Landing", "Rejected", "Split"]
