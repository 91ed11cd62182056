"""What the call log is told of each HTTP call: without secrets, without headers, with bodies where they are wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import getrandbits
from typing import Any

from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.client.request import Request
from integrations_pipeline.client.retry import TryAgain, Waiting
from integrations_pipeline.client.session import Received
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.limits import BODY_CHARACTERS, URL_CHARACTERS
from integrations_pipeline.spec.ports import CallLog, HttpCall
from integrations_pipeline.spec.running import current_run

ID_BITS = 63  # a bigint; two calls share an id about never
USER_INFO = re.compile(r"//[^/?#@]*@")


class Unlogged:
    """The ``ports.CallLog`` of a client that works without a database."""

    def note(self, call: HttpCall) -> None:
        return

    def flush(self) -> str | None:
        return None


@dataclass(slots=True)
class Note:
    """One call under way, and what came of it. ``private``: its bodies are never kept. ``reads``: its body only says
    what is asked for."""

    call: HttpCall
    began: float
    private: bool
    reads: bool
    content: bytes | None
    body: bytes = b""

    def answered(self, received: Received, seconds: float) -> None:
        self.call.status, self.call.seconds = received.status, seconds
        self.call.received_bytes, self.body = len(received.body), received.body


class Notes:
    """Makes the entries of one client's calls. ``every_body``: bodies are kept of good calls too."""

    def __init__(self, connection: str, log: CallLog, redactor: Redactor, clock: Clock, *, every_body: bool):
        self._connection, self._log, self._redactor, self._clock = connection, log, redactor, clock
        self._every_body = every_body

    @contextmanager
    def call(
        self, request: Request, url: str, waiting: Waiting, *, stream: str | None, private: bool, reads: bool
    ) -> Iterator[Note]:
        """Notes one call when the block ends, whatever ends it. ``url``: the request's without its credentials."""
        waited, reason = waiting.spent()
        call = HttpCall(
            id=getrandbits(ID_BITS),
            at=self._clock.now(),
            connection=self._connection,
            stream=stream,
            run_id=current_run(),
            method=request.method,
            url=USER_INFO.sub("//", self._redactor.excerpt(url, URL_CHARACTERS)),
            attempt=waiting.attempt,
            waited_seconds=waited,
            wait_reason=reason and self._redactor.text(reason),
            sent_bytes=len(request.content or b""),
        )
        note = Note(call, self._clock.monotonic_seconds(), private, reads, request.content)
        try:
            yield note
        except (IntegrationError, TryAgain) as failed:
            error = failed.error if isinstance(failed, TryAgain) else failed
            self._failed(note, error.error_class, error.what)
            raise
        except BaseException as error:
            self._failed(note, "failed", type(error).__name__)
            raise
        finally:
            self._keep_bodies(note)
            self._log.note(call)

    def _failed(self, note: Note, outcome: str, what: str) -> None:
        note.call.outcome, note.call.error = outcome, self._redactor.text(what)
        if note.call.status is None:
            note.call.seconds = self._clock.monotonic_seconds() - note.began

    def _keep_bodies(self, note: Note) -> None:
        if note.private:
            return
        wanted = self._every_body or note.call.error is not None
        if note.content and (wanted or note.reads):
            note.call.request_body = self._text(note.content)
        if note.body and wanted:
            note.call.response_body = self._text(note.body)

    def _text(self, body: bytes) -> str:
        return self._redactor.excerpt(body[: BODY_CHARACTERS * 16].decode("utf-8", "replace"), BODY_CHARACTERS)


def request_id_text(redactor: Redactor, request_id: Any) -> str | None:
    """The source's own id of a request, fit to be shown: some repeat what was sent in it."""
    return redactor.text(str(request_id))[:80] if request_id else None
