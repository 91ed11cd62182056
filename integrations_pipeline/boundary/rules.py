"""The declared rules, checked by pandera: whole batch first, failing rows out, the rest again until it is clean.

Values come typed (columns.py), so nothing is converted here and no unreadable value can hide another's fault.
pandas and pandera are imported at the first check, and never where no field declares a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from integrations_pipeline.spec.codes import COUNTRIES, CURRENCIES
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.formats import is_email, is_url, is_uuid
from integrations_pipeline.spec.values import parser

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

ONE_AT_A_TIME = Lock()
"""pandera imports parts of itself at its first check. Two threads that do so at once can each wait for a part that the
other is importing, and Python then fails one of them."""

RULES = ("min", "max", "values", "max_length", "format")
Test = Callable[[Any], bool]
FORMATS: dict[str, tuple[Test, str]] = {
    "email": (is_email, "no email address"),
    "url": (is_url, "no http or https URL"),
    "uuid": (is_uuid, "no UUID"),
    "currency": (lambda text: text.upper() in CURRENCIES, "no ISO 4217 currency code"),
    "country": (lambda text: text.upper() in COUNTRIES, "no ISO 3166 two-letter country code"),
}
"""Codes may be written in either case: payment providers write `usd`, and the mapping makes them one."""


def test_of(rule: str, field: Field) -> tuple[Test, str]:
    """What a value must pass, and what is said of one that doesn't."""
    if rule == "format":
        return FORMATS[str(field.format)]
    limit = getattr(field, rule)
    if rule == "max_length":
        return lambda value: len(value) <= limit, f"longer than {limit} characters"
    if rule == "values":
        allowed = frozenset(limit)
        return allowed.__contains__, f"none of {', '.join(map(str, limit))}"
    bound = parser(field)(limit)
    if rule == "min":
        return lambda value: value >= bound, f"below {limit}"
    return lambda value: value <= bound, f"above {limit}"


class Rules:
    """The rules of a stream's fields as one pandera schema, built once."""

    def __init__(self, fields: dict[str, Field], where: str):
        self.fields = {name: field for name, field in fields.items() if field.required or rules_of(field)}
        self._tests: dict[tuple[str, str], tuple[Test, str]] = {}
        for name, field in self.fields.items():
            for rule in rules_of(field):
                try:
                    self._tests[name, rule] = test_of(rule, field)
                except ValueError as error:
                    raise ConfigError(f"fields.{name}.{rule}: {error}", where=where) from None

    def message(self, name: str, rule: str) -> str:
        """What a value is that breaks the rule, for people."""
        return "missing or null" if rule == "required" else self._tests[name, rule][1]

    def warm(self) -> None:
        """Checks an empty frame now: pandera looks its parts up (about 1 s of CPU) at the first frame it is shown."""
        if self.fields:
            self.failures(self.frame({name: [] for name in self.fields}, []))

    @cached_property
    def schema(self) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        columns = {
            name: pa.Column(
                None,
                [pa.Check(vectorised(self._tests[name, rule][0]), error=rule) for rule in rules_of(field)],
                nullable=not field.required,
            )
            for name, field in self.fields.items()
        }
        return pa.DataFrameSchema(columns)

    def frame(self, typed: dict[str, list[Any]], positions: Sequence[int]) -> pd.DataFrame:
        """The typed values as a frame of objects, indexed by position. Of a json field its presence is put there."""
        with ONE_AT_A_TIME:
            import pandas as pd

        shown = {n: presence(typed[n]) if field.type == "json" else typed[n] for n, field in self.fields.items()}
        return pd.DataFrame(shown, index=pd.Index(positions), dtype=object)

    def failures(self, frame: pd.DataFrame) -> list[tuple[int, str, str]]:
        """Position, field and rule of every value that breaks one; empty where all is well."""
        with ONE_AT_A_TIME:
            return self._failures(frame)

    def _failures(self, frame: pd.DataFrame) -> list[tuple[int, str, str]]:
        from pandera.errors import SchemaErrors

        try:
            self.schema.validate(frame, lazy=True)
        except SchemaErrors as error:
            cases = error.failure_cases
            if cases["index"].isna().any():  # a check itself failed, so that no row can be blamed
                raise
            rules = ["required" if check == "not_nullable" else check for check in cases["check"]]
            return [(int(i), str(c), r) for i, c, r in zip(cases["index"], cases["column"], rules, strict=True)]
        return []


def rules_of(field: Field) -> list[str]:
    return [rule for rule in RULES if getattr(field, rule) is not None]


def presence(values: list[Any]) -> list[Any]:
    return [None if value is None else True for value in values]


def vectorised(test: Test) -> Callable[[pd.Series[Any]], pd.Series[bool]]:
    """A check of a whole column, made of the test of one value."""

    def check(series: pd.Series[Any]) -> pd.Series[bool]:
        import pandas as pd

        return pd.Series([test(value) for value in series.tolist()], index=series.index, dtype=bool)

    return check
