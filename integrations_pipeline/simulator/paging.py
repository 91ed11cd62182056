"""The server's side of each pagination kind: which slice of a list is asked for, and what is said of the rest."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
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


BEFORE_ALL = (-(2**62), -(2**62))
AFTER_ALL = (2**62, 2**62)
"""Marks before and after that of any record."""


@dataclass(frozen=True, slots=True)
class Token:
    """What an opaque page token holds: the list it belongs to, the record after which the page begins, its number."""

    selection: Selection
    after: tuple[int, int]
    snapshot: int
    number: int

    def text(self) -> str:
        parts = [astuple(self.selection), self.after, self.snapshot, self.number]
        return urlsafe_b64encode(encode(parts)).decode().rstrip("=")


def read_token(text: str) -> Token | None:
    """A token of ours, or None."""
    try:
        parts, after, snapshot, number = decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not all(isinstance(part, int | None) for part in [*parts, *after, snapshot, number]):
            return None
        return Token(Selection(*parts), (after[0], after[1]), snapshot, number)
    except (ValueError, TypeError, ContractError, IndexError):
        return None


@dataclass(slots=True)
class Cut:
    """The part of a list that a request asks for. ``number`` counts the pages before it."""

    listing: Sequence[int]
    start: int
    size: int
    snapshot: int
    selection: Selection
    number: int
    asked: str | None = None
    after: tuple[int, int] | None = None
    more_pages: int = 0
    page_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.page_size = self.size

    @property
    def is_last(self) -> bool:
        return self.start + self.size >= len(self.listing)


@dataclass(slots=True)
class Page:
    """The numbers of a page's records, in order, and what is said of the rest; None where nothing is.

    ``next`` is the text of the next page's token, for the kinds that have one.
    """

    ordinals: Sequence[int]
    snapshot: int = 0
    is_last: bool = True
    total: int | None = None
    pages: int | None = None
    more: bool | None = None
    next: str | None = None
    link: Callable[[str], str] = str
    marks: list[Mark] = field(default_factory=list)


class Pager:
    """Serves the pages of one view. ``page_limit`` caps what a request may ask for.

    ``cutting`` and ``saying`` may change what is cut out of the list, and what is said of the page.
    """

    def __init__(
        self,
        view: View,
        dataset: Dataset,
        descending: bool,
        page_limit: int | None,
        cutting: Sequence[Callable[[Pager, Cut], None]] = (),
        saying: Sequence[Callable[[Pager, Cut, Page], None]] = (),
    ):
        self.view = view
        self.kind = view.pagination
        self.dataset = dataset
        self.descending = descending
        self.page_limit = page_limit
        self.cutting = cutting
        self.saying = saying

    def page(self, request: Request, selection: Selection) -> Page:
        """The page asked for. Raises DataError for a position that isn't one."""
        cut = self.cut(request, selection)
        for change in self.cutting:
            change(self, cut)
        page = self.filled(cut)
        for say in self.saying:
            say(self, cut, page)
        self.mark(request, page)
        return page

    def cut(self, request: Request, selection: Selection) -> Cut:
        kind = self.kind
        if isinstance(kind, PageNumber | Offset):
            return self.numbered(request, selection)
        if isinstance(kind, Keyset):
            return self.after_key(request, selection)
        if isinstance(kind, Cursor | LinkHeader | LinkBody):
            return self.after_token(request, selection)
        listing = self.dataset.listing(selection)
        return Cut(listing, 0, len(listing), self.snapshot, selection, 0)

    @property
    def snapshot(self) -> int:
        return self.dataset.next_rank - 1

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

    def filled(self, cut: Cut) -> Page:
        """A slice of the list in the view's direction, within the source's window."""
        total, window = len(cut.listing), self.kind.max_records
        if window is not None and cut.start > 0 and cut.start >= window:
            raise DataError(f"only the first {window} records of a list can be read")
        page = Page(
            self.slice(cut.listing, cut.start, cut.size), cut.snapshot, cut.is_last, total, more=not cut.is_last
        )
        page.pages = -(-total // cut.page_size) + cut.more_pages if cut.page_size else None
        if not cut.is_last:
            page.next = self.token_after(page.ordinals, cut).text()
        return page

    def slice(self, listing: Sequence[int], start: int, size: int) -> Sequence[int]:
        if not self.descending:
            return listing[start : start + size]
        total = len(listing)
        return listing[max(total - start - size, 0) : max(total - start, 0)][::-1]

    def token_after(self, ordinals: Sequence[int], cut: Cut) -> Token:
        """The token of the page that follows these records, or where there are none, that goes on from the same."""
        after = self.mark_of(ordinals[-1], cut.selection) if len(ordinals) else cut.after
        first = AFTER_ALL if self.descending else BEFORE_ALL
        return Token(cut.selection, first if after is None else after, cut.snapshot, cut.number + 1)

    def mark(self, request: Request, page: Page) -> None:
        """Writes what is said to the places that are declared for it."""
        kind = self.kind
        said: list[tuple[ReadPlace | None, Any]] = [(kind.total, page.total)]
        if isinstance(kind, PageNumber | Offset):
            said.append((kind.pages, page.pages))
        if isinstance(kind, PageNumber | Offset | Keyset | Cursor):
            said.append((kind.more, page.more))
        if isinstance(kind, Cursor | LinkHeader | LinkBody) and page.next is not None:
            said.append((kind.read, self.next_mark(request, page, page.next)))
        page.marks += [(place, value) for place, value in said if place is not None and value is not None]

    def next_mark(self, request: Request, page: Page, text: str) -> Any:
        kind, url = self.kind, page.link(link_to(request, text))
        assert isinstance(kind, Cursor | LinkHeader | LinkBody)
        if isinstance(kind, LinkHeader):
            named = kind.read.kind == "header" and kind.read.name.lower() == "link"
            return f'<{url}>; rel="next"' if named else url
        if isinstance(kind, LinkBody) or kind.send.kind == "url":
            return url
        return {TOKEN_PARAMETER: text} if kind.send.kind == "spread" else text

    def numbered(self, request: Request, selection: Selection) -> Cut:
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
        start = number * size if kind.type == "page_number" else number
        return Cut(listing, start, size, self.snapshot, selection, start // size)

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

    def after_key(self, request: Request, selection: Selection) -> Cut:
        kind = self.kind
        assert isinstance(kind, Keyset)
        listing, sent = self.dataset.listing(selection), request.sent(kind.send)
        start = 0 if sent in (None, "") else self.start_after(listing, selection, self.mark_of_key(sent, selection))
        size = self.size(request)
        return Cut(listing, start, size, self.snapshot, selection, -(-start // size))

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

    def after_token(self, request: Request, selection: Selection) -> Cut:
        asked = self.sent_token(request)
        token = read_token(asked or "")
        if token is None:
            return Cut(self.dataset.listing(selection), 0, self.size(request), self.snapshot, selection, 0)
        listing = self.dataset.listing(token.selection)
        start = self.start_after(listing, token.selection, token.after)
        size = self.size(request)
        return Cut(listing, start, size, token.snapshot, token.selection, token.number, asked, token.after)

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


def has_position(view: View, request: Request) -> bool:
    """Whether a request asks for another page than the first."""
    kind = view.pagination
    if TOKEN_PARAMETER in request.query:
        return True
    place = getattr(kind, "send", None)
    sent = None if place is None else request.sent(place)
    if isinstance(kind, Cursor):
        return read_token("" if sent is None else as_text(sent)) is not None
    first = str(kind.first) if isinstance(kind, PageNumber | Offset) else ""
    return sent is not None and as_text(sent) != first


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
