"""Reading on while a chunk is checked and committed: pages wait in a queue that holds a chunk's worth of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread

from integrations_pipeline.client import Page
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.spec.running import carried

LEAVE_SECONDS = 5.0
"""How long an abandoned reader is waited for: a request under way may take longer, and ends by itself."""


class Reading:
    """Iterates pages in a thread of its own, so that a source with a rate limit isn't kept waiting by our work.

    Pages come in order, then whatever the source raised. A context manager: leaving it ends the reading.
    """

    def __init__(self, pages: Iterator[Page], rows: int | None = None):
        self._pages = pages
        self._room = rows or CHUNK_RECORDS
        self._waiting: deque[Page] = deque()
        self._rows = 0
        self._error: BaseException | None = None
        self._ended = self._stopped = False
        self._changed = Condition()
        self._thread = Thread(target=carried(self._read), name="reading", daemon=True)

    def _read(self) -> None:
        try:
            for page in self._pages:
                if not self._put(page):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again where the pages are taken
            self._error = error
        finally:
            self._pages.close()  # type: ignore[attr-defined]
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, page: Page) -> bool:
        """Waits for room; False when nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._rows < self._room)
            self._waiting.append(page)
            self._rows += len(page.rows)
            self._changed.notify_all()
            return not self._stopped

    def __iter__(self) -> Iterator[Page]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                page = self._waiting.popleft()
                self._rows -= len(page.rows)
                self._changed.notify_all()
            yield page
        if self._error is not None:
            raise self._error

    def start(self) -> Reading:
        """Begins before its turn; ``stop`` ends it where its turn never comes."""
        if not self._thread.is_alive() and not self._ended:
            self._thread.start()
        return self

    def __enter__(self) -> Reading:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(LEAVE_SECONDS)
