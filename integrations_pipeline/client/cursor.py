"""A watermark in the form a source is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.streams import Stream, StreamCursor


def format_cursor(stream: Stream, watermark: Any) -> Any:
    """The watermark as `cursor.format` says: text, or a whole number for unix and unix_ms, never later than it is.

    Takes datetime, date, int, Decimal or text. Without `format` a time is ISO in UTC, a date ISO, the rest as it is.
    An opaque cursor (`read`) passes as it is. A pattern that names no zone is written in the zone of the field, as the
    source reads it. Raises ConfigError for a format that doesn't fit.
    """
    cursor = stream.cursor
    if watermark is None or cursor is None or cursor.read is not None:
        return watermark
    return formatted(watermark, cursor, zone_of(stream))


def zone_of(stream: Stream) -> ZoneInfo | None:
    """The zone in which the source means the cursor's times that name none."""
    declared = stream.fields.get(str(stream.cursor.field)) if stream.cursor and stream.cursor.field else None
    return ZoneInfo(declared.zone) if declared is not None and declared.zone else None


def start_of(cursor: StreamCursor | None) -> Any:
    """The declared `start` in the form the source is sent, None where none is declared."""
    if cursor is None or cursor.start is None:
        return None
    if cursor.read is not None or cursor.format is None:
        return cursor.start
    return formatted(moment_of(cursor.start), cursor)


def formatted(value: Any, cursor: StreamCursor, zone: ZoneInfo | None = None) -> Any:
    """A typed value as `cursor.format` says. Raises ConfigError for a format that is none."""
    kind = cursor.format
    value = moment_of(value) if kind else value
    if not isinstance(value, date):
        return value
    if kind is None:
        return iso(value) if isinstance(value, datetime) else value.isoformat()
    if kind == "date":
        return value.date().isoformat() if isinstance(value, datetime) else value.isoformat()
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
    return iso(moment) if kind == "iso" else since_epoch(moment, kind, zone)


def since_epoch(moment: datetime, kind: str, zone: ZoneInfo | None = None) -> Any:
    if kind == "unix":
        return int(moment.timestamp() // 1)
    if kind == "unix_ms":
        return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000
    if "%" not in kind:
        raise ConfigError(f"cursor.format {kind!r} is none of iso, date, unix, unix_ms or a pattern like %Y-%m-%d")
    if zone is not None and "%z" not in kind.lower():
        moment = earlier_of_two(moment.astimezone(zone))
    return moment.strftime(kind)


def earlier_of_two(local: datetime) -> datetime:
    """In the hour that comes twice, the hour before it: nobody knows which of the two a text without a zone means."""
    first, second = (local.replace(fold=fold).utcoffset() or timedelta(0) for fold in (0, 1))
    return local.replace(tzinfo=None) - max(first - second, timedelta(0))


def moment_of(value: Any) -> Any:
    """An ISO text as datetime or date; without a zone it is UTC. Other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        if len(value) <= 10:
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def iso(moment: datetime) -> str:
    """As exact as the watermark itself: a source that gives no fractions may refuse them."""
    digits = "seconds" if not moment.microsecond else "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=digits) + "Z"
