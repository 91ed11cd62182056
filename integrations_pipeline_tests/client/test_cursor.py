"""A watermark is sent in the form the source wants, and never later than it is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from integrations_pipeline.client.cursor import format_cursor
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.streams import Stream

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
WHOLE = MOMENT.replace(microsecond=0)
BEFORE_EPOCH = datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)


def stream(**cursor: Any) -> Stream:
    cursor = cursor if "read" in cursor else {"field": "at", **cursor}
    return Stream.model_validate({"request": "GET /x", "records": ".", "primary_key": "id", "cursor": cursor})


@pytest.mark.parametrize(
    ("form", "watermark", "sent"),
    [
        (None, MOMENT, "2024-01-02T03:04:05.678901Z"),
        (None, MOMENT.replace(microsecond=678000), "2024-01-02T03:04:05.678Z"),
        (None, WHOLE, "2024-01-02T03:04:05Z"),
        (None, WHOLE.astimezone(timezone(timedelta(hours=5))), "2024-01-02T03:04:05Z"),
        (None, date(2024, 1, 2), "2024-01-02"),
        (None, 42, 42),
        (None, Decimal("1.5"), Decimal("1.5")),
        (None, "abc", "abc"),
        (None, "2024-01-02T03:04:05+02:00", "2024-01-02T03:04:05+02:00"),
        ("iso", date(2024, 1, 2), "2024-01-02T00:00:00Z"),
        ("iso", "2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z"),
        ("date", MOMENT, "2024-01-02"),
        ("date", date(2024, 1, 2), "2024-01-02"),
        ("unix", MOMENT, 1704164645),
        ("unix", BEFORE_EPOCH, -2),
        ("unix", 1704164645, 1704164645),
        ("unix", "2024-01-02", 1704153600),
        ("unix_ms", MOMENT, 1704164645678),
        ("unix_ms", BEFORE_EPOCH, -1500),
        ("%Y/%m/%d %H-%M", MOMENT, "2024/01/02 03-04"),
        ("%Y-%m-%d", date(2024, 1, 2), "2024-01-02"),
    ],
)
def test_each_format(form: str | None, watermark: Any, sent: Any) -> None:
    assert format_cursor(stream(format=form), watermark) == sent


def test_an_opaque_cursor_passes_as_it_is() -> None:
    assert format_cursor(stream(read="sync_token"), "2024-01-02") == "2024-01-02"


def test_no_watermark_is_nothing() -> None:
    assert format_cursor(stream(format="unix"), None) is None


def test_an_unknown_format_is_a_mistake_of_the_file() -> None:
    with pytest.raises(ConfigError, match=r"cursor\.format 'swatch'"):
        format_cursor(stream(format="swatch"), MOMENT)
