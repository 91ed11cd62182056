"""The walks through a list, one frozen value per kind of the grammar; a position is plain JSON.

A walk knows where a list starts, what a position sends, and what an answer says comes next. Only a missing token, the
source's own "no more", or the number of pages it names ends a list; two empty pages in a row where it names nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Any, Protocol

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.request import RequestBuilder, Sends
from integrations_pipeline.spec import pagination as forms
from integrations_pipeline.spec.decoding import encode_sorted
from integrations_pipeline.spec.errors import ConfigError, ContractError
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.places import ReadPlace, SendPlace

Position = dict[str, Any]
LINK = re.compile(r"<([^>]*)>((?:\s*;\s*[\w*!#$&+.^`|~-]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s;,\"]+))?)*)")
REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)
WORDS = {"true": True, "false": False, True: True, False: False}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page held, as the source sent it (None: the list is over, or as it was), and the total that it told."""

    items: list[Any] | None
    total: int | None


class Walk(Protocol):
    """One kind of pagination."""

    def first(self) -> Position:
        """Where the list starts."""

    def resumed(self, position: Position) -> Position:
        """Where to go on after an interruption: the position itself, or a seam before it."""

    def looked(self, position: Position, items: list[Any]) -> Position:
        """The position behind a page that held the items and was read again as a seam: resumed there, the list goes on
        there, or a source that answers one request per run would show the same page for ever."""

    def sends(self, position: Position) -> Sends:
        """What the request of a position holds beyond the list's own."""

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        """The next position, None where the end is proven. Raises ContractError where the answer can't be followed."""

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        """The positions that will probably follow the next one, for reading ahead."""

    def moved(self, position: Position, before: Seen, now: Seen) -> Position | None:
        """Where to read again, because rows may have moved up past this page since the one before; None if not."""

    def fresh(self, position: Position, before: Seen, items: list[Any]) -> list[Any]:
        """The items without what was asked for only to see that nothing has moved."""


class Followed:
    """What the walks have in common that follow what the source gave them: rows that move don't concern them."""

    def resumed(self, position: Position) -> Position:
        return position

    def looked(self, position: Position, items: list[Any]) -> Position:
        return position

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        return ()

    def moved(self, position: Position, before: Seen, now: Seen) -> Position | None:
        return None

    def fresh(self, position: Position, before: Seen, items: list[Any]) -> list[Any]:
        return items


def is_blank(token: Any) -> bool:
    """Whether a token is none: missing, null, false, empty, or only spaces. Zero is a token."""
    return (
        token is MISSING
        or token is None
        or token is False
        or token in ("", {}, [])
        or (isinstance(token, str) and not token.strip())
    )


def said_more(place: ReadPlace | None, answer: Answer) -> bool | None:
    """What the source says of more pages; None where it isn't asked or says nothing."""
    found = answer.read(place) if place else MISSING
    if found is MISSING or found is None:
        return None
    word = found.strip().lower() if isinstance(found, str) else found
    if not isinstance(word, str | bool | int) or word not in WORDS:
        raise ContractError(f"`more` is neither true nor false, but {str(found)[:40]!r}")
    return WORDS[word]


def whole_number(place: ReadPlace | None, answer: Answer, name: str) -> int | None:
    """A count named by the source; None where it isn't asked or says nothing."""
    found = answer.read(place) if place else MISSING
    if found is MISSING or found is None or found == "":
        return None
    if isinstance(found, str) and found.strip().isdecimal() and len(found) < 20:
        return int(found)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    raise ContractError(f"`{name}` is no count, but {str(found)[:40]!r}")


def total_of(form: forms.Paged, answer: Answer) -> int | None:
    """How many items the source says the list has. It ends nothing, so an odd one is no error."""
    try:
        return whole_number(form.total, answer, "total")
    except ContractError:
        return None


@dataclass(frozen=True, slots=True)
class OnePage(Followed):
    """The whole list in one answer."""

    def first(self) -> Position:
        return {}

    def sends(self, position: Position) -> Sends:
        return []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        return None


@dataclass(frozen=True, slots=True)
class ByNumber(Followed):
    """``{"page": 3, "rows": 100, "total": 512}``: what the page before held, and the total that it told.

    After an interruption the page before is read again, since rows of pages before may be gone by then; once
    (``looked``).
    """

    form: forms.PageNumber

    def first(self) -> Position:
        return {"page": self.form.first}

    def resumed(self, position: Position) -> Position:
        return position if "looked" in position else self.gone_back(position, 1)

    def looked(self, position: Position, items: list[Any]) -> Position:
        return {**position, "looked": True}

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["page"])]

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        pages = whole_number(self.form.pages, answer, "pages")
        done = position["page"] - self.form.first + 1
        if counted_out(self.form, position, answer, items, pages, done):
            return None
        rows = len(items) or position.get("rows")
        return {
            "page": position["page"] + 1,
            **emptiness(items),
            **({"rows": rows} if rows else {}),
            **told_total(self.form, answer),
        }

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        last = self.form.first + (pages_in_all(self.form, answer, items) or 0)
        return ({"page": page} for page in range(position["page"] + 2, last))

    def moved(self, position: Position, before: Seen, now: Seen) -> Position | None:
        """A smaller total than before: so many rows are gone, and those after them have moved up."""
        gone = fewer(position, now)
        if not gone or "rows" not in position:
            return None
        back = self.gone_back(position, ceil(gone / position["rows"]))
        return {**back, "total": now.total} if back["page"] < position["page"] else None

    def gone_back(self, position: Position, pages: int) -> Position:
        page = max(position["page"] - pages, self.form.first)
        kept = {name: value for name, value in position.items() if name not in ("empty", "looked")}
        if "read" in kept:
            kept["read"] = max(kept["read"] - (position["page"] - page) * position.get("rows", 0), 0)
        return {**kept, "page": page}


