"""A lease kept alive for as long as this process lives and works on what it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from integrations_pipeline.spec.errors import DestinationError

EXTEND_SECONDS = 30.0
"""How often a lease of some minutes is extended."""


@contextmanager
def kept_alive(extend: Callable[[], None], name: str) -> Iterator[None]:
    """Calls ``extend`` now and then, in a thread of that name, until the block ends. A database that is away for a
    moment is left to the next time: if it stays so, the work itself meets it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(EXTEND_SECONDS):
            try:
                extend()
            except DestinationError:
                continue

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
