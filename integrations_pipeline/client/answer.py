"""What a source answered to one call, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.places import ReadPlace


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was no failure. ``document`` is its JSON, None where the body was empty (204, 304)."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # case-insensitive
    document: Any = field(repr=False)
    read_at: datetime  # as of when: the answer's Date, but never later than we asked by our clock
    told_at: datetime  # the answer's Date, else our clock: what the moments it tells of are counted from
    request: str  # "GET /contacts", never with a query
    request_id: str | None
    url: str = field(repr=False)  # may hold a credential: only for joining links
    cookies: tuple[str, ...] = field(default=(), repr=False)  # each Set-Cookie as it came
    call: int | None = None  # its entry in the call log
    repeats: bool = False  # whether it may repeat the credentials that it was asked with

    def read(self, place: ReadPlace, parent: Any = None) -> Any:
        """The value at a place of this answer, or of the parent record it was asked for, else MISSING."""
        if place.kind == "header":
            return self.headers.get(place.name, MISSING)
        if place.kind == "parent":
            return place.path.get(parent)
        return place.path.get(self.document) if place.kind in ("here", "body") else MISSING
