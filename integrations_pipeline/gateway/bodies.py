"""The bodies of requests: read whole, up to a limit each and one of all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from integrations_pipeline.gateway.door import Answer
from integrations_pipeline.spec.limits import HELD_BYTES, WEBHOOK_BYTES, WEBHOOK_SECONDS

TOO_SLOW = Answer(408, b"the request took too long")
TOO_LARGE = Answer(413, b"the request is too large")
LATER = Answer(503, b"not now: send it again")


class Refused(Exception):
    """A request that isn't read to its end, with what its sender is told."""

    def __init__(self, answer: Answer):
        super().__init__(answer.status)
        self.answer = answer


class Bodies:
    """What all requests of a gateway hold in memory. For one event loop."""

    def __init__(self) -> None:
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, http: Request) -> AsyncIterator[bytes]:
        """The raw bytes, held until the block ends. Raises Refused: slower or larger than ``limits`` say, or too much
        is under way."""
        held = 0
        try:
            async with asyncio.timeout(WEBHOOK_SECONDS):
                body = await self._whole(http)
            held = len(body)
            self.held_bytes += held
        except TimeoutError:
            raise Refused(TOO_SLOW) from None
        try:
            yield body
        finally:
            self.held_bytes -= held

    async def _whole(self, http: Request) -> bytes:
        read = bytearray()
        try:
            async for chunk in http.stream():
                read += chunk
                self.held_bytes += len(chunk)
                if len(read) > WEBHOOK_BYTES:
                    raise Refused(TOO_LARGE)
                if self.held_bytes > HELD_BYTES:
                    raise Refused(LATER)
        except ClientDisconnect:
            raise Refused(TOO_SLOW) from None
        finally:
            self.held_bytes -= len(read)
        return bytes(read)
