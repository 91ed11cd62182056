"""Floor 1: a raw record becomes a canonical one, by a closed vocabulary, explains itself, and goes back."""

from integrations_pipeline.mapping.backwards import Backwards, Payload
from integrations_pipeline.mapping.mapping import VERSION, FieldStory, Mapped, Mapping, StepStory

__all__ = ["VERSION", "Backwards", "FieldStory", "Mapped", "Mapping", "Payload", "StepStory"]
