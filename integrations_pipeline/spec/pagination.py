"""The declared form of each pagination kind; `client/pagination.py` walks them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator
from pydantic import Field as Key

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.forms import Model
from integrations_pipeline.spec.paths import PathText
from integrations_pipeline.spec.places import ReadPlace, ReadPlaceText, SendPlaceText


class Size(Model):
    """How many items a page is asked to hold. The source may give fewer: what it gives is what counts."""

    send: SendPlaceText
    value: int = Key(gt=0)


class Paged(Model):
    """What all kinds share."""

    size: Size | None = None
    total: ReadPlaceText | None = Key(None, description="for progress and read-ahead; never ends a list alone")
    max_records: int | None = Key(
        None, gt=0, description="the source's window; past it the list is narrowed by the cursor"
    )
    max_pages: int = Key(limits.MAX_PAGES, gt=0)


class SinglePage(Paged):
    type: Literal["single_page"]


class PageNumber(Paged):
    type: Literal["page_number"]
    send: SendPlaceText
    first: int = 1
    pages: ReadPlaceText | None = Key(None, description="where the number of pages is read")
    more: ReadPlaceText | None = None


class Offset(Paged):
    type: Literal["offset"]
    send: SendPlaceText
    first: int = 0
    pages: ReadPlaceText | None = None
    more: ReadPlaceText | None = None


class Cursor(Paged):
    type: Literal["cursor"]
    read: ReadPlaceText
    send: SendPlaceText
    more: ReadPlaceText | None = None


class Keyset(Paged):
    type: Literal["keyset"]
    send: SendPlaceText
    read: PathText | None = Key(
        None, description="a path in the last item, before `unwrap`; the primary key unless given"
    )
    more: ReadPlaceText | None = None


class LinkHeader(Paged):
    type: Literal["link_header"]
    read: ReadPlaceText = ReadPlace("header", name="Link")


class LinkBody(Paged):
    type: Literal["link_body"]
    read: ReadPlaceText


Pagination = Annotated[
    SinglePage | PageNumber | Offset | Cursor | Keyset | LinkHeader | LinkBody, Discriminator("type")
]