@dataclass(frozen=True, slots=True)
class ByOffset:
    """``{"offset": 299, "seam": 200, "pages": 3, "over": 1}``: the page before began at the seam, ``pages`` are read.

    A page begins with the last row of the page before, so that a row which moved up past the seam, because one before
    it is gone, is noticed. The whole page at the seam is read again then, and after an interruption, once: ``looked``
    is the digest of its last row. There is no such row where the source names the number of pages, or rounds offsets
    down to whole ones (``aligned``).
    """

    form: forms.Offset

    def first(self) -> Position:
        return {"offset": self.form.first}

    def resumed(self, position: Position) -> Position:
        return position if "looked" in position else self.at_seam(position)

    def looked(self, position: Position, items: list[Any]) -> Position:
        return {**position, "looked": digest_of(items[-1]) if items and position.get("over") else ""}

    def at_seam(self, position: Position) -> Position:
        if "seam" not in position:
            return position
        back = self.gone_back(position, position["offset"] - position["seam"])
        return {name: value for name, value in back.items() if name != "back"}

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["offset"])]

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        pages = whole_number(self.form.pages, answer, "pages")
        done = position.get("pages", 0) + 1
        if counted_out(self.form, position, answer, items, pages, done):
            return None
        offset = position["offset"]
        empty = len(items) <= position.get("over", 0)  # nothing, or nothing but the row of the page before
        aligned = {"aligned": True} if position.get("aligned") else {}
        over = self.overlap(items) if not (empty or aligned) else 0
        step = len(items) or (self.form.size.value if self.form.size else 1)
        found = {"over": over} if over else {"empty": True} if empty else {}
        total = told_total(self.form, answer)
        return {"offset": offset + step - over, "seam": offset, "pages": done, **found, **aligned, **total}

    def overlap(self, items: list[Any]) -> int:
        return 1 if len(items) > 1 and self.form.pages is None else 0

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        pages = pages_in_all(self.form, answer, items) or 0
        end, step = self.form.first + pages * len(items), len(items) - self.overlap(items)
        return ({"offset": one} for one in range(position["offset"] + 2 * step, end, step or 1))

    def moved(self, position: Position, before: Seen, now: Seen) -> Position | None:
        """None of the rows before is on this page, which should begin with the last one of them; or all of them are.

        Then it is gone back, each time twice as far, until a page holds one of them. After an interruption no rows
        before are known, and a smaller total tells how many are gone; behind a seam that was read again also that the
        last row isn't there.
        """
        if not before.items:
            if now.items and position.get("looked") and digest_of(now.items[0]) != position["looked"]:
                return self.at_seam(position)
            gone = fewer(position, now)
            if not gone or position["offset"] <= self.form.first:
                return None
            if self.form.pages is not None:  # how many pages lie before a row is known of the first one only
                gone = position["offset"]
            back = self.gone_back(position, gone)
            return {**back, "total": now.total, "pages": back["pages"] if back["offset"] > self.form.first else 0}
        step = position.get("back", position.get("over", 0))
        if not step or not before.items or self.fresh(position, before, now.items or []) != now.items:
            return None
        if now.items == before.items:
            aligned = {**self.at_seam(position), "offset": position["offset"] + step, "aligned": True}
            return aligned if "over" in position else None
        if any(item in before.items for item in now.items or []):
            return None
        further = max(2 * position.get("back", 0), len(before.items))
        return self.gone_back(position, further)

    def gone_back(self, position: Position, rows: int) -> Position:
        """That many rows before a position, but not before the list."""
        offset = max(position["offset"] - rows, self.form.first)
        left = ("seam", "empty", "over", "back", "looked")
        kept = {name: value for name, value in position.items() if name not in left}
        if "read" in kept:
            kept["read"] = max(kept["read"] - (position["offset"] - offset), 0)
        back = {"back": rows} if offset > self.form.first else {}
        return {**kept, "offset": offset, "pages": max(position.get("pages", 0) - 1, 0), **back}

    def fresh(self, position: Position, before: Seen, items: list[Any]) -> list[Any]:
        again = position.get("over") and items and before.items and items[0] == before.items[-1]
        return items[1:] if again else items


