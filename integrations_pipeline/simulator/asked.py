"""The request log of a simulated source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the request log. ``path`` is below the mount, ``stream`` is empty where none was meant.

    Where ``purpose`` is ``webhook`` the source was the one who asked: ``host`` and ``path`` are the receiver's,
    ``status`` its answer (0: none came, or the delivery was lost), ``count`` the number of the try. Of a write, ``key``
    is its idempotency key and ``wrote`` the external ids of what it made, changed or deleted: none if it was refused,
    or the answer was one that had been given before.
    """

    at: datetime
    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    stream: str
    purpose: str
    status: int
    count: int
    host: str
    faults: tuple[str, ...]
    key: str = ""
    wrote: tuple[str, ...] = ()
