"""One list being read: in which mode, from which watermark, where it goes on. Its JSON form is the bookmark.

planned ──pages──▶ under way (bookmark after each chunk) ──last page──▶ read (bookmark says done)
   ▲                    │ expired                                          │ tombstones, watermark
   └── from the start ──┘                                                  ▼ bookmark null
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.streams import LOOKBACK_DEFAULT, LOOKBACK_DEFAULT_DATES, Stream
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.spec.watermarks import watermark_from_json, watermark_to_json
from integrations_pipeline.store.state import StreamState

Mode = Literal["incremental", "full"]


@dataclass
class Listing:
    """A list under way. ``since``, ``high`` (the highest met in it) and ``floor`` (the stream's before it) are typed
    watermarks, as are ``first`` (the highest of its first page) and ``before`` (what the list before it showed past
    ``floor``). ``started_at`` is the source's time of page one, ``asked`` tells which list ``position`` belongs to,
    ``ties`` are those of a list that comes newest first."""

    mode: Mode
    since: Any = None
    position: dict[str, Any] | None = None
    started_at: datetime | None = None
    high: Any = None
    window_end: Any = None
    done: bool = False
    asked: str = ""
    floor: Any = None
    resumed: bool = False
    ties: Any = None
    first: Any = None
    before: Any = None

    def as_bookmark(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "since": watermark_to_json(self.since),
            "position": self.position,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "high": watermark_to_json(self.high),
            "window_end": watermark_to_json(self.window_end),
            "done": self.done,
            "asked": self.asked,
            **({"ties": self.ties} if self.ties else {}),
            "first": watermark_to_json(self.first),
        }

    @classmethod
    def from_bookmark(cls, saved: dict[str, Any]) -> Listing:
        started = saved.get("started_at")
        return cls(
            mode=saved["mode"],
            since=watermark_from_json(saved["since"]),
            position=saved["position"],
            started_at=datetime.fromisoformat(started) if started else None,
            high=watermark_from_json(saved["high"]),
            window_end=watermark_from_json(saved["window_end"]),
            done=saved["done"],
            asked=saved["asked"],
            resumed=True,
            ties=saved.get("ties"),
            first=watermark_from_json(saved.get("first")),
        )

    def saw(self, watermark: Any) -> None:
        """Remembers the highest cursor value met in this list."""
        self.high = highest(self.high, watermark)


def highest(one: Any, other: Any) -> Any:
    """The higher watermark. A source that writes some as days and some as times is compared as versions are."""
    if one is None or other is None:
        return other if one is None else one
    try:
        return max(one, other)
    except TypeError:
        return max(one, other, key=version_text)


def asked_of(connection: Connection, stream: Stream, refresh: object = None) -> str:
    """A digest of all that decides which list is read. After an edit, or in another full refresh that must see every
    key itself, a position in the former list leads nowhere."""
    api = connection.api
    snapshots = stream.deletes is not None and stream.deletes.snapshot is not None
    parts = (
        (api.url, api.query, api.pagination),
        (stream.request, stream.query, stream.body, stream.graphql, stream.parent, stream.full),
        (stream.records, stream.record, stream.pagination, stream.primary_key, stream.cursor),
        (snapshots, str(refresh)),
    )
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def plan(stream: Stream, state: StreamState, *, full: bool, now: datetime, asked: str) -> Listing:
    """What to read next: a list under way goes on, unless a full refresh is wanted and it isn't one, or the list that
    is asked for has been edited since."""
    watermark, before = watermark_from_json(state.watermark), watermark_from_json(state.highest)
    if state.bookmark is not None and state.bookmark.get("asked") == asked:
        under_way = Listing.from_bookmark(state.bookmark)
        if under_way.mode == "full" or not full:
            under_way.floor = watermark if under_way.mode == "incremental" else None
            under_way.before = before
            return under_way
    if full or needs_full(stream, state, watermark, now):
        begin = start_of(stream)
        return Listing("full", since=begin, window_end=window_end(stream, begin), asked=asked, before=before)
    since = looked_back(stream, watermark)
    end = window_end(stream, since)
    return Listing("incremental", since=since, floor=watermark, window_end=end, asked=asked, before=before)


def start_of(stream: Stream) -> Any:
    """The declared `start` of the cursor, typed, where windows are walked from it; else None: the client sends it."""
    cursor = stream.cursor
    if cursor is None or cursor.step is None or cursor.start is None:
        return None
    if isinstance(cursor.start, str):
        return date.fromisoformat(cursor.start[:10]) if dated(stream) else parse_moment(cursor.start)
    return cursor.start


def parse_moment(text: str) -> datetime:
    """An ISO time; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def dated(stream: Stream) -> bool:
    """Whether the cursor counts days, not moments."""
    cursor = stream.cursor
    if cursor is None:
        return False
    declared = stream.fields.get(str(cursor.field)) if cursor.field else None
    return cursor.format == "date" or (declared is not None and declared.type == "date")


def looked_back(stream: Stream, watermark: Any) -> Any:
    """The watermark less the lookback (1 s unless told otherwise, 1 day for dates); numbers and opaque values as is."""
    cursor = stream.cursor
    if cursor is None or cursor.read is not None:
        return watermark
    if isinstance(watermark, datetime):
        return watermark - (cursor.lookback or LOOKBACK_DEFAULT)
    if isinstance(watermark, date):
        back = max(cursor.lookback or LOOKBACK_DEFAULT_DATES, timedelta(0))
        return watermark - timedelta(days=math.ceil(back / timedelta(days=1)))
    return watermark


def needs_full(stream: Stream, state: StreamState, watermark: Any, now: datetime) -> bool:
    """Without a cursor each poll is full; so is the first one, and one whose watermark the source has forgotten."""
    if stream.cursor is None or watermark is None:
        return True
    kept = stream.cursor.retention
    if kept is None:
        return False
    if isinstance(watermark, datetime):
        return watermark < now - kept
    return state.last_success is not None and state.last_success < now - kept


def final_watermark(stream: Stream, listing: Listing) -> Any:
    """The watermark once a list has ended.

    A row changed while the list was read may lie below what later pages showed, so the watermark never passes the
    source's time of the first page, except in a list sorted ascending, where a changed row moves to the end. Numbers
    and other text have no such time: see ``proven``. Nor does it age while nothing changes until the source, which
    forgets (`retention`), would refuse it.
    """
    cursor = stream.cursor
    if cursor is None:
        return None
    if cursor.read is not None:
        return listing.floor if listing.high is None else listing.high
    started = listing.started_at
    high = highest(listing.high, listing.floor)
    if cursor.retention is not None and started is not None and isinstance(high, date):
        known = started - cursor.retention / 2
        high = highest(high, known if isinstance(high, datetime) else known.astimezone(UTC).date())
    if high is None:
        return started_as_watermark(stream, started)
    if started is None or (cursor.order == "asc" and listing.mode == "incremental"):
        return high
    if isinstance(high, datetime):
        return min(high, started)
    if isinstance(high, date):
        return min(high, started.astimezone(UTC).date())
    if cursor.order == "asc" and stream.full is None:
        return high
    return proven(listing, high)


def proven(listing: Listing, high: Any) -> Any:
    """The highest cursor value, of those no clock can judge, that the source surely had given when the list began: that
    of the first page, or of the list read before. A row that has changed since bears a higher one. So what one poll
    brings past its first page the next one asks for again, once."""
    before = listing.before if highest(listing.before, high) == high else None  # else the source counts anew
    sure = highest(highest(listing.first, before), listing.floor)
    return high if highest(sure, high) == sure else sure


def shown_past(stream: Stream, listing: Listing, watermark: Any) -> Any:
    """What a list read to its end has shown past its final watermark, as JSON: ``before`` of the next one."""
    high = highest(listing.high, listing.floor)
    if stream.cursor is None or stream.cursor.read is not None or isinstance(high, date) or high == watermark:
        return None
    return watermark_to_json(high)


def started_as_watermark(stream: Stream, started: datetime | None) -> Any:
    """The `Date` of a full refresh's first page, where the rows lack the cursor field (GRAMMAR, Rules)."""
    cursor = stream.cursor
    if cursor is None or cursor.field is None or started is None:
        return None
    if dated(stream):
        return started.astimezone(UTC).date()
    declared = stream.fields.get(str(cursor.field))
    counts = declared is not None and declared.type in ("integer", "decimal") and cursor.format is None
    return None if counts else started


def next_window(listing: Listing, now: datetime) -> Any:
    """Where the window after the one just read begins, or None when it has reached the present."""
    end = listing.window_end
    if end is None:
        return None
    present = now.date() if isinstance(end, date) and not isinstance(end, datetime) else now
    return end if end < present else None


def window_end(stream: Stream, begin: Any) -> Any:
    """The end of the window that begins there, for cursors with a `step`."""
    cursor = stream.cursor
    if cursor is None or cursor.step is None or begin is None:
        return None
    return begin + max(cursor.step, timedelta(days=1)) if type(begin) is date else begin + cursor.step
