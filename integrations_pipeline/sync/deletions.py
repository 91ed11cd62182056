"""The feed of deletions (`deletes.feed`): a list of its own, read before the stream's list begins.

Its place is kept in the stream's state as ``{"asked", "bookmark", "watermark", "highest", "gap"}`` and moves with the
tombstones. ``gap`` says that the feed no longer went back to where it was read: until a full refresh has ended,
deletions may be missing. Which of a deletion and a record counts: docs/delivery.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from integrations_pipeline.client import Page
from integrations_pipeline.spec.errors import CursorExpired
from integrations_pipeline.spec.fields import Contract
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.streams import Feed, Stream
from integrations_pipeline.spec.watermarks import watermark_to_json
from integrations_pipeline.store.deleting import FeedOrder
from integrations_pipeline.store.state import UNCHANGED, StateChange, StreamState
from integrations_pipeline.sync.listing import Listing, asked_of, final_watermark, plan, shown_past
from integrations_pipeline.sync.lists import read_windows
from integrations_pipeline.sync.pull import Pull


def feed_of(stream: Stream) -> Feed | None:
    return stream.deletes.feed if stream.deletes else None


def read_deletions(pull: Pull, state: StreamState) -> bool:
    """Reads the feed on from its place, where one is declared. The run must be in the log already.

    Returns whether deletions may be missing, so that a full refresh is due. Raises CursorExpired where none could find
    them, since the stream declares no `snapshot`; and what the source raises.
    """
    feed = feed_of(pull.stream)
    if feed is None:
        return False
    pull.progress.phase(pull.stream_name, "reading deletions")
    reading = FeedPull(
        pull.connection, pull.stream_name, pull.client, pull.lease, pull.clock, pull.progress, pull.result,
        pull.started_at, pull,
    )  # fmt: skip
    known = as_list_state(reading, state)
    listing = plan(reading.stream, known, full=False, now=pull.clock.now(), asked=reading.asked)
    forgotten = known.watermark is not None and listing.mode == "full" and reading.stream.cursor is not None
    reading.gap = bool((state.feed or {}).get("gap")) or (forgotten and not listing.resumed)
    read_windows(reading, listing)
    reading.end(listing)
    if reading.gap and not pull.snapshots:
        pull.lease.apply_state(StateChange(feed={**reading.as_json(None), "gap": False}))  # said once: now
        raise CursorExpired(
            "the feed of deletions no longer goes back to where it was read: what was deleted since may still be held",
            who="whoever maintains the connector",
            next="declare `deletes.snapshot`, so that a full refresh finds what is gone; the next sync goes on",
        )
    return reading.gap


def refreshed(pull: Pull) -> StateChange:
    """A full refresh has ended, whatever else becomes of the run: the next is due from now, and nothing that the feed
    had forgotten is missing any more."""
    change, feed = StateChange(last_full_refresh=pull.clock.now()), pull.lease.state().feed
    return replace(change, feed={**feed, "gap": False}) if feed else change


def as_list_state(reading: FeedPull, state: StreamState) -> StreamState:
    """The feed's place in the form of a list's. An edited feed is read from its start."""
    saved = state.feed or {}
    if saved.get("asked") != reading.asked:
        saved = {}
    reading.watermark, reading.highest = saved.get("watermark"), saved.get("highest")
    return replace(state, bookmark=saved.get("bookmark"), watermark=reading.watermark, highest=reading.highest)


def order_of(stream: Stream) -> FeedOrder:
    """What the times of the feed, if it has any, can be compared with."""
    feed = feed_of(stream)
    timed = feed is not None and feed.cursor is not None and feed.cursor.field is not None
    ordered = stream.version is not None or (stream.cursor is not None and stream.cursor.field is not None)
    return FeedOrder(timed, ordered)


def as_stream(stream: Stream) -> Stream:
    """The feed as a stream whose records are deletions: known by the record's key, ordered by the feed's cursor."""
    feed = feed_of(stream)
    assert feed is not None
    keys = (
        [feed.key] if len(stream.primary_key) == 1 else [Path(feed.key.parts + one.parts) for one in stream.primary_key]
    )
    call = feed.call
    return stream.model_copy(
        update={
            **{"request": call.request, "query": call.query or {}, "headers": call.headers or {}, "body": call.body},
            **{"graphql": call.graphql, "parent": None, "records": feed.records, "record": None, "cursor": feed.cursor},
            **{"primary_key": tuple(keys), "version": None, "skip": None, "full": None, "deletes": None, "probe": None},
            **{"fields": {}, "contract": Contract(), "map": None, "write": None},
        }
    )


@dataclass
class FeedPull(Pull):
    """Reads the feed into the same run: its chunks hold tombstones, and its place instead of a bookmark."""

    beside: Pull

    def __post_init__(self) -> None:
        super().__post_init__()
        declared = Pull.what_is_read(self)
        self.feed = order_of(declared)
        self.committer, self.following = self.beside.committer, self.beside.following
        self.asked = asked_of(self.connection, self.stream)
        self.watermark: Any = None
        self.highest: Any = None
        self.gap = False

    def what_is_read(self) -> Stream:
        return as_stream(super().what_is_read())

    def pages_from(self, **where: Any) -> Iterator[Page]:
        return self.client.deleted_keys(
            self.stream_name, position=where["position"], since=where["since"], until=where["until"]
        )

    def spent(self) -> tuple[int, float]:
        return self.beside.spent()

    def submit(self, *states: StateChange) -> None:
        gathered = self.gathered
        gathered.good = {key: row._replace(deleted=True) for key, row in gathered.good.items()}
        for state in states:
            if state.watermark is not UNCHANGED:
                self.watermark = state.watermark
            super().submit(StateChange(feed=self.as_json(state.bookmark)))

    def as_json(self, bookmark: Any) -> dict[str, Any]:
        places = {"bookmark": bookmark, "watermark": self.watermark, "highest": self.highest}
        return {"asked": self.asked, **places, "gap": self.gap}

    def begin_refresh(self, under_way: UUID | None) -> None:
        """Called where the source has forgotten the feed's watermark."""
        self.gap = True

    def end(self, listing: Listing) -> None:
        """The feed was read to its end: its watermark moves, unless it has shown nothing yet."""
        self.committer.settle()
        if listing.high is not None or listing.floor is not None:
            watermark = final_watermark(self.stream, listing)
            self.watermark, self.highest = watermark_to_json(watermark), shown_past(self.stream, listing, watermark)
        self.lease.apply_state(StateChange(feed=self.as_json(None)))
