"""One list of a stream, read page by page from a position to its proven end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from threading import Event
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.page import Page
from integrations_pipeline.client.pagination import Position, Seen, Walk, is_blank, total_of, walk_of
from integrations_pipeline.client.probe import conditional, validator_kind, validator_of
from integrations_pipeline.client.read_ahead import ReadAhead
from integrations_pipeline.client.records import items_of, rows_of
from integrations_pipeline.client.request import Request, RequestBuilder, Sends
from integrations_pipeline.spec.api import Api, ErrorClass, ErrorRule
from integrations_pipeline.spec.decoding import encode_sorted
from integrations_pipeline.spec.errors import ConfigError, ContractError
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.limits import EMPTY_PAGES
from integrations_pipeline.spec.merging import merge
from integrations_pipeline.spec.pagination import Offset, PageNumber, Pagination
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.streams import Feed, Full, Records, Stream, StreamCursor, Validator

Fetched = tuple[Answer, ErrorClass | None]


@dataclass(frozen=True, slots=True)
class ListPlan:
    """All that the lists of a stream (one per parent) have in common."""

    name: str
    call: Call
    records: Records
    single: bool
    form: Pagination
    walk: Walk
    cursor: StreamCursor | None
    rules: tuple[ErrorRule, ...]
    probe: Validator | None
    parent: str | None
    ended: bool  # the request names where a window ends
    feed: bool = False  # of deletions


def call_of(stream: Stream, full: Full | None) -> Call:
    """The list's request; in a full refresh with what differs there, where an explicit null removes."""
    parts = {name: getattr(stream, name) for name in ("request", "query", "headers", "body", "graphql")}
    for name in full.model_fields_set & set(parts) if full else ():
        parts[name] = merge(parts[name], getattr(full, name))
    return Call.model_validate(parts)


def plan_list(name: str, stream: Stream, *, full: bool, api: Api, builder: RequestBuilder) -> ListPlan:
    """Raises ConfigError for a stream that has no list of its own or no pagination."""
    changes = stream.full if full else None
    form = (changes.pagination if changes else None) or stream.pagination or api.pagination
    if stream.request is None:
        raise ConfigError(f"{name} lies inside the records of {stream.parent}: it has no list of its own")
    if form is None:
        raise ConfigError(f"{name} has no pagination", next="declare it under `api` or the stream")
    call = call_of(stream, changes)
    return ListPlan(
        name=name,
        call=call,
        records=(changes.records if changes else None) or stream.rows,
        single=stream.record is not None and not (changes and changes.records),
        form=form,
        walk=walk_of(form, stream.primary_key, builder),
        cursor=stream.cursor,
        rules=(*stream.errors, *api.errors),
        probe=validator_kind(stream.probe),
        parent=stream.parent_stream,
        ended=ends_somewhere(call, stream.cursor),
    )


def plan_feed(name: str, stream: Stream, feed: Feed, api: Api, builder: RequestBuilder) -> ListPlan:
    """The list of deleted keys, in pages as the stream's own list. Raises ConfigError where there is no pagination."""
    form = stream.pagination or api.pagination
    if form is None:
        raise ConfigError(f"the feed of {name} has no pagination", next="declare it under `api` or the stream")
    return ListPlan(
        name=name,
        call=feed.call,
        records=feed.records,
        single=False,
        form=form,
        walk=walk_of(form, (feed.key,), builder),
        cursor=feed.cursor,
        rules=(*stream.errors, *api.errors),
        probe=None,
        parent=None,
        ended=ends_somewhere(feed.call, feed.cursor),
        feed=True,
    )


def ends_somewhere(call: Call, cursor: StreamCursor | None) -> bool:
    named = names_in([call.request, call.query, call.headers, call.body])
    return (cursor is not None and cursor.send_end is not None) or "cursor.end" in named


