"""The answers to requests that read: pages of lists, counts, deleted keys, single records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator import shaping, stamps
from integrations_pipeline.simulator.answer import Answer
from integrations_pipeline.simulator.dataset import Dataset, Selection
from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.simulator.faults.registry import CUTS, PAGES, spoilt_row
from integrations_pipeline.simulator.faults.rows import Spoiling
from integrations_pipeline.simulator.paging import Cut, Page, Pager, item_id, read_token
from integrations_pipeline.simulator.records import put
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import CursorExpired, DataError, NotFound
from integrations_pipeline.spec.paths import Path, parse_path
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.streams import Count, Records, StreamCursor

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Row, Simulation

SYNC_TOKEN = re.compile(r"sync_([0-9a-f]{1,12})_([0-9a-f]{1,15})")


class Reading:
    """Answers what reads one simulation. Called under its lock."""

    def __init__(self, simulation: Simulation):
        self.simulation = simulation

    def answer(self, view: View, request: Request) -> Answer:
        """Raises DataError for a position or value that is none, NotFound, CursorExpired."""
        dataset, values = self.simulation.datasets[view.stream], view.values(request)
        if view.purpose == "get":
            return self.one(view, dataset, values)
        if view.purpose == "count":
            return self.counted(dataset, self.selection(view, dataset, request, values, None))
        parent = self.parent_asked(dataset, values)
        return self.listed(view, dataset, request, self.selection(view, dataset, request, values, parent), parent)

    def parent_asked(self, dataset: Dataset, values: Mapping[str, Any]) -> int | None:
        """The number of the parent record that a child list is asked under. Raises NotFound for one that is gone."""
        if dataset.parents is None:
            return None
        before = f"{dataset.parents.plan.name}."
        for name, value in values.items():
            if name.startswith(before):
                found = dataset.parents.find(parse_path(name.removeprefix(before)), value)
                if found is None or not dataset.parents.lives(found):
                    raise NotFound(f"no {before}{value}")
                return found
        raise NotFound(f"a list of {dataset.plan.name} is asked without its {before}")

    def selection(
        self, view: View, dataset: Dataset, request: Request, values: Mapping[str, Any], parent: int | None
    ) -> Selection:
        """What part of the stream a request asks for."""
        if view.purpose == "full":
            return Selection(by_change=self.wrapped(view), parent=parent)
        feed = dataset.plan.stream.deletes.feed if dataset.plan.stream.deletes else None
        cursor = feed.cursor if view.purpose == "feed" and feed else dataset.plan.cursor
        bounds = self.bounds(view, dataset, cursor, request, values) if cursor else {}
        if view.purpose == "feed":
            return Selection(by_change=True, gone=True, only_gone=True, parent=parent, **bounds)
        gone = bool(dataset.plan.gone) and not (cursor and cursor.read is not None and not bounds)
        return Selection(by_change=self.by_change(view, dataset), gone=gone, parent=parent, **bounds)

    def wrapped(self, view: View) -> bool:
        return view.pagination.type == "keyset" and bool(view.records and view.records.unwrap)

    def by_change(self, view: View, dataset: Dataset) -> bool:
        """Lists with a promised order are sorted by the cursor; pages that go on from a key are sorted by the key."""
        plan = dataset.plan
        if view.pagination.type == "keyset":
            return plan.pages_by_change
        return bool(plan.cursor and plan.cursor.field and plan.cursor.order != "none") and not plan.stamp_in_key

    def bounds(
        self, view: View, dataset: Dataset, cursor: StreamCursor, request: Request, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The cursor's bounds in a request. Raises DataError for a value of another form, CursorExpired for a token."""
        send = None if view.purpose == "count" else cursor.send
        since = values.get("cursor") if send is None else request.sent(send)
        until = values.get("cursor.end") if cursor.send_end is None else request.sent(cursor.send_end)
        if self.is_a_page(view, cursor, since):
            since = None
        if cursor.read is not None:
            return {} if since in (None, "") else {"after_rank": self.read_cursor(as_text(since), dataset)}
        form = stamps.form_in_requests(cursor, dataset.plan.form)
        found: dict[str, Any] = {}
        try:
            if since not in (None, ""):
                found["since"] = form.read(since)[0]
            if until not in (None, ""):
                found["until"] = form.read(until)[1]
        except (ValueError, TypeError, OverflowError):
            raise DataError(f"{since!r} or {until!r} is no {form.name} value") from None
        return found

    def is_a_page(self, view: View, cursor: StreamCursor, value: Any) -> bool:
        """Whether the cursor's place holds a page's position instead: it may be sent at the same place."""
        place: SendPlace | None = getattr(view.pagination, "send", None)
        if place is None or place != cursor.send or value is None:
            return False
        return view.pagination.type == "keyset" or read_token(as_text(value)) is not None

    def listed(
        self, view: View, dataset: Dataset, request: Request, selection: Selection, parent: int | None
    ) -> Answer:
        plan, cursor = dataset.plan, dataset.plan.cursor
        descending = cursor is not None and cursor.order == "desc" and view.purpose != "feed"
        page = self.pager(view, dataset, descending).page(request, selection)
        parent_row = self.simulation.row(dataset.parents, parent) if dataset.parents and parent is not None else None
        shape = shaping.Shape(plan, view.records or plan.stream.rows, shaping.around_of(plan, parent_row))
        spoiling = Spoiling(plan)
        if view.purpose == "feed":
            items: Sequence[Any] = [self.deleted_key(dataset, ordinal) for ordinal in page.ordinals]
        elif self.wrapped(view):
            items = [shape.item(self.simulation.row(dataset, o), item_id(dataset.mark(o))) for o in page.ordinals]
        else:
            items = self.items(dataset, page, spoiling, shape)
        body, headers = shape.body(items), shape.headers
        self.mark_cursor(cursor, page)
        for place, value in page.marks:
            if place.kind == "header":
                headers[place.name] = as_text(value)
            elif isinstance(body, dict) and place.path.parts:
                put(body, place.path.parts, value)
        return Answer(200, spoiling.finished(encode(body)), headers, len(page.ordinals))

    def pager(self, view: View, dataset: Dataset, descending: bool) -> Pager:
        """With the faults of pages whose turn it is."""
        if view.purpose == "feed":
            return Pager(view, dataset, descending, self.simulation.page_limit)
        cutting = [partial(cut_by, switched) for switched in self.simulation.faults.turns("cut", view.stream)]
        saying = [partial(say_by, switched) for switched in self.simulation.faults.turns("page", view.stream)]
        return Pager(view, dataset, descending, self.simulation.page_limit, cutting, saying)

    def items(self, dataset: Dataset, page: Page, spoiling: Spoiling, shape: shaping.Shape) -> list[Any]:
        """The records of a page as they stand in its list."""
        rows, stream = self.simulation.rows(dataset, page.ordinals), dataset.plan.name
        if not any(self.simulation.faults.of("row", stream)):
            return [shape.item(row) for row in rows]
        return [
            shape.item(found) if isinstance(found, dict) else found
            for ordinal, row in zip(page.ordinals, rows, strict=True)
            for found in spoilt_row(self.simulation.faults, spoiling, stream, ordinal, row)
        ]

    def mark_cursor(self, cursor: StreamCursor | None, page: Page) -> None:
        """An opaque cursor stands on each page, or on the last one; it holds where the list began to be read."""
        if cursor is not None and cursor.read is not None and (page.is_last or cursor.keep == "first"):
            page.marks.append((cursor.read, f"sync_{self.simulation.generation:x}_{page.snapshot:x}"))

    def read_cursor(self, text: str, dataset: Dataset) -> int:
        """The rank an opaque cursor stands for. Raises CursorExpired, also for one from before a restart's reset."""
        found = SYNC_TOKEN.fullmatch(text)
        if found is None or int(found[1], 16) != self.simulation.generation or int(found[2], 16) >= dataset.next_rank:
            raise CursorExpired(f"the cursor {text!r} is unknown or too old")
        return int(found[2], 16)

    def counted(self, dataset: Dataset, selection: Selection) -> Answer:
        """How many records a list would hold, where the `probe` reads it."""
        probe, number = dataset.plan.stream.probe, len(dataset.listing(selection))
        assert isinstance(probe, Count)
        if probe.read.kind == "header":
            return Answer(200, encode({}), {probe.read.name: str(number)})
        body: Row = {}
        if probe.read.path.parts:
            put(body, probe.read.path.parts, number)
        return Answer(200, encode(body if probe.read.path.parts else number))

    def deleted_key(self, dataset: Dataset, ordinal: int) -> Row:
        """An item of the list of deleted keys."""
        stream = dataset.plan.stream
        item: Row = {}
        if stream.deletes and stream.deletes.feed:
            feed, row = stream.deletes.feed, dataset.row(ordinal)
            values = dataset.key_values(row)
            for path, value in zip(dataset.plan.key_paths, values, strict=True):
                put(item, feed.key.parts if len(values) == 1 else (*feed.key.parts, *path.parts), value)
            if feed.cursor and feed.cursor.field:
                put(item, feed.cursor.field.parts, dataset.plan.form.write(dataset.stamp(ordinal)))
        return item

    def one(self, view: View, dataset: Dataset, values: Mapping[str, Any]) -> Answer:
        """One record by its key. Raises NotFound where there is none, or it is deleted without a flag of its own."""
        plan = dataset.plan
        key = [values.get("external_id", values.get(f"key.{path}")) for path in plan.key_paths]
        ordinal = dataset.find_key(key)
        flagged = bool(plan.gone) and not any(path.parts[0] in plan.included for path, _ in plan.gone)
        if ordinal is None or not (dataset.lives(ordinal) or flagged):
            raise NotFound(f"no {plan.name} {as_text(key[0] if len(key) == 1 else key)}")
        path = view.records.path if view.records else Path(())
        item = self.alone(dataset, ordinal)
        body: Row = {}
        if path.parts:
            put(body, path.parts, item)
        return Answer(200, encode(body if path.parts else item), count=1)

    def alone(self, dataset: Dataset, ordinal: int) -> Row:
        """A record as it stands outside any list."""
        rows = dataset.plan.stream.rows
        records = Records(path=Path(()), include={} if rows.unwrap else rows.include)
        item: Row = shaping.Shape(dataset.plan, records, {}).item(self.simulation.row(dataset, ordinal))
        return item


def cut_by(switched: Switched, pager: Pager, cut: Cut) -> None:
    CUTS[switched.fault.name](pager, cut, switched)


def say_by(switched: Switched, pager: Pager, cut: Cut, page: Page) -> None:
    PAGES[switched.fault.name](pager, cut, page, switched)
