"""The typed form of a record: a field's type, its rules, and what happens to what breaks them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field as Key
from pydantic import field_validator, model_validator

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.forms import Model, Percent, parse_zone

FieldType = Literal["string", "integer", "decimal", "boolean", "timestamp", "date", "json"]
Format = Literal["email", "url", "uuid", "currency", "country"]


class Field(Model):
    """One declared field: its type and the rules pandera checks at the boundary."""

    type: FieldType = "string"
    required: bool = Key(False, description="null, an empty path and a missing key are refused")
    format: Format | None = None
    formats: list[str] | None = Key(
        None, min_length=1, description="of dates: iso, unix, unix_ms, or strptime patterns, tried in order"
    )
    zone: str | None = Key(None, description="the zone of times that name none; without it they are rejected")
    min: Any = None
    max: Any = None
    max_length: int | None = Key(None, gt=0)
    values: list[Any] | None = None
    description: str = ""

    @field_validator("formats")
    @classmethod
    def _formats(cls, value: list[str] | None) -> list[str] | None:
        for one in value or ():
            if one not in ("iso", "unix", "unix_ms") and "%" not in one:
                raise ValueError(f"iso, unix, unix_ms or a pattern like %d.%m.%Y was expected, not {one!r}")
        return value

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        return value and parse_zone(value).key

    @model_validator(mode="after")
    def _fits(self) -> Field:
        stray = [
            name for name, types in RULE_TYPES.items() if getattr(self, name) is not None and self.type not in types
        ]
        if stray:
            raise ValueError(f"{', '.join(stray)} doesn't fit type {self.type}")
        return self


RULE_TYPES: dict[str, tuple[FieldType, ...]] = {
    "format": ("string",),
    "formats": ("timestamp", "date"),
    "zone": ("timestamp",),
    "min": ("integer", "decimal", "timestamp", "date"),
    "max": ("integer", "decimal", "timestamp", "date"),
    "max_length": ("string",),
    "values": ("string", "integer", "boolean"),
}


class Contract(Model):
    """What happens when a source breaks its declared form."""

    new_field: Literal["evolve", "freeze", "quarantine", "discard_value"] = "evolve"
    bad_value: Literal["quarantine", "freeze", "discard_value"] = "quarantine"
    stop_above: Percent = limits.STOP_ABOVE_PERCENT
