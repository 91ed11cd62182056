"""A record's place in the source's own order: its version, and the cursor value that the watermark is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

from integrations_pipeline.boundary.columns import TYPED, Column, Reader, parse_each, read
from integrations_pipeline.spec.fields import Field, FieldType
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.values import TIME, Parser, in_utc, parse_integer, parser, version_text

FUTURE = timedelta(minutes=1)
"""A stamp further ahead is a wrong clock; followed, it would hide all that comes until then."""

ZONES = timedelta(hours=14)
"""No zone is further ahead of UTC: a stamp that names none may seem that far in the future."""

DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
INTEGER = re.compile(r"-?\d+", re.ASCII)
TIME_OF_DAY = re.compile(r"%[HIscXT]")
NUMBERS = frozenset((int, Decimal))
SIGNS = ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"))
TO_MICROSECONDS = {20: ".000000Z", 24: "000Z", 27: "Z"}


class Order:
    """What the records of a stream are ordered by: `version`, else the cursor's field, else when they were read."""

    def __init__(self, stream: Stream):
        cursor = stream.cursor.field if stream.cursor else None
        self.path = stream.version or cursor
        self.cursor = order_reader(cursor, stream) if cursor else None
        self.version = order_reader(self.path, stream) if self.path else None
        self._type = expected_type(self.path, stream) if self.path else None
        self._iso = self.path is not None and is_iso(self.path, stream)
        self._required = stream.version is not None or self._type in ("string", "integer", "decimal")

    def columns(self, rows: list[Any]) -> tuple[Column | None, Column | None]:
        """The version and the cursor of each row, the same column where they are the same field."""
        version = self.version.read(rows) if self.version else None
        if self.cursor and self.version and self.cursor.path == self.version.path:
            return version, version
        return version, self.cursor.read(rows) if self.cursor else None

    def texts(self, version: Column | None, rows: list[Any], moments: Sequence[datetime]) -> Column:
        """Each row's version as sortable text; ``bad`` where it can't be read. ``moments``: when each was read."""
        if version is None or self.path is None:
            named = {read_at: self.unnamed(read_at) for read_at in set(moments)}
            return Column([named[read_at] for read_at in moments], {})
        if self._iso and not version.bad and (written := as_written(read(rows, self.path))):
            return Column(written, {})
        try:
            texts: Column = Column(list(map(version_text_or_none, version.typed)), dict(version.bad))
        except ValueError:
            texts = parse_each(version_text_or_none, version.typed)
            texts.bad.update(version.bad)
        if None in texts.typed:
            self.fill(texts, moments, among_numbers=not NUMBERS.isdisjoint(map(type, version.typed)))
        return texts

    def fill(self, texts: Column, moments: Sequence[datetime], *, among_numbers: bool) -> None:
        """Rows that name no version: a full refresh may read a list whose rows lack the cursor's field.

        They count as of when they were read, unless their like are ordered by numbers: no time compares with those.
        """
        for position, text in enumerate(texts.typed):
            if text is None and (self._required or among_numbers):
                texts.bad.setdefault(position, f"the version ({self.path}) is missing or null")
            elif text is None:
                texts.typed[position] = self.unnamed(moments[position])

    def unnamed(self, read_at: datetime) -> str:
        """In whole seconds, as many sources tell theirs: what was read in one second is equally new."""
        return version_text(in_utc(read_at).date() if self._type == "date" else read_at.replace(microsecond=0))


def is_iso(path: Path, stream: Stream) -> bool:
    """Whether a text there is read as an ISO time, and as nothing else."""
    declared = stream.fields.get(str(path))
    if declared is None:
        return cursor_format(path, stream) in (None, "iso")
    return declared.type == "timestamp" and declared.formats in (None, ["iso"])


def as_written(values: list[Any]) -> list[Any] | None:
    """The version texts of readable ISO times that are all written in UTC to the same digit; None if they aren't.

    Most sources do write them so, and to print the time again would cost more than to parse it.
    """
    if set(map(type, values)) != {str} or len(lengths := set(map(len, values))) != 1:
        return None
    (length,), joined = lengths, "".join(values)
    signs = [*SIGNS, (19, "Z" if length == 20 else "."), (length - 1, "Z")]
    if length not in TO_MICROSECONDS or any(set(joined[at::length]) != {sign} for at, sign in signs):
        return None
    return [value[:-1] + TO_MICROSECONDS[length] for value in values]


def version_text_or_none(value: Any) -> str | None:
    return None if value is None else version_text(value)


def cursor_format(path: Path, stream: Stream) -> str | None:
    """The cursor's `format`, where the path is the cursor's field."""
    return stream.cursor.format if stream.cursor and stream.cursor.field == path else None


def expected_type(path: Path, stream: Stream) -> FieldType | None:
    """By declaration, else by the cursor's format; None where only the values can tell."""
    declared, format = stream.fields.get(str(path)), cursor_format(path, stream)
    if declared is not None:
        return declared.type
    if format is None:
        return None
    return "date" if format == "date" or (format.startswith("%") and not TIME_OF_DAY.search(format)) else "timestamp"


def order_reader(path: Path, stream: Stream) -> Reader:
    """Reads by the declared type, else by each value's own shape."""
    declared, format = stream.fields.get(str(path)), cursor_format(path, stream)
    if declared is not None:
        return Reader(path, parser(declared), TYPED.get(declared.type, frozenset()))
    if format in (None, "iso", "date"):
        return Reader(path, parse_shape, frozenset((int, NoneType)))
    kind = expected_type(path, stream) or "timestamp"
    field = Field(type=kind, formats=[str(format)], zone="UTC" if kind == "timestamp" else None)
    return Reader(path, either(parser(field), parse_shape))


def either(first: Parser, second: Parser) -> Parser:
    """A cursor's `format` is how it is sent; in the record it may look otherwise."""

    def parse(value: Any) -> Any:
        try:
            return first(value)
        except ValueError:
            return second(value)

    return parse


def parse_shape(value: Any) -> Any:
    """A value that no field declares: ISO times and dates, numbers and digits, other text as it stands.

    A time that names no zone stays text: as such it is compared with its like and sent back unchanged.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("no time, number or text to be ordered by")
    if INTEGER.fullmatch(value):
        return parse_integer(value)
    return parse_time_text(value)


def parse_time_text(text: str) -> Any:
    try:
        if DATE.fullmatch(text):
            return date.fromisoformat(text)
        if TIME.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return in_utc(moment) if moment.tzinfo else text
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} looks like a time, but is none ({error})") from None
    return text


def watermark(values: Iterable[Any], read_at: datetime) -> Any:
    """The highest value that isn't in the future, or None. Values of several types are compared as versions."""
    present = [value for value in values if value is not None]
    kinds = set(map(type, present))
    by = None if len(kinds) <= 1 or kinds <= NUMBERS else sortable
    highest = greatest(present, by)
    if is_future(highest, read_at):
        return greatest([value for value in present if not is_future(value, read_at)], by)
    return highest


def greatest(values: list[Any], by: Callable[[Any], str] | None) -> Any:
    return max(values, key=by, default=None)


def sortable(value: Any) -> str:
    try:
        return version_text(value)
    except ValueError:
        return ""


def is_future(value: Any, read_at: datetime) -> bool:
    """Numbers and other text can't be told."""
    if isinstance(value, datetime):
        return value > read_at + FUTURE
    if isinstance(value, date):
        return value > in_utc(read_at + FUTURE).date()
    if isinstance(value, str) and TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value).replace(tzinfo=UTC) > read_at + FUTURE + ZONES
        except ValueError:
            return False
    return False
