"""Pull: from a source's pages to raw rows, quarantine, counters and bookmark, committed together chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

from integrations_pipeline.boundary import Boundary, Landing, Profile, Split
from integrations_pipeline.client import Client, Page
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.limits import (
    CHUNK_RECORDS,
    CHUNK_SECONDS,
    STOP_ABOVE_ROWS,
    TIED_KEYS,
    TOMBSTONE_PERCENT,
)
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.deleting import FeedOrder
from integrations_pipeline.store.landing import Chunk, Counters
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.store.profiles import read_profile, save_profile
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.sync.committing import Committer
from integrations_pipeline.sync.listing import Mode
from integrations_pipeline.sync.progress import Progress
from integrations_pipeline.sync.reading import Reading
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.shape import Following


@dataclass
class Gathered:
    """Checked rows of the chunk being gathered, with the states that are committed beside them."""

    good: dict[str, Landing] = field(default_factory=dict)
    rejected: list[Any] = field(default_factory=list)
    skipped: list[tuple[str | None, str]] = field(default_factory=list)
    superseded: list[tuple[str, str]] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    parent_keys: dict[str, str] = field(default_factory=dict)
    rejected_parents: dict[bytes, str] = field(default_factory=dict)
    replaced_parents: list[str] = field(default_factory=list)
    calls: dict[str | bytes, int] = field(default_factory=dict)
    records: int = 0
    pages: int = 0
    read_at: datetime | None = None  # of the first of them: no row is older

    def add(self, row: Landing, parent_key: str | None, call: int | None = None) -> None:
        """One row per key: met again under another parent, the later one stands unless it is older."""
        known = self.good.get(row.external_id)
        if known is not None and known.version > row.version:
            self.superseded.append((row.external_id, row.version))
            return
        if known is not None:
            self.superseded.append((known.external_id, known.version))
        self.good[row.external_id] = row
        if parent_key is not None:
            self.parent_keys[row.external_id] = parent_key
        if call is not None:
            self.calls[row.external_id] = call


@dataclass
class Ties:
    """Of a list that comes newest first: the keys met at the lowest version so far. Of a later row with such a key and
    the same version the earlier one is the newer, also where a chunk was committed between them."""

    version: str = ""
    keys: set[str] = field(default_factory=set)

    def part(self, rows: list[Landing]) -> tuple[list[Landing], list[tuple[str, str]]]:
        """The rows that stand, and (external id, version) of the others."""
        older = {row.external_id for row in rows if row.version == self.version and row.external_id in self.keys}
        if rows and (lowest := min(row.version for row in rows)) != self.version:
            self.version, self.keys = lowest, set()
        self.keys.update(row.external_id for row in rows if row.version == self.version)
        standing = [row for row in rows if row.external_id not in older]
        return standing, [(row.external_id, row.version) for row in rows if row.external_id in older]

    def as_json(self) -> list[Any] | None:
        """What a bookmark keeps of them; nothing of very many, where the rule then doesn't hold across a crash."""
        return [self.version, sorted(self.keys)] if len(self.keys) <= TIED_KEYS else None

    @classmethod
    def from_json(cls, saved: list[Any] | None) -> Ties:
        return cls(saved[0], set(saved[1])) if saved else cls()


