"""A watermark comes back from the database as the value it was."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from integrations_pipeline.spec.watermarks import watermark_from_json, watermark_to_json


@pytest.mark.parametrize(
    "value",
    [
        None,
        "opaque-token",
        "2024-01-02T03:04:05",
        0,
        2**70,
        Decimal("12.50"),
        date(2024, 1, 2),
        datetime(2024, 1, 2, 3, 4, 5, 6, UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        {"timestamp": "a source's own token"},
        ["a", 1],
        True,
        1.5,
    ],
)
def test_round_trip_through_json(value: object) -> None:
    back = watermark_from_json(json.loads(json.dumps(watermark_to_json(value))))
    assert back == value
    assert type(back) is type(value)


def test_times_are_kept_in_utc() -> None:
    berlin = datetime(2024, 1, 2, 3, tzinfo=timezone(timedelta(hours=1)))
    assert watermark_to_json(berlin) == {"timestamp": "2024-01-02T02:00:00+00:00"}


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        watermark_to_json(datetime(2024, 1, 2))
