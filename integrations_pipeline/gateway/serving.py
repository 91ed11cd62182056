"""The gateway on uvicorn, with what an open port needs: limits on heads, on silence and on how many may knock."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.spec.limits import WEBHOOK_HEAD_BYTES, WEBHOOK_SECONDS

PORT = 8766
CONNECTIONS = 800
"""At once, more get 503: a process may usually have 1,024 files open."""

KEEP_ALIVE_SECONDS = 30
"""Senders that deliver often needn't connect anew each time."""

STOP_SECONDS = 10
"""Deliveries under way are answered before the gateway ends."""


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections whose sender is silent, or whose head never ends; uvicorn alone waits for ever."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._head_bytes = 0
        self._in_head = True
        self._patience: asyncio.TimerHandle | None = None
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > WEBHOOK_HEAD_BYTES and not self.transport.is_closing():
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._wait()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(WEBHOOK_SECONDS, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def configuration(gateway: Gateway) -> uvicorn.Config:
    """Without access log and without the server's name; addresses in proxy headers are not believed."""
    return uvicorn.Config(
        gateway.app,
        http=GuardedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        log_level="error",
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def run(gateway: Gateway, listener: socket.socket, started: Callable[[int], None] = lambda port: None) -> None:
    """Serves until it is told to stop, in the calling thread; ``started`` is told the port."""
    started(listener.getsockname()[1])
    uvicorn.Server(configuration(gateway)).run([listener])