@dataclass
class Pull:
    """One run of one stream: what it reads from, where it lands, and what it counted."""

    connection: Connection
    stream_name: str
    client: Client
    lease: Lease
    clock: Clock
    progress: Progress
    result: StreamResult
    started_at: datetime

    def __post_init__(self) -> None:
        self.stream = self.what_is_read()
        self.feed: FeedOrder | None = None
        self.following: Following | None = None
        cursor = self.stream.cursor
        self.desc = cursor is not None and cursor.order == "desc"
        self.boundary = Boundary(self.connection.name, self.stream_name, self.stream, desc=self.desc)
        Thread(target=self.boundary.warm, name="warm", daemon=True).start()
        known, findings = read_profile(self.lease)
        learned = self.lease.state().last_success is not None
        self.profile = Profile(self.stream, known, findings, learned=learned)
        self.committer = Committer(Counters())
        self.gathered = Gathered()
        self.ties = Ties()
        self.pages: list[Page] = []
        self.opened_at = self.clock.monotonic_seconds()
        self.refresh_id: UUID | None = None
        self.whole = False  # all that the source has is read in this one run
        self.edited = False  # what it is read by, since the last run
        self.rekeyed = False  # the rows held have keys of another declaration
        self.ahead: dict[str, Reading] = {}  # by parent: lists below it whose turn comes later
        self.records = 0
        self._requests, self._waited = self.client.meter.requests, self.client.meter.waited_seconds

    def what_is_read(self) -> Stream:
        return self.connection.streams[self.stream_name]

    def pages_from(self, **where: Any) -> Iterator[Page]:
        """The pages of one list; ``where`` as ``Client.pages`` takes it."""
        return self.client.pages(self.stream_name, **where)

    def start_run(self, mode: Mode) -> None:
        """Enters the run into the log; again where it turns out to need another mode."""
        self.lease.start_run(mode, self.started_at, self.result.note)

    @property
    def snapshots(self) -> bool:
        """Whether a full refresh of this stream notes keys and sets tombstones."""
        return self.stream.deletes is not None and self.stream.deletes.snapshot is not None

    @property
    def due(self) -> bool:
        """Whether what was read is large or old enough to be committed."""
        records = self.gathered.records + sum(len(page.rows) for page in self.pages)
        return records >= CHUNK_RECORDS or self.clock.monotonic_seconds() - self.opened_at >= CHUNK_SECONDS

    def take(self, page: Page) -> None:
        """Adds a page to those that wait for the boundary."""
        self.pages.append(page)
        self.records += len(page.rows)
        self.result.pages += 1
        self.progress.page(
            self.stream_name,
            records=self.records,
            pages=self.result.pages,
            total=page.total,
            waited_seconds=self.client.meter.waited_seconds - self._waited + self.result.waited_seconds,
        )

    def check(self, parent_key: str | None = None) -> Any:
        """Puts the waiting pages through the boundary; rows that name no version are as new as their page. Returns the
        highest cursor value among the rows."""
        pages, self.pages = self.pages, []
        if not pages:
            return None
        rows = pages[0].rows if len(pages) == 1 else [row for page in pages for row in page.rows]
        split = self.check_rows(pages, rows, parent_key)
        if len(pages) > 1 and len(split.rejected) >= STOP_ABOVE_ROWS / 2:
            for page in pages:  # a page broken as a whole stops the stream even beside many good ones
                self.boundary.split(page.rows, page.read_at)
        self.gathered.pages += len(pages)
        return split.watermark

    def check_rows(self, pages: Sequence[Page], rows: list[Any], parent_key: str | None) -> Split:
        """Puts the rows of these pages of one list through the boundary and adds them to the chunk being gathered."""
        calls = [page.call for page in pages for _ in page.rows]  # the entry in the call log that brought each
        split = self.boundary.split(rows, pages[-1].read_at, [page.read_at for page in pages for _ in page.rows])
        good, older = self.ties.part(split.good) if self.desc else (split.good, [])
        brought = {row.external_id: calls[at] for row, at in zip(split.good, split.positions, strict=True)}
        for row in good:
            self.gathered.add(row, parent_key, brought[row.external_id])
        self.gathered.calls.update(
            (row.hash, call)
            for row, at in zip(split.rejected, split.rejected_positions, strict=True)
            if (call := calls[at]) is not None
        )
        self.gathered.calls.update(
            (key, call)
            for (key, _), at in zip(split.skipped, split.skipped_positions, strict=True)
            if key is not None and (call := calls[at]) is not None
        )
        self.gathered.superseded += older
        if parent_key is not None:
            self.gathered.rejected_parents.update((row.hash, parent_key) for row in split.rejected)
        self.account(split, rows, min(page.read_at for page in pages))
        return split

    def check_inside(self, rows: list[Any], parent_keys: list[str], read_at: datetime) -> set[str]:
        """Puts rows that lay inside many parents' records through the boundary at once; each has its parent's key.

        Returns the parents that hold a row whose own key can't be read: nobody can tell what such a parent lacks.
        """
        split = self.boundary.split(rows, read_at)
        for row, position in zip(split.good, split.positions, strict=True):
            self.gathered.add(row, parent_keys[position])
        for bad, position in zip(split.rejected, split.rejected_positions, strict=True):
            self.gathered.rejected_parents[bad.hash] = parent_keys[position]
        self.account(split, rows, read_at)
        bad_at = zip(split.rejected, split.rejected_positions, strict=True)
        return {parent_keys[position] for bad, position in bad_at if bad.external_id is None}

    def account(self, split: Split, rows: list[Any], read_at: datetime) -> None:
        """What became of the rows that aren't good; all are counted."""
        self.watch(split, rows)
        gathered, count = self.gathered, len(rows)
        gathered.rejected += split.rejected
        gathered.skipped += split.skipped
        gathered.superseded += split.superseded
        gathered.records += count
        gathered.read_at = min(gathered.read_at or read_at, read_at)

    def watch(self, split: Split, rows: list[Any]) -> None:
        """The profile learns from accepted rows; a tombstone needn't hold anything, so it shows nothing."""
        living = split.positions
        if self.stream.deletes is not None and self.stream.deletes.when is not None:
            living = [at for at, one in zip(split.positions, split.good, strict=True) if not one.deleted]
        self.profile.learn(rows if len(living) == len(rows) else [rows[at] for at in living])
        refused: dict[str, list[str]] = {}
        for reason in (reason for one in split.rejected for reason in one.reasons if reason["rule"] == "values"):
            refused.setdefault(reason["field"], []).append(reason["sample"])
        for path, values in refused.items():
            self.profile.refused(path, values)

    def submit(self, *states: StateChange) -> None:
        """Commits what was gathered, these states beside it, in the committer's thread."""
        gathered, self.gathered = self.gathered, Gathered()
        self.opened_at = self.clock.monotonic_seconds()
        requests, waited = self.spent()
        fields, findings = self.profile.changes()
        chunk = Chunk(
            good=[row[:5] for row in gathered.good.values()],
            rejected=gathered.rejected,
            skipped=gathered.skipped,
            superseded=gathered.superseded,
            fetched=gathered.records,
            pages=gathered.pages,
            requests=requests,
            waited_seconds=waited,
            read_at=gathered.read_at or self.clock.now(),
            states=(*gathered.states, *states),
            refresh_id=self.refresh_id,
            desc=self.desc,
            parent_keys=gathered.parent_keys,
            rejected_parents=gathered.rejected_parents,
            calls=gathered.calls,
            profile=fields,
            drift=findings,
            replaced_parents=gathered.replaced_parents,
            feed=self.feed,
        )
        self.committer.submit(lambda: self.commit(chunk, gathered.good))

    def commit(self, chunk: Chunk, rows: dict[str, Landing]) -> Counters:
        """Commits the chunk; its rows are shaped while the next one is read."""
        counters = self.lease.commit_chunk(chunk)
        if self.following is not None:
            self.following.landed(rows)
        return counters

    def close(self) -> None:
        """Ends the commits and counts what they did. Raises what the last one raised: it weighs more than an error of
        the source, met while it was under way."""
        try:
            self.committer.settle()
        finally:
            self.committer.close()
            if self.following is not None:
                self.following.close()
                self.result.shaped = self.following.counters
            for reading in self.ahead.values():
                reading.stop()
            self.result.counters = self.committer.counters

    def spent(self) -> tuple[int, float]:
        """Requests and seconds waited since last asked; also counted in the result."""
        meter = self.client.meter
        requests, waited = meter.requests - self._requests, meter.waited_seconds - self._waited
        self._requests, self._waited = meter.requests, meter.waited_seconds
        self.result.requests += requests
        self.result.waited_seconds += waited
        return requests, waited

    def begin_refresh(self, under_way: UUID | None) -> None:
        """Names the full refresh, or goes on with the one under way, where it will set tombstones."""
        if self.snapshots or self.rekeyed:
            self.refresh_id = under_way or uuid4()

    def end_refresh(self, change: StateChange) -> None:
        """Everything was read: sets tombstones where this was a full refresh that does, and moves the state."""
        self.committer.settle()
        self.profile.finish()
        save_profile(self.lease, *self.profile.changes())
        if self.refresh_id is None:
            end = self.lease.end_full_read if self.whole else self.lease.apply_state
            end(change)
            return
        at_most = self.stream.deletes.at_most if self.stream.deletes else TOMBSTONE_PERCENT
        self.progress.phase(self.stream_name, "comparing with what is held")
        try:
            change = replace(change, refresh_id=None)
            ended = self.lease.complete_refresh(self.refresh_id, at_most, change, replaced=self.rekeyed)
        except ContractError:  # what was seen this time isn't believed: the next refresh looks again
            self.lease.apply_state(StateChange(bookmark=None, refresh_id=None, round=None))
            raise
        self.committer.counters = replace(self.committer.counters, tombstoned=ended.tombstoned)
        if ended.kept:
            self.result.remark(
                f"{ended.kept} records are lacking and were kept, since rows came whose key can't be read: they may be "
                "them. Look at `integrations quarantine list`; what is no record, name under `skip` or discard"
            )
