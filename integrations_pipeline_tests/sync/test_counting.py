"""When, and from where, a source may be asked how many records are new."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.sync.counting import counted_from, settled
from integrations_pipeline.sync.listing import Listing

W = datetime(2024, 5, 1, 12, 0, 0, 300_000, tzinfo=UTC)


def stream(**cursor: Any) -> Stream:
    keys = {"request": "GET /things", "records": "data", "primary_key": "id"}
    return Stream.model_validate({**keys, "cursor": {"field": "at", "send": "since", **cursor}})


def begun(after: timedelta, watermark: datetime = W) -> Listing:
    return Listing("incremental", started_at=watermark + after)


@pytest.mark.parametrize(
    ("cursor", "seconds", "step"),
    [({}, 2, 1), ({"lookback": "10m"}, 601, 1), ({"lookback": "0s"}, 1, 1), ({"format": "unix"}, 2, 1)],
)
def test_a_time_is_asked_past_once_the_lookback_is_over(cursor: Any, seconds: float, step: int) -> None:
    early = begun(timedelta(seconds=seconds, microseconds=-1))
    assert settled(stream(**cursor), early, W) is None
    remembered = settled(stream(**cursor), begun(timedelta(seconds=seconds)), W)
    assert counted_from(remembered) == W + timedelta(seconds=step)


def test_times_sent_as_days_are_asked_past_the_next_day() -> None:
    days = stream(format="date", lookback="1h")
    assert settled(days, begun(timedelta(hours=24)), W) is None
    assert counted_from(settled(days, begun(timedelta(hours=25)), W)) == W + timedelta(days=1)


def test_a_day_is_asked_past_once_it_is_over_everywhere_and_the_lookback_too() -> None:
    day = date(2024, 5, 1)
    for hours, expected in ((71, None), (72, date(2024, 5, 2))):
        listing = begun(timedelta(hours=hours), datetime(2024, 5, 1, tzinfo=UTC))
        assert counted_from(settled(stream(), listing, day)) == expected


def test_a_number_is_asked_past_once_a_list_brought_no_other() -> None:
    assert settled(stream(), Listing("incremental", floor=6), 7) is None
    assert settled(stream(), Listing("full", floor=7), 7) is None
    assert counted_from(settled(stream(), Listing("incremental", floor=7), 7)) == 8


@pytest.mark.parametrize("watermark", [None, "b-7", Decimal("1.5"), {"token": 1}])
def test_what_has_no_next_is_never_asked(watermark: Any) -> None:
    assert settled(stream(), Listing("incremental", floor=watermark, started_at=W), watermark) is None
