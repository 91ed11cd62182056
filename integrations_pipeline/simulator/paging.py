"""The server's side of each pagination kind: which slice of a list is asked for, and what is said of the rest."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any
from urllib.parse import urlencode

from integrations_pipeline.simulator.dataset import Dataset, Selection
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ContractError, DataError
from integrations_pipeline.spec.pagination import Cursor, Keyset, LinkBody, LinkHeader, Offset, PageNumber
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import ReadPlace

DEFAULT_SIZE = 100
LARGEST_SIZE = 10_000
TOKEN_PARAMETER = "page_token"
"""In next links, and where a cursor is sent as `url` or `spread`."""

Mark = tuple[ReadPlace, Any]
"""A place of the answer, and what stands there."""


@dataclass(frozen=True, slots=True)
class Token:
    """What an opaque page token holds: the list it belongs to, and the record after which the page begins."""

    selection: Selection
    after: tuple[int, int]
    snapshot: int

    def text(self) -> str:
        return urlsafe_b64encode(encode([astuple(self.selection), self.after, self.snapshot])).decode().rstrip("=")


def read_token(text: str) -> Token | None:
    """A token of ours, or None."""
    try:
        parts, after, snapshot = decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not all(isinstance(part, int | None) for part in [*parts, *after, snapshot]):
            return None
        return Token(Selection(*parts), (after[0], after[1]), snapshot)
    except (ValueError, TypeError, ContractError, IndexError):
        return None


@dataclass(slots=True)
class Page:
    """The numbers of a page's records, in order, and what the answer says beside them."""

    ordinals: Sequence[int]
    marks: list[Mark] = field(default_factory=list)
    snapshot: int = 0
    is_last: bool = True


