"""One page of a list, with all a caller needs to go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as the source gave them, after `records` was applied.

    An item that is no object is passed on as it is, for quarantine. ``next`` is the bookmark: a plain JSON position
    from which ``Client.pages`` goes on; None only where the end is proven, or where ``window_full`` says that the
    source shows no more of this list (`max_records`), or ``circles``: its next page was read before, which is raised
    after this one. ``call`` is the entry of its request in the call log.
    """

    rows: list[Any]
    next: dict[str, Any] | None
    number: int
    read_at: datetime
    cursor_value: Any
    total: int | None
    request: str
    validator: dict[str, str] | None
    not_modified: bool = False
    window_full: bool = False
    circles: bool = False
    call: int | None = None
