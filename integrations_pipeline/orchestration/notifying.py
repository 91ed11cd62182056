"""Messages to people, by a URL that says how: apprise knows chat, mail, webhooks and a hundred others.

apprise is imported here only, at use: it is an extra (``pip install 'integrations-pipeline[alerts]'``).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from integrations_pipeline.sync.alerting import Message

MISSING = "apprise is not installed: pip install 'integrations-pipeline[alerts]'"
UNKNOWN = "its variable holds no URL of a form that apprise knows"


class Apprise:
    """``Notifier`` by apprise. Redirects and retries are apprise's own; each try ends within seconds."""

    def tell(self, url: str, message: Message) -> str | None:
        try:
            import apprise
        except ImportError:
            return MISSING
        with silenced() as said:
            target = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))  # in this thread, which is silenced
            if not target.add(url):
                return UNKNOWN
            mute()  # what the form of this URL has imported only now
            taken = target.notify(
                body=message.body, title=message.title, notify_type=message.kind, body_format=apprise.NotifyFormat.TEXT
            )
        return None if taken else reason(said)


def reason(said: list[str]) -> str:
    """Why it wasn't taken. Of what apprise logs only the status is kept: the rest may quote the URL, and its secret."""
    status = next((found[1] for one in said if (found := re.search(r"error=(\d{3})\b", one))), None)
    return f"the destination answered {status}" if status else "the destination can't be reached, or refused it"


class Silence(logging.Filter):
    """Of a thread that sends, nothing is logged: apprise, its HTTP client and whatever else it uses may quote the URL.
    What apprise itself says is kept. Other threads log as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._sending = threading.local()

    @property
    def said(self) -> list[str] | None:
        """What this thread's sending has said so far; None while it sends nothing."""
        return getattr(self._sending, "said", None)

    @said.setter
    def said(self, lines: list[str] | None) -> None:
        self._sending.said = lines

    def filter(self, record: logging.LogRecord) -> bool:
        said = self.said
        if said is not None and record.name.startswith("apprise"):
            said.append(record.getMessage())
        return said is None


SILENCE = Silence()


def mute() -> None:
    """Puts the filter on every logger there is, for good: taking it off again would disturb another thread's sending. A
    logger's filter doesn't count for those below it."""
    for one in (logging.getLogger(), *list(logging.Logger.manager.loggerDict.values())):
        if isinstance(one, logging.Logger):
            one.addFilter(SILENCE)


@contextmanager
def silenced() -> Iterator[list[str]]:
    """Yields what apprise says meanwhile in this thread; it goes nowhere else."""
    logging.getLogger("apprise").setLevel(logging.WARNING)
    mute()
    said: list[str] = []
    SILENCE.said = said
    try:
        yield said
    finally:
        SILENCE.said = None