class Pager:
    """Serves the pages of one view. ``page_limit`` caps what a request may ask for."""

    def __init__(self, view: View, dataset: Dataset, descending: bool, page_limit: int | None):
        self.view = view
        self.kind = view.pagination
        self.dataset = dataset
        self.descending = descending
        self.page_limit = page_limit

    def page(self, request: Request, selection: Selection) -> Page:
        """The page asked for. Raises DataError for a position that isn't one."""
        kind = self.kind
        snapshot = self.dataset.next_rank - 1
        if isinstance(kind, PageNumber | Offset):
            return self.numbered(request, selection, snapshot)
        if isinstance(kind, Keyset):
            return self.after_key(request, selection, snapshot)
        if isinstance(kind, Cursor | LinkHeader | LinkBody):
            return self.after_token(request, selection, snapshot)
        listing = self.dataset.listing(selection)
        return self.cut(listing, 0, len(listing), snapshot)

    def size(self, request: Request) -> int:
        """As many as asked for, within what the source allows."""
        declared = self.kind.size
        asked = request.sent(declared.send) if declared else None
        try:
            size = int(asked) if asked is not None else declared.value if declared else DEFAULT_SIZE
        except (ValueError, TypeError):
            raise DataError(f"the page size {asked!r} is no number") from None
        if size < 1:
            raise DataError(f"the page size {size} is too small")
        return min(size, self.page_limit or LARGEST_SIZE)

    def cut(self, listing: Sequence[int], start: int, size: int, snapshot: int) -> Page:
        """A slice of the list in the view's direction, within the source's window."""
        total = len(listing)
        window = self.kind.max_records
        if window is not None and start > 0 and start >= window:
            raise DataError(f"only the first {window} records of a list can be read")
        if self.descending:
            ordinals = listing[max(total - start - size, 0) : max(total - start, 0)][::-1]
        else:
            ordinals = listing[start : start + size]
        page = Page(ordinals, snapshot=snapshot, is_last=start + size >= total)
        if self.kind.total:
            page.marks.append((self.kind.total, total))
        return page

    def numbered(self, request: Request, selection: Selection, snapshot: int) -> Page:
        kind = self.kind
        assert isinstance(kind, PageNumber | Offset)
        size, listing = self.size(request), self.dataset.listing(selection)
        sent = request.sent(kind.send)
        try:
            number = (int(sent) if sent is not None else kind.first) - kind.first
        except (ValueError, TypeError):
            raise DataError(f"{kind.send} {sent!r} is no number") from None
        if number < 0:
            raise DataError(f"{kind.send} {sent!r} lies before the first page")
        page = self.cut(listing, number * size if kind.type == "page_number" else number, size, snapshot)
        if kind.pages:
            page.marks.append((kind.pages, -(-len(listing) // size)))
        if kind.more:
            page.marks.append((kind.more, not page.is_last))
        return page

    # pages after a record

    def start_after(self, listing: Sequence[int], selection: Selection, after: tuple[int, int]) -> int:
        """How many records of the list, in its direction, come no later than the mark; it needn't be there any more."""
        mark: Any = after if selection.by_change else after[1]
        key = self.dataset.mark if selection.by_change else None
        if self.descending:
            return len(listing) - bisect_left(listing, mark, key=key)
        return bisect_right(listing, mark, key=key)

    def mark_of(self, ordinal: int, selection: Selection) -> tuple[int, int]:
        return self.dataset.mark(ordinal) if selection.by_change else (0, ordinal)

    def after_key(self, request: Request, selection: Selection, snapshot: int) -> Page:
        kind = self.kind
        assert isinstance(kind, Keyset)
        listing, sent = self.dataset.listing(selection), request.sent(kind.send)
        start = 0 if sent in (None, "") else self.start_after(listing, selection, self.mark_of_key(sent, selection))
        page = self.cut(listing, start, self.size(request), snapshot)
        if kind.more:
            page.marks.append((kind.more, not page.is_last))
        return page

    def mark_of_key(self, sent: Any, selection: Selection) -> tuple[int, int]:
        """The mark of the item a page goes on after. Raises DataError for an unknown one."""
        path = self.keyset_path
        if self.by_item_id:
            mark = read_item_id(as_text(sent))
        elif path == self.dataset.plan.stamp_path:
            mark = self.mark_of_stamp(sent)
        else:
            ordinal = self.dataset.find(path, sent)
            mark = None if ordinal is None else self.mark_of(ordinal, selection)
        if mark is None:
            raise DataError(f"no item {as_text(sent)!r} to go on after")
        return mark

    def mark_of_stamp(self, sent: Any) -> tuple[int, int] | None:
        try:
            return self.dataset.plan.form.read(sent)[1], self.dataset.next_rank
        except (ValueError, TypeError, OverflowError):
            return None

    @property
    def keyset_path(self) -> Path:
        assert isinstance(self.kind, Keyset)
        return self.kind.read or self.dataset.plan.stream.primary_key[0]

    @property
    def by_item_id(self) -> bool:
        """Pages of wrapped records go on after the wrapper's own id, such as an event's."""
        unwrap = self.view.records.unwrap if self.view.records else None
        return isinstance(self.kind, Keyset) and bool(unwrap and unwrap.parts)

    def after_token(self, request: Request, selection: Selection, snapshot: int) -> Page:
        kind = self.kind
        token = read_token(self.sent_token(request) or "")
        if token:
            selection, snapshot = token.selection, token.snapshot
        listing = self.dataset.listing(selection)
        start = self.start_after(listing, selection, token.after) if token else 0
        page = self.cut(listing, start, self.size(request), snapshot)
        self.mark_next(request, selection, page)
        if isinstance(kind, Cursor) and kind.more:
            page.marks.append((kind.more, not page.is_last))
        return page

    def mark_next(self, request: Request, selection: Selection, page: Page) -> None:
        """Says where the next page is, if there is one."""
        kind = self.kind
        assert isinstance(kind, Cursor | LinkHeader | LinkBody)
        if page.is_last or not len(page.ordinals):
            return
        text = Token(selection, self.mark_of(page.ordinals[-1], selection), page.snapshot).text()
        url = link_to(request, text)
        if isinstance(kind, LinkHeader):
            named = kind.read.kind == "header" and kind.read.name.lower() == "link"
            page.marks.append((kind.read, f'<{url}>; rel="next"' if named else url))
        elif isinstance(kind, LinkBody) or kind.send.kind == "url":
            page.marks.append((kind.read, url))
        else:
            page.marks.append((kind.read, {TOKEN_PARAMETER: text} if kind.send.kind == "spread" else text))

    def sent_token(self, request: Request) -> str | None:
        """The page token in a request. Raises DataError for one that isn't ours."""
        kind = self.kind
        plain = isinstance(kind, Cursor) and kind.send.kind not in ("url", "spread")
        sent = request.sent(kind.send) if plain and isinstance(kind, Cursor) else None
        if not plain:
            sent = request.query.get(TOKEN_PARAMETER, [None])[0]
        if sent in (None, ""):
            return None
        if read_token(as_text(sent)) is None:
            if plain and self.shares_the_cursor_s_place():
                return None
            raise DataError("this page token is unknown")
        return as_text(sent)

    def shares_the_cursor_s_place(self) -> bool:
        """A page's token may stand where the first page has the stream's cursor."""
        cursor = self.dataset.plan.cursor
        return isinstance(self.kind, Cursor) and cursor is not None and cursor.send == self.kind.send


def link_to(request: Request, token: str) -> str:
    query = {**request.query, TOKEN_PARAMETER: [token]}
    return f"{request.origin}{request.path}?{urlencode(query, doseq=True)}"


def item_id(mark: tuple[int, int]) -> str:
    """The id of a wrapper, from which its place in order of change is read back."""
    return f"evt_{mark[0]:x}_{mark[1]:08x}"


def read_item_id(text: str) -> tuple[int, int] | None:
    parts = text.split("_")
    try:
        return (int(parts[1], 16), int(parts[2], 16)) if len(parts) == 3 and parts[0] == "evt" else None
    except ValueError:
        return None