@dataclass(frozen=True, slots=True)
class Begin:
    """From where, and for whom, a list is read. ``since`` and ``until`` in the form that is sent."""

    position: Position | None
    since: Any
    until: Any
    parent: Any
    validator: Mapping[str, str] | None


Fetch = Callable[[Request, ListPlan, bool, Event], Fetched]


class ListReader:
    """Reads one list. Made anew for each."""

    def __init__(
        self,
        plan: ListPlan,
        begin: Begin,
        builder: RequestBuilder,
        fetch: Fetch,
        hide: Callable[[Any], Any],
        *,
        workers: int,
    ):
        """``hide`` takes credentials out of rows of an answer that repeats them."""
        self._plan, self._begin, self._builder, self._fetch, self._hide = plan, begin, builder, fetch, hide
        self._workers = workers
        self._values = {"cursor": begin.since, "cursor.end": begin.until}
        if plan.parent:
            self._values[plan.parent] = begin.parent
        self._seen: set[bytes] = set()
        self._before, self._went_back = Seen([], None), False  # the page before; whether it is read again
        self._empty = 0  # pages in a row
        self._condition = conditional(plan.probe, begin.validator)
        self._set_back: set[bytes] = set()  # positions that were left once for one before them

    def pages(self, stop: Event) -> Iterator[Page]:
        """The pages in order; the next ones are fetched while the caller works on one. Closing it ends all threads."""
        walk, begin = self._plan.walk, self._begin
        position = walk.resumed(begin.position) if begin.position is not None else walk.first()
        self._is_repeated(position)
        at_seam = begin.position is not None and position != begin.position
        first = self._condition if begin.position is None else []
        ahead: ReadAhead[Sends, Fetched] = ReadAhead(
            lambda sends: self._ask(sends, stop), workers=self._workers, stop=stop
        )
        try:
            for number in range(self._plan.form.max_pages):
                sends = [*walk.sends(position), *(first if number == 0 else [])]
                answer, meaning = ahead.take(sends)
                seen = self._seen_on(answer, meaning)
                if (back := self._moved(position, seen)) is not None:
                    position = back
                    continue
                page, expected = self._page(number, position, answer, seen)
                if at_seam and page.next is not None:
                    page, at_seam = replace(page, next=walk.looked(page.next, seen.items or [])), False
                if page.next is not None and self._is_repeated(page.next):
                    yield replace(page, next=None, circles=True)
                    raise ContractError(
                        "the source leads in a circle: it gave a token for the next page that it gave before"
                    )
                if page.next is not None:
                    self._refuse_emptiness(page)
                    ahead.plan(walk.sends(one) for one in chain([page.next], expected))
                yield page
                if page.next is None:
                    return
                position = page.next
            raise ContractError(
                f"the list has more than {self._plan.form.max_pages} pages, so it is taken for an endless one",
                next="if it really is that long, raise pagination.max_pages",
            )
        finally:
            ahead.close()

    def _ask(self, sends: Sends, stop: Event) -> Fetched:
        plan, begin = self._plan, self._begin
        own: Sends = []
        if plan.cursor and plan.cursor.send and begin.since is not None:
            own.append((plan.cursor.send, begin.since))
        if plan.cursor and plan.cursor.send_end and begin.until is not None:
            own.append((plan.cursor.send_end, begin.until))
        if plan.form.size:
            own.append((plan.form.size.send, plan.form.size.value))
        request = self._builder.build(plan.call, self._values, [*own, *sends])
        asked_if = any(one in self._condition for one in sends)  # a 304 to any other page ends no list
        return self._fetch(request, plan, asked_if, stop)

    def _seen_on(self, answer: Answer, meaning: ErrorClass | None) -> Seen:
        """What a page holds; ``items`` is None where the list is over, or as it was."""
        over = answer.status == 304 or meaning == "end_of_list" or (meaning == "ignore" and answer.status >= 400)
        return Seen(None if over else self._items(answer), total_of(self._plan.form, answer))

    def _moved(self, position: Position, seen: Seen) -> Position | None:
        """Where to read again, because rows that were not read yet may have moved up past this position.

        Once per position: coming back to it, the page before has just been read.
        """
        digest = self._digest(position)
        back = None if digest in self._set_back else self._plan.walk.moved(position, self._before, seen)
        if back is not None:
            self._set_back.add(digest)
            self._seen.clear()
            self._before, self._went_back = Seen(self._before.items, seen.total), True
        return back

    def _page(self, number: int, position: Position, answer: Answer, seen: Seen) -> tuple[Page, Iterable[Position]]:
        """The page of an answer, and the positions that will probably come after its next one."""
        plan, items = self._plan, seen.items or []
        counted = isinstance(plan.form, PageNumber | Offset)
        if counted and items and items == self._before.items and not self._went_back:
            raise ContractError(
                "a page holds the very same items as the one before: the source ignores the page asked for"
            )
        after = None if seen.items is None else plan.walk.after(position, answer, items)
        full = after is not None and window_full(plan.form, position, items)
        kept = self._kept(position, answer)
        fresh = plan.walk.fresh(position, self._before, items)
        rows = rows_of(plan.records, fresh, lambda place: answer.read(place, self._begin.parent))
        page = Page(
            rows=self._hide(rows) if answer.repeats else rows,
            next=None if after is None or full else self._carried(after, position, items, kept),
            number=number,
            read_at=answer.read_at,
            cursor_value=kept,
            total=seen.total,
            request=answer.request,
            validator=validator_of(plan.probe, answer) if number == 0 else None,
            not_modified=answer.status == 304,
            window_full=full,
            call=answer.call,
        )
        self._before, self._went_back = seen, False
        return page, plan.walk.expected(position, answer, items) if page.next and self._workers > 1 else ()

    def _items(self, answer: Answer) -> list[Any]:
        if answer.document is None and answer.status != 204:
            raise ContractError("the answer is empty, where a list should be")
        return items_of(self._plan.records, answer.document, single=self._plan.single)

    def _kept(self, position: Position, answer: Answer) -> Any:
        """The opaque cursor for the next incremental run, carried from page to page."""
        cursor = self._plan.cursor
        if cursor is None or cursor.read is None:
            return None
        before, found = position.get("kept"), answer.read(cursor.read)
        if is_blank(found) or (cursor.keep == "first" and before is not None):
            return before
        return found

    def _carried(self, after: Position, position: Position, items: list[Any], kept: Any) -> Position:
        """The next position with what the list must remember: the bookmark needs nothing else."""
        carried = {"since": self._begin.since, "until": self._begin.until, "kept": kept}
        if self._plan.form.max_records:
            carried["read"] = position.get("read", 0) + len(items)
        return {**after, **{name: value for name, value in carried.items() if value is not None}}

    def _is_repeated(self, position: Position) -> bool:
        """Notes a position. One met before in this list means a circle, of whatever length."""
        digest, known = self._digest(position), len(self._seen)
        self._seen.add(digest)
        return len(self._seen) == known

    def _refuse_emptiness(self, page: Page) -> None:
        """Fresh tokens for ever lead in no circle, but nowhere either."""
        self._empty = 0 if page.rows else self._empty + 1
        if self._empty > EMPTY_PAGES:
            raise ContractError(
                f"more than {EMPTY_PAGES} empty pages in a row, and the source says there is more",
                next="if it really has gaps that long, ask for larger pages (`size`) or narrow the list (`query`)",
            )

    def _digest(self, position: Position) -> bytes:
        sent = [value for _, value in self._plan.walk.sends(position)]
        return blake2b(encode_sorted(sent), digest_size=16).digest()


def window_full(form: Pagination, position: Position, items: list[Any]) -> bool:
    """Whether the next page would lie past what the source shows of one list."""
    if form.max_records is None:
        return False
    size = form.size.value if form.size else len(items)
    return bool(position.get("read", 0) + len(items) + size > form.max_records)
