"""What a source says, read once and heard many times: a rehearsal must not wait for a source, and may be repeated.

asked for a list never heard ──▶ wished for; an empty page stands for it meanwhile
``read``                     ──▶ wishes are read from the source, as far as the requests allowed go
asked for a list heard       ──▶ its pages again, then what the source raised, or that it was cut short
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from integrations_pipeline.client import Client, Page
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.spec.decoding import encode_sorted
from integrations_pipeline.spec.errors import Deferred, IntegrationError


class CutShort(Deferred):
    """The list goes on, and no more of it was asked for."""


@dataclass
class Heard:
    """A list as it was read. ``error``: what ended it."""

    pages: list[Page] = field(default_factory=list)
    error: IntegrationError | None = None


@dataclass
class Spent:
    """What was read of one stream. ``lists``: heard, of ``wanted``; ``total``: rows there are, where that is told."""

    pages: int = 0
    rows: int = 0
    total: int | None = None
    lists: int = 0
    wanted: int = 0
    requests: int = 0
    seconds: float = 0.0
    cut: bool = False


class Replayed:
    """Stands for a ``Client`` whose lists are read between two rehearsals. ``requests``: pages read of each stream."""

    def __init__(self, client: Client, requests: int):
        self.meter = Meter()
        self._client, self._requests = client, requests
        self._heard: dict[bytes, Heard] = {}
        self._wishes: dict[bytes, tuple[str, str, dict[str, Any]]] = {}
        self.spent: dict[str, Spent] = {}

    def prepare(self, stream: str) -> None:
        """As ``Client.prepare``."""
        self._client.prepare(stream)

    def pages(self, stream: str, **where: Any) -> Iterator[Page]:
        """As ``Client.pages``."""
        return self._say("pages", stream, where)

    def deleted_keys(self, stream: str, **where: Any) -> Iterator[Page]:
        """As ``Client.deleted_keys``."""
        return self._say("deleted_keys", stream, where)

    @property
    def wishes(self) -> bool:
        """Whether any list is still to be read."""
        return bool(self._wishes)

    def wishes_for(self, stream: str | None) -> bool:
        """Whether a list of the stream is still to be read."""
        return any(name == stream for _, name, _ in self._wishes.values())

    def read(self) -> bool:
        """Reads what was wished for. Returns whether that was anything."""
        wishes, self._wishes = self._wishes, {}
        for key, (method, stream, where) in wishes.items():
            self._heard[key] = self._hear(method, stream, where)
        return bool(wishes)

    def _say(self, method: str, stream: str, where: dict[str, Any]) -> Iterator[Page]:
        key = encode_sorted([method, stream, where])
        heard = self._heard.get(key)
        if heard is None:
            self._wishes[key] = (method, stream, where)
            heard = Heard([Page([], None, 1, datetime.now(UTC), None, None, "", None)])
        yield from heard.pages
        if heard.error is not None:
            raise heard.error

    def _hear(self, method: str, stream: str, where: dict[str, Any]) -> Heard:
        spent, heard = self.spent.setdefault(stream, Spent()), Heard()
        spent.wanted += 1
        if spent.pages >= self._requests:
            spent.cut, heard.error = True, cut_short()
            return heard
        began, asked = time.monotonic(), self._client.meter.requests
        waited = self._client.meter.waited_seconds
        pages = getattr(self._client, method)(stream, **where)
        try:
            for page in pages:
                self._note(spent, heard, page)
                if page.next is not None and spent.pages >= self._requests:
                    spent.cut, heard.error = True, cut_short()
                    break
        except IntegrationError as error:
            heard.error = error
        finally:
            pages.close()
        meter = self._client.meter
        spent.lists += 1
        spent.requests += meter.requests - asked
        spent.seconds += max(time.monotonic() - began - (meter.waited_seconds - waited), 0.0)
        return heard

    def _note(self, spent: Spent, heard: Heard, page: Page) -> None:
        heard.pages.append(page)
        spent.pages += 1
        spent.rows += len(page.rows)
        spent.total = page.total if page.total is not None else spent.total


def cut_short() -> CutShort:
    return CutShort("the list goes on; no more of it was read for the plan", next="raise --requests to read more of it")
