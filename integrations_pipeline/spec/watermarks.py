"""A watermark as JSON and back, with its type: the database keeps JSON, which has no times and no exact decimals."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

FORMS: dict[str, Any] = {
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "integer": int,
    "decimal": Decimal,
}


def watermark_to_json(value: Any) -> Any:
    """An aware datetime, a date, an int or a Decimal as ``{type: text}``; text, null and opaque marks as they stand.

    Raises ValueError for a datetime without a zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a watermark's time names no zone")
        return {"timestamp": value.astimezone(UTC).isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"integer": str(value)}
    return {"opaque": value} if isinstance(value, dict) else value


def watermark_from_json(stored: Any) -> Any:
    """What ``watermark_to_json`` was given."""
    if not isinstance(stored, dict):
        return stored
    form, value = next(iter(stored.items()))
    return value if form == "opaque" else FORMS[form](value)
