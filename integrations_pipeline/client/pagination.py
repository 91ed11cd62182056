"""The walks through a list, one frozen value per kind of the grammar; a position is plain JSON.

A walk knows where a list starts, what a position sends, and what an answer says comes next. Only a missing token, the
source's own "no more", or the number of pages it names ends a list; two empty pages in a row where it names nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.request import RequestBuilder, Sends
from integrations_pipeline.spec import pagination as forms
from integrations_pipeline.spec.errors import ConfigError, ContractError
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.places import ReadPlace, SendPlace

Position = dict[str, Any]
LINK = re.compile(r"<([^>]*)>((?:\s*;\s*[\w*!#$&+.^`|~-]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s;,\"]+))?)*)")
REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)
WORDS = {"true": True, "false": False, True: True, False: False}


class Walk(Protocol):
    """One kind of pagination."""

    def first(self) -> Position:
        """Where the list starts."""

    def resumed(self, position: Position) -> Position:
        """Where to go on after an interruption: the position itself, or a seam before it."""

    def sends(self, position: Position) -> Sends:
        """What the request of a position holds beyond the list's own."""

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        """The next position, None where the end is proven. Raises ContractError where the answer can't be followed."""

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        """The positions that will probably follow the next one, for reading ahead."""


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
class OnePage:
    """The whole list in one answer."""

    def first(self) -> Position:
        return {}

    def resumed(self, position: Position) -> Position:
        return position

    def sends(self, position: Position) -> Sends:
        return []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        return None

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        return ()


@dataclass(frozen=True, slots=True)
class ByNumber:
    """``{"page": 3}``."""

    form: forms.PageNumber

    def first(self) -> Position:
        return {"page": self.form.first}

    def resumed(self, position: Position) -> Position:
        return position

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["page"])]

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        pages = whole_number(self.form.pages, answer, "pages")
        done = position["page"] - self.form.first + 1
        if counted_out(self.form, position, answer, items, pages, done):
            return None
        return {"page": position["page"] + 1, **emptiness(items)}

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        last = self.form.first + (pages_in_all(self.form, answer, items) or 0)
        return ({"page": page} for page in range(position["page"] + 2, last))


@dataclass(frozen=True, slots=True)
class ByOffset:
    """``{"offset": 300, "seam": 200, "pages": 3}``: the seam is where the page before began. It is read again after an
    interruption, since a list that lost a row meanwhile has moved up. ``pages`` counts those read."""

    form: forms.Offset

    def first(self) -> Position:
        return {"offset": self.form.first}

    def resumed(self, position: Position) -> Position:
        if "seam" not in position:
            return position
        back = position["offset"] - position["seam"]
        kept = {name: value for name, value in position.items() if name not in ("seam", "empty")}
        if "read" in kept:
            kept["read"] = max(kept["read"] - back, 0)
        return {**kept, "offset": position["seam"], "pages": max(position["pages"] - 1, 0)}

    def sends(self, position: Position) -> Sends:
        return [(self.form.send, position["offset"])]

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        pages = whole_number(self.form.pages, answer, "pages")
        done = position.get("pages", 0) + 1
        if counted_out(self.form, position, answer, items, pages, done):
            return None
        step = len(items) or (self.form.size.value if self.form.size else 1)
        offset = position["offset"]
        return {"offset": offset + step, "seam": offset, "pages": done, **emptiness(items)}

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        pages = pages_in_all(self.form, answer, items) or 0
        end = self.form.first + pages * len(items)
        return ({"offset": one} for one in range(position["offset"] + 2 * len(items), end, len(items) or 1))


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
class ByToken:
    """``{"token": …}``: whatever JSON the source gave. Where it is sent as `url`, an absolute one of our origins."""

    form: forms.Cursor
    builder: RequestBuilder

    def first(self) -> Position:
        return {}

    def resumed(self, position: Position) -> Position:
        return position

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

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        return ()


@dataclass(frozen=True, slots=True)
class ByKey:
    """``{"after": "cus_42"}``: the key of the last item."""

    form: forms.Keyset
    key: Path

    def first(self) -> Position:
        return {}

    def resumed(self, position: Position) -> Position:
        return position

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

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        return ()


@dataclass(frozen=True, slots=True)
class ByLink:
    """``{"url": "https://…"}``: absolute, of one of our origins, without credentials."""

    read: ReadPlace
    builder: RequestBuilder

    def first(self) -> Position:
        return {}

    def resumed(self, position: Position) -> Position:
        return position

    def sends(self, position: Position) -> Sends:
        return [(SendPlace("url"), position["url"])] if "url" in position else []

    def after(self, position: Position, answer: Answer, items: list[Any]) -> Position | None:
        link = answer.read(self.read)
        if self.read.kind == "header" and self.read.name.lower() == "link":
            link = next_link(link if isinstance(link, str) else "")
        return None if is_blank(link) else {"url": next_url(link, answer, self.builder)}

    def expected(self, position: Position, answer: Answer, items: list[Any]) -> Iterable[Position]:
        return ()


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
