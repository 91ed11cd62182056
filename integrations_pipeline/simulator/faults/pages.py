"""Faults of a page: which part of the list it holds, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from integrations_pipeline.simulator.faults.answers import elsewhere
from integrations_pipeline.simulator.faults.board import Switched
from integrations_pipeline.simulator.paging import Cut, Page, Pager
from integrations_pipeline.spec.errors import DataError, NotFound
from integrations_pipeline.spec.pagination import Offset, PageNumber

Cutting = Callable[[Pager, Cut, Switched], None]
Saying = Callable[[Pager, Cut, Page, Switched], None]

# which part of the list


def smaller_pages(pager: Pager, cut: Cut, switched: Switched) -> None:
    size = min(cut.size, switched.arguments["count"])
    if isinstance(pager.kind, PageNumber):
        cut.start = cut.number * size
    cut.size = cut.page_size = size


def empty_page(pager: Pager, cut: Cut, switched: Switched) -> None:
    """The records of that page move on to the next one, so that none is kept from the reader."""
    at, counted = switched.arguments["count"] - 1, isinstance(pager.kind, PageNumber | Offset)
    cut.more_pages = 1
    if cut.number == at:
        cut.size = 0
    elif counted and cut.number > at:
        cut.start -= cut.page_size


def overlap(pager: Pager, cut: Cut, switched: Switched) -> None:
    back = min(switched.arguments["count"], cut.start)
    cut.start -= back
    cut.size += back


def window(pager: Pager, cut: Cut, switched: Switched) -> None:
    count = switched.arguments["count"]
    if cut.start >= count:
        raise DataError(f"only the first {count} records of a list can be read")


def past_end(pager: Pager, cut: Cut, switched: Switched) -> None:
    answer = switched.arguments["answer"]
    if not cut.start or cut.start < len(cut.listing):
        return
    if answer == "404":
        raise NotFound("there is no such page")
    if answer == "400":
        raise DataError("this page lies past the end")
    cut.start = (len(cut.listing) - 1) // cut.size * cut.size if cut.listing else 0


# what is said of the rest


def repeat_token(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.next = cut.asked or page.next


def cycle_tokens(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    if cut.number >= switched.arguments["count"]:
        first = pager.slice(cut.listing, 0, cut.page_size)
        page.next = pager.token_after(first, replace(cut, number=0)).text()


def last_page_names_itself(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    if cut.is_last:
        page.next = cut.asked or page.next


def endless_tokens(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.more = True
    page.next = page.next or pager.token_after(page.ordinals, cut).text()


def lie_total(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.total = switched.arguments["count"]


def lie_pages(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.pages = switched.arguments["count"]


def lie_more(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.more = switched.arguments["yes"] == "yes"


def relative_links(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.link = relative


def relative(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def next_elsewhere(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.link = elsewhere


def shuffle(pager: Pager, cut: Cut, page: Page, switched: Switched) -> None:
    page.ordinals = sorted(page.ordinals, key=lambda ordinal: switched.number("place", ordinal))
