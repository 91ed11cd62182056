"""The base form of a value: how a link's base and a change keep it, in JSON, equal values in one form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from integrations_pipeline.spec.values import version_text


def decimal_form(value: Decimal) -> str:
    """Equal amounts have one form, whatever zeros they came with; no digit is rounded away."""
    text = format(value, "f") if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


FORMS: dict[str, Callable[[Any], Any]] = {"decimal": decimal_form, "timestamp": version_text, "date": version_text}
"""By a kind's type, how its values are written in base form where they aren't JSON already."""

TYPED: dict[str, Callable[[Any], Any]] = {
    "decimal": lambda form: Decimal(str(form)),
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
}
"""By a kind's type, how a base form becomes a value again."""
