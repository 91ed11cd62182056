"""The `map` block: from a raw record to the fields of a canonical kind."""

from __future__ import annotations

from typing import Any

from pydantic import Field as Key
from pydantic import GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from integrations_pipeline.spec.conditions import ConditionText
from integrations_pipeline.spec.forms import Model, parse_zone
from integrations_pipeline.spec.paths import PathText

PLAIN_TRANSFORMS = (
    "trim",
    "lower",
    "upper",
    "collapse",
    "digits",
    "email",
    "phone",
    "country",
    "currency",
    "boolean",
    "integer",
    "decimal",
    "decimal_comma",
    "date",
    "timestamp",
    "unescape_html",
    "strip_html",
)
"""Transforms without an argument; `date` and `timestamp` also take one (formats, or a zone)."""

ARGUMENT_TRANSFORMS = ("minor_units", "truncate", "split", "between", "default", "null_if", "date", "timestamp")
"""Transforms written as ``{name: argument}``."""

NOT_INVERTIBLE = {
    "join": "the parts can't be told apart again",
    "first": "it isn't known which of the paths the value came from",
    "split": "the other parts are gone",
    "between": "what stood around it is gone",
    "truncate": "what was cut off is gone",
    "strip_html": "the tags are gone",
}
"""What can't be written back, with the reason: two sources of a value, and four transforms."""


class Transform(Model):
    """One step of `apply`: a name, or a name with its argument."""

    name: str
    argument: Any = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names: dict[str, Any] = {name: {} for name in ARGUMENT_TRANSFORMS}
        with_argument = {"type": "object", "properties": names, "additionalProperties": False, "maxProperties": 1}
        return {"anyOf": [{"enum": list(PLAIN_TRANSFORMS)}, with_argument]}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str) and value in PLAIN_TRANSFORMS:
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ARGUMENT_TRANSFORMS:
            return {"name": next(iter(value)), "argument": next(iter(value.values()))}
        if isinstance(value, dict) and set(value) == {"name", "argument"}:
            return value
        known = sorted({*PLAIN_TRANSFORMS, *ARGUMENT_TRANSFORMS})
        raise ValueError(f"a transform was expected ({', '.join(known)}), not {value!r}")

    @model_validator(mode="after")
    def _argument(self) -> Transform:
        check_argument(self.name, self.argument)
        return self


def check_argument(name: str, argument: Any) -> None:
    """Raises ValueError in the words of the grammar where a transform's argument has the wrong form."""
    pair = isinstance(argument, list) and len(argument) == 2
    wrong = {
        "minor_units": (
            not isinstance(argument, str | int) or isinstance(argument, bool),
            "a currency's path or a number of digits: {minor_units: currency}",
        ),
        "truncate": (
            not isinstance(argument, int) or isinstance(argument, bool) or argument < 1,
            "a number of characters: {truncate: 80}",
        ),
        "split": (
            not pair
            or not (isinstance(argument[0], str) and argument[0])
            or not isinstance(argument[1], int)
            or isinstance(argument[1], bool),
            "separator and index: {split: [/, -1]}",
        ),
        "between": (
            not pair or not all(isinstance(a, str) and a for a in argument),
            'two texts: {between: ["(", ")"]}',
        ),
    }.get(name, (False, ""))
    if wrong[0]:
        raise ValueError(f"{name} expects {wrong[1]}")
    if name in ("date", "timestamp") and argument is not None:
        time_argument(argument)


def time_argument(argument: Any) -> tuple[list[str] | None, str | None]:
    """The formats and the zone in the argument of `date` or `timestamp`. Raises ValueError where one is neither.

    A format is ``iso``, ``unix``, ``unix_ms`` or a pattern with ``%``; any other text is an IANA zone.
    """
    parts = argument if isinstance(argument, list) else [argument]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"formats or a zone were expected: {{date: '%d.%m.%Y'}}, not {argument!r}")
    formats = [part for part in parts if part in ("iso", "unix", "unix_ms") or "%" in part]
    zones = [parse_zone(part).key for part in parts if part not in formats]
    if len(zones) > 1:
        raise ValueError(f"one zone was expected, not {len(zones)}")
    return formats or None, zones[0] if zones else None


class MapField(Model):
    """How one canonical field is made: exactly one source, then transforms, then values or a look-up."""

    short_form = {"type": ["string", "array"]}
    from_: PathText | None = Key(None, alias="from")
    first: list[PathText] | None = Key(None, min_length=1)
    join: list[PathText] | None = Key(None, min_length=1)
    with_: str = Key(" ", alias="with")
    value: Any = None
    apply: list[Transform] = []
    values: dict[Any, Any] | None = None
    else_: Any = Key(None, alias="else")
    lookup: str | None = None
    where: ConditionText | None = None
    take: PathText | None = None
    required: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _one_source(self) -> MapField:
        given = [n for n in ("from_", "first", "join", "value") if n in self.model_fields_set]
        if len(given) != 1:
            raise ValueError("exactly one of from, first, join, value was expected")
        if (self.where is None) != (self.take is None):
            raise ValueError("`where` and `take` belong together")
        if "with_" in self.model_fields_set and self.join is None:
            raise ValueError("`with` belongs to `join`")
        if "else_" in self.model_fields_set and self.values is None:
            raise ValueError("`else` belongs to `values`")
        return self


class Map(Model):
    """The `map` block of a stream: the kind it feeds, the keys it matches by, and each canonical field."""

    to: str
    match: list[list[str]] = []
    fields: dict[str, MapField] = Key(min_length=1)

    @field_validator("match", mode="before", json_schema_input_type=list[str | list[str]])
    @classmethod
    def _match(cls, value: Any) -> Any:
        return [[one] if isinstance(one, str) else one for one in value] if isinstance(value, list) else value
