"""Floor 1: a raw record becomes a canonical one, by a closed vocabulary, and explains itself field by field."""

from integrations_pipeline.mapping.mapping import VERSION, FieldStory, Mapped, Mapping, StepStory

__all__ = ["VERSION", "FieldStory", "Mapped", "Mapping", "StepStory"]
