"""Update stamps: whole numbers inside (microseconds, or a counter), and how requests and records write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations_pipeline.simulator.values import EPOCH as NAIVE_EPOCH
from integrations_pipeline.simulator.values import time_text
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.streams import StreamCursor

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=300)
"""Seeded records changed within these days after START (or after the cursor's own `start`), evenly and in order."""

SECOND = 1_000_000
DAY = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Form:
    """How a stamp is written: ``number``, or one of the grammar's formats of time."""

    name: str
    is_text: bool = False

    @property
    def is_number(self) -> bool:
        return self.name == "number"

    @property
    def resolution(self) -> int:
        """What the form can tell apart, in units of the stamp."""
        known = {"number": 1, "iso": 1000, "unix_ms": 1000, "unix": SECOND, "date": DAY}
        if self.name in known:
            return known[self.name]
        return 1000 if "%f" in self.name else SECOND if "%S" in self.name or "%s" in self.name else DAY

    def write(self, stamp: int) -> Any:
        if self.is_number:
            return str(stamp) if self.is_text else stamp
        if self.name in ("unix", "unix_ms"):
            number = stamp // self.resolution
            return str(number) if self.is_text else number
        return time_text(NAIVE_EPOCH + timedelta(0, 0, stamp), self.name, "timestamp")

    def read(self, value: Any) -> tuple[int, int]:
        """A stamp and the last stamp that the same text also stands for. Raises ValueError."""
        if self.is_number:
            return int(value), int(value)
        if self.name in ("unix", "unix_ms"):
            stamp = int(float(value) * self.resolution)
            return stamp, stamp + self.resolution - 1
        text = str(value)
        if self.name in ("iso", "date"):
            moment = datetime.fromisoformat(text)
            width = DAY if len(text) == 10 else 1 if "." in text else SECOND
        else:
            moment, width = datetime.strptime(text, self.name), self.resolution
        stamp = microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        return stamp, stamp + width - 1


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def form_in_records(cursor: StreamCursor | None, field: Field | None) -> Form:
    """How the cursor field stands in a record: as declared, else as it is sent."""
    if field is None:
        return Form(cursor.format if cursor and cursor.format else "iso")
    first = field.formats[0] if field.formats else None
    if field.type in ("integer", "decimal"):
        sent = cursor.format if cursor else None
        return Form(sent if sent in ("unix", "unix_ms") else "number")
    if field.type == "date":
        return Form("date" if first is None or first == "iso" else first)
    return Form(first or "iso", is_text=field.type == "string")


def form_in_requests(cursor: StreamCursor, in_records: Form) -> Form:
    if cursor.format:
        return Form(cursor.format)
    return in_records if in_records.is_number or in_records.name == "date" else Form("iso")


def first_moment(cursor: StreamCursor | None) -> datetime:
    """Where the seeded stamps begin, so that a first read from the declared `start` sees every record."""
    if cursor is None or not isinstance(cursor.start, str):
        return START
    try:
        moment = datetime.fromisoformat(cursor.start)
    except ValueError:
        return START
    return max(START, moment if moment.tzinfo else moment.replace(tzinfo=UTC))
