"""Streams and splits for the tests of this room."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from integrations_pipeline.boundary import Boundary, Split
from integrations_pipeline.spec.streams import Stream

READ_AT = datetime(2024, 6, 1, 12, tzinfo=UTC)


def stream(**keys: Any) -> Stream:
    """A stream of records with an ``id``; further keys as in the YAML."""
    return Stream.model_validate({"request": "GET /records", "records": ".", "primary_key": "id"} | keys)


def split(rows: list[Any], *, desc: bool = False, **keys: Any) -> Split:
    """The rows of one call, judged and counted."""
    answer = Boundary("acme", "records", stream(**keys), desc=desc).split(rows, READ_AT)
    counted = len(answer.good) + len(answer.rejected) + len(answer.skipped) + len(answer.superseded)
    assert counted == len(rows), "a row was lost or made up"
    return answer


def judged(value: Any, **field: Any) -> list[tuple[str, str]]:
    """Rule and message of what is wrong with one value of a declared field ``x``; empty where it is accepted."""
    answer = split([{"id": "1", "x": value}], fields={"x": field})
    return [(one["rule"], one["message"]) for row in answer.rejected for one in row.reasons]
