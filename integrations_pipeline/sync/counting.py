"""From where a source is asked how many records are new (`probe` with a call): from just past the watermark.

From the watermark itself it would always count the newest record, whose next change leaves the number as it was. Past
it, what comes late (`lookback`) or bears the watermark's own time would be missed, so the question is put only once a
list was read after all that had come (docs/decisions/0012).
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

from integrations_pipeline.client.cursor import format_cursor
from integrations_pipeline.spec.streams import LOOKBACK_DEFAULT, LOOKBACK_DEFAULT_DATES, Stream
from integrations_pipeline.spec.watermarks import watermark_from_json, watermark_to_json
from integrations_pipeline.sync.listing import Listing

DAY = timedelta(days=1)


def settled(stream: Stream, listing: Listing, watermark: Any) -> dict[str, Any] | None:
    """What the stream's state remembers of a list read to its end; None while a run must look again."""
    begin = past(stream, watermark)
    if begin is None or not has_settled(stream, listing, watermark, begin):
        return None
    return {"counted_from": watermark_to_json(begin)}


def counted_from(remembered: dict[str, Any] | None) -> Any:
    """The cursor value to count from, typed; None where a run must look."""
    return watermark_from_json((remembered or {}).get("counted_from"))


def past(stream: Stream, watermark: Any) -> Any:
    """The next value that the request can tell from the watermark; None where values have no next."""
    if isinstance(watermark, datetime):
        later = watermark + timedelta(seconds=1)
        told_apart = format_cursor(stream, later) != format_cursor(stream, watermark)
        return later if told_apart else watermark + DAY
    if isinstance(watermark, date):
        return watermark + DAY
    return watermark + 1 if isinstance(watermark, int) else None


def has_settled(stream: Stream, listing: Listing, watermark: Any, begin: Any) -> bool:
    """Whether the list was begun after all before ``begin`` had come. Of numbers: whether it brought none past it."""
    lookback = stream.cursor.lookback if stream.cursor else None
    if isinstance(watermark, int):
        return listing.mode == "incremental" and listing.floor == watermark
    if listing.started_at is None:
        return False
    if isinstance(watermark, datetime):
        return bool(listing.started_at >= begin + (lookback if lookback is not None else LOOKBACK_DEFAULT))
    days = math.ceil((lookback if lookback is not None else LOOKBACK_DEFAULT_DATES) / DAY)
    return bool(listing.started_at.astimezone(UTC).date() > begin + timedelta(days=days))
