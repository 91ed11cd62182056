"""Answers that are sent badly: written to the connection itself, past the web server, and then it is closed."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from integrations_pipeline.simulator.answer import Answer

BLOCK_BYTES = 1_000_000
HUGE_BYTES = 200_000_000
DRIP_SECONDS = 0.1
WAITING_BYTES = 4_000_000
"""Written but not yet taken by the reader."""


class OpenProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The web server's own, which also tells an application on which transport a request came."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class BadResponse(Response):
    """An answer that is delivered badly. Returns when the connection is gone, so that the server adds nothing."""

    def __init__(self, answer: Answer):
        super().__init__(answer.body, answer.status)
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.answer.delivery is not None
        transport: asyncio.Transport = scope["state"]["transport"]
        await DELIVERIES[self.answer.delivery.name](transport, self.answer)
        while (await receive())["type"] != "http.disconnect":
            pass


def written(answer: Answer, *framing: str, body: bytes | None = None) -> bytes:
    """The answer as bytes; ``framing`` are the header lines that say where it ends."""
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = "Unknown"
    headers = {"Content-Type": "application/json", **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), *framing]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (answer.body if body is None else body)


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


async def reset(transport: asyncio.Transport, answer: Answer) -> None:
    """Closed with a RST: what was not yet sent is forgotten."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def hang_up(transport: asyncio.Transport, answer: Answer) -> None:
    transport.close()


async def silent(transport: asyncio.Transport, answer: Answer) -> None:
    """Nothing comes, until the reader leaves."""


async def half_close(transport: asyncio.Transport, answer: Answer) -> None:
    """A reader that keeps its connections believes in this one until it uses it."""
    transport.write(written(answer, length(answer.body)))
    transport.close()


async def truncate(transport: asyncio.Transport, answer: Answer) -> None:
    assert answer.delivery is not None
    transport.write(CUT[answer.delivery.arguments["cut"]](answer))
    transport.close()


def cut_by_length(answer: Answer) -> bytes:
    return written(answer, length(answer.body), body=half(answer.body))


def cut_chunked(answer: Answer) -> bytes:
    part = half(answer.body)
    return written(answer, "Transfer-Encoding: chunked", body=f"{len(part):x}\r\n".encode() + part + b"\r\n")


def cut_gzip(answer: Answer) -> bytes:
    """Framed as if it were whole: only the packed text itself shows that its end is missing."""
    packed = half(zipped(answer.body))
    return written(answer, "Content-Encoding: gzip", length(packed), body=packed)


def cut_unframed(answer: Answer) -> bytes:
    return written(answer, "Connection: close", body=half(answer.body))


def cut_headers(answer: Answer) -> bytes:
    return half(written(answer, length(answer.body), body=b""))


CUT: dict[str, Callable[[Answer], bytes]] = {
    "length": cut_by_length,
    "chunked": cut_chunked,
    "gzip": cut_gzip,
    "unframed": cut_unframed,
    "headers": cut_headers,
}


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def zipped(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush()


async def drip(transport: asyncio.Transport, answer: Answer) -> None:
    assert answer.delivery is not None
    pause = answer.delivery.arguments.get("duration", DRIP_SECONDS)
    for byte in written(answer, length(answer.body)):
        if transport.is_closing():
            return
        transport.write(bytes([byte]))
        await asyncio.sleep(pause)
    transport.close()


async def huge(transport: asyncio.Transport, answer: Answer) -> None:
    """Spaces before the JSON, so that a reader that takes all of it finds nothing wrong."""
    assert answer.delivery is not None
    size = answer.delivery.arguments.get("size", HUGE_BYTES)
    await poured(transport, written(answer, f"Content-Length: {size + len(answer.body)}", body=b""))
    for block in spaces(size):
        await poured(transport, block)
    await poured(transport, answer.body)
    transport.close()


async def bomb(transport: asyncio.Transport, answer: Answer) -> None:
    assert answer.delivery is not None
    packer = zlib.compressobj(9, wbits=31)
    await poured(transport, written(answer, "Content-Encoding: gzip", "Connection: close", body=b""))
    for block in spaces(answer.delivery.arguments.get("size", HUGE_BYTES)):
        await poured(transport, packer.compress(block))
    await poured(transport, packer.compress(answer.body) + packer.flush())
    transport.close()


def spaces(size: int) -> Iterator[bytes]:
    for _ in range(size // BLOCK_BYTES):
        yield b" " * BLOCK_BYTES
    yield b" " * (size % BLOCK_BYTES)


async def poured(transport: asyncio.Transport, block: bytes) -> None:
    """Written when the reader has taken what came before, so that little of it is held here."""
    while transport.get_write_buffer_size() > WAITING_BYTES and not transport.is_closing():
        await asyncio.sleep(0.005)
    if not transport.is_closing():
        transport.write(block)


Deliver = Callable[[asyncio.Transport, Answer], Awaitable[Any]]
DELIVERIES: dict[str, Deliver] = {
    "reset": reset,
    "hang up": hang_up,
    "timeout": silent,
    "half close": half_close,
    "truncate": truncate,
    "drip": drip,
    "huge": huge,
    "bomb": bomb,
    "down": reset,
}