def digest_of(item: Any) -> str:
    return blake2b(encode_sorted(item), digest_size=8).hexdigest()


def told_total(form: forms.PageNumber | forms.Offset, answer: Answer) -> Position:
    total = total_of(form, answer)
    return {} if total is None else {"total": total}


def fewer(position: Position, now: Seen) -> int:
    """By how many rows the list is shorter than when the page before was read; 0 where nothing tells."""
    return max(position.get("total", 0) - now.total, 0) if now.total is not None else 0


def emptiness(items: list[Any]) -> Position:
    return {} if items else {"empty": True}


def counted_out(
    form: forms.PageNumber | forms.Offset,
    position: Position,
    answer: Answer,
    items: list[Any],
    pages: int | None,
    done: int,
) -> bool:
    """Whether a counted list has ended."""
    more = said_more(form.more, answer)
    if more is False or (pages is not None and done >= pages):
        return True
    if more is None and pages is None:
        return not items and bool(position.get("empty"))
    return False


def pages_in_all(form: forms.PageNumber | forms.Offset, answer: Answer, items: list[Any]) -> int | None:
    """How many pages the list probably has: as named, else by its total and the size this page really had."""
    pages = whole_number(form.pages, answer, "pages")
    if pages is not None:
        return pages
    total = total_of(form, answer)
    return ceil(total / len(items)) if total is not None and items else None


@dataclass(frozen=True, slots=True)
class ByToken(Followed):
    """``{"token": …}``: whatever JSON the source gave. Where it is sent as `url`, an absolute one of our origins."""

    form: forms.Cursor
    builder: RequestBuilder

    def first(self) -> Position:
        return {}

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["token"])] if "token" in position else []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        more = said_more(self.form.more, answer)
        if more is False:
            return None
        token = answer.read(self.form.read)
        if is_blank(token):
            if more:
                raise ContractError("the source says there is more, but gives no token for it")
            return None
        return {"token": self._checked(token, answer)}

    def _checked(self, token: Any, answer: Answer) -> Any:
        kind = self.form.send.kind
        if kind == "url":
            return next_url(token, answer, self.builder)
        if kind == "spread" and not isinstance(token, dict):
            raise ContractError("the source's next page is no object, which `spread` needs")
        if kind in ("query", "header") and not isinstance(token, str | int | float):
            raise ContractError(f"the source's token for the next page is no text or number, so no {kind} can hold it")
        return token


@dataclass(frozen=True, slots=True)
class ByKey(Followed):
    """``{"after": "cus_42"}``: the key of the last item."""

    form: forms.Keyset
    key: Path

    def first(self) -> Position:
        return {}

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["after"])] if "after" in position else []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        more = said_more(self.form.more, answer)
        if more is False:
            return None
        if not items:
            if more or self.form.more:
                raise ContractError("an empty page, and the source doesn't say that the list has ended")
            return None
        keys = (self.key.get(item) for item in reversed(items))  # one item without a key costs one row, not the list
        key = next((key for key in keys if isinstance(key, str | int) and not is_blank(key)), None)
        if key is None:
            raise ContractError(f"no item of the page has a `{self.key}` to go on from")
        return {"after": key}


@dataclass(frozen=True, slots=True)
class ByLink(Followed):
    """``{"url": "https://…"}``: absolute, of one of our origins, without credentials."""

    read: ReadPlace
    builder: RequestBuilder

    def first(self) -> Position:
        return {}

    def sends(self, position: Position) -> Sends:
        return [(SendPlace("url"), position["url"])] if "url" in position else []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        link = answer.read(self.read)
        if self.read.kind == "header" and self.read.name.lower() == "link":
            link = next_link(link if isinstance(link, str) else "")
        return None if is_blank(link) else {"url": next_url(link, answer, self.builder)}


def next_link(header: str) -> str | None:
    """The target of rel=next in a Link header."""
    for target, parameters in LINK.findall(header):
        rel = REL.search(parameters)
        if rel and "next" in (rel[1] or rel[2]).lower().split():
            return str(target)
    return None


def next_url(link: Any, answer: Answer, builder: RequestBuilder) -> str:
    if not isinstance(link, str):
        raise ContractError(f"the link to the next page is no text, but {str(link)[:40]!r}")
    return builder.without_credentials(builder.origins.join(answer.url, link))


def walk_of(form: forms.Pagination, primary_key: tuple[Path, ...], builder: RequestBuilder) -> Walk:
    """The walk of a declared pagination. Raises ConfigError for a keyset without one key to go by."""
    match form:
        case forms.SinglePage():
            return OnePage()
        case forms.PageNumber():
            return ByNumber(form)
        case forms.Offset():
            return ByOffset(form)
        case forms.Cursor():
            return ByToken(form, builder)
        case forms.Keyset():
            if form.read is None and len(primary_key) != 1:
                raise ConfigError("keyset pagination with a composite primary key needs `read`")
            return ByKey(form, form.read or primary_key[0])
        case forms.LinkHeader() | forms.LinkBody():
            return ByLink(form.read, builder)
