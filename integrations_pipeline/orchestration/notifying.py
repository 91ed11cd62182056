"""Messages to people, by a URL that says how: apprise knows chat, mail, webhooks and a hundred others.

apprise is imported here only, at use: it is an extra (``pip install 'integrations-pipeline[alerts]'``).
"""

from __future__ import annotations

import logging
import re
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
            target = apprise.Apprise()
            if not target.add(url):
                return UNKNOWN
            taken = target.notify(
                body=message.body, title=message.title, notify_type=message.kind, body_format=apprise.NotifyFormat.TEXT
            )
        return None if taken else reason(said)


def reason(said: list[str]) -> str:
    """Why it wasn't taken. Of what apprise logs only the status is kept: the rest may quote the URL, and its secret."""
    status = next((found[1] for one in said if (found := re.search(r"error=(\d{3})\b", one))), None)
    return f"the destination answered {status}" if status else "the destination can't be reached, or refused it"


@contextmanager
def silenced() -> Iterator[list[str]]:
    """What apprise and its HTTP client log meanwhile goes nowhere else, since it may quote the URL."""
    said: list[str] = []
    logger = logging.getLogger("apprise")
    before = (logger.handlers, logger.propagate, logger.level)
    logger.handlers, logger.propagate = [Kept(said)], False
    logger.setLevel(logging.WARNING)
    try:
        yield said
    finally:
        logger.handlers, logger.propagate, level = before
        logger.setLevel(level)


class Kept(logging.Handler):
    """Collects lines instead of writing them."""

    def __init__(self, said: list[str]):
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
