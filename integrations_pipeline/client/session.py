"""One HTTP exchange with a hard end: a deadline for the whole answer, caps on its bytes, no hidden behaviour.

Requests' adapter is used without its session: that one reads `.netrc` and proxy settings, keeps cookies, and prepares
redirects (reading their bodies without a bound) even when told not to follow them.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import time
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from integrations_pipeline.client.request import Request
from integrations_pipeline.spec.errors import ContractError, IntegrationError, SourceConfigError, Transient

CONNECT_SECONDS = 10.0  # an address that doesn't answer at once will not later; the rest is left for the answer
STOP_SECONDS = 0.25  # how soon a read notices that nobody waits for it any more
BLOCK_BYTES = 1024 * 1024
BUFFER_BYTES = 256 * 1024

for talkative in ("urllib3.connection", "urllib3.connectionpool", "urllib3.response"):
    logging.getLogger(talkative).addFilter(lambda _: False)  # their messages hold URLs, and with them perhaps a key

stopping: ContextVar[Event] = ContextVar("stopping")


class DeadlineReader(io.RawIOBase):
    """A socket's bytes until a moment, whether they come in one piece or drip."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, stop: Event):
        self._raw = raw  # keeps the socket open until the body is read
        self._socket = connection
        self._stop = stop
        self._ends = time.monotonic() + (connection.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            left = self._ends - time.monotonic()
            if left <= 0 or self._stop.is_set():
                raise TimeoutError("the answer took too long")
            self._socket.settimeout(min(left, STOP_SECONDS))
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                continue

    def close(self) -> None:
        self._raw.close()
        super().close()


class DeadlineResponse(http.client.HTTPResponse):
    """Reads status, headers and body through a DeadlineReader. The socket's timeout says what time is left."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any):
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(DeadlineReader(raw, sock, stopping.get()), BUFFER_BYTES)


class PlainConnection(HTTPConnection):
    response_class = DeadlineResponse


class TlsConnection(HTTPSConnection):
    response_class = DeadlineResponse


class PlainPool(HTTPConnectionPool):
    ConnectionCls = PlainConnection


class TlsPool(HTTPSConnectionPool):
    ConnectionCls = TlsConnection


class Adapter(HTTPAdapter):
    """Requests' adapter over connections that know deadlines."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}


@dataclass(frozen=True, slots=True)
class Received:
    """An answer as bytes. ``framed`` tells whether its end was marked, so that a cut would have been noticed."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    framed: bool
    cookies: tuple[str, ...] = ()  # each Set-Cookie as it came


class Unanswered(Exception):
    """No whole answer came: refused, reset, late, cut off. ``sent``: whether any byte may have reached the source."""

    def __init__(self, error: Transient, *, sent: bool = True):
        super().__init__(error.what)
        self.error = error
        self.sent = sent


class HttpSession:
    """Keeps connections alive between exchanges; safe to use from several threads."""

    def __init__(self, *, max_bytes: int, connections: int):
        self._max_bytes = max_bytes
        self._adapter = Adapter(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def exchange(self, request: Request, *, seconds: float, stop: Event) -> Received:
        """Sends once and reads the whole answer within the time, which is cut short by ``stop``.

        Raises Unanswered where a repetition may help, ContractError for an answer too large or packed in a way that
        wasn't asked for.
        """
        stopping.set(stop)
        try:
            response = self._adapter.send(
                prepared(request),
                stream=True,
                timeout=Timeout(connect=min(CONNECT_SECONDS, seconds), total=seconds),  # type: ignore[arg-type]
            )
        except requests.RequestException as error:
            raise failure_of(error, urlsplit(request.url).netloc.rpartition("@")[2]) from None
        except (UnicodeError, ValueError):
            raise SourceConfigError("the request can't be written as HTTP") from None
        except HTTPError:
            raise Unanswered(Transient("the connection to the source broke")) from None
        connection = response.raw.connection  # given back to its pool as soon as the framed bytes are read
        try:
            body = self._read(response)
        except (HTTPError, http.client.HTTPException, OSError, zlib.error, EOFError) as error:
            late = isinstance(error, TimeoutError) or "timed out" in str(error).lower()
            what = f"the answer was not complete after {seconds:g} s" if late else "the answer was cut off"
            if connection is not None:  # who sends a broken body is likely to hang up: the next try connects anew
                connection.close()
            raise Unanswered(Transient(what)) from None
        finally:
            response.close()
        framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        cookies = tuple(response.raw.headers.getlist("Set-Cookie"))
        return Received(response.status_code, response.headers, body, framed, cookies)

    def _read(self, response: requests.Response) -> bytes:
        """The unpacked body. The connection goes back to its pool only where it was read to its end."""
        packing = response.headers.get("Content-Encoding", "").strip().lower()
        if packing not in ("", "identity", "gzip", "x-gzip"):
            raise ContractError(f"the answer is packed as {packing[:20]!r}, which was not asked for")
        blocks = Blocks(self._max_bytes, gzip=packing.endswith("gzip"))
        while block := response.raw.read(BLOCK_BYTES, decode_content=False):
            blocks.add(block)
        return blocks.whole()

    def close(self) -> None:
        self._adapter.close()


class Blocks:
    """Gathers a body block by block, unpacked, and stops it at its cap before it fills the memory."""

    def __init__(self, max_bytes: int, *, gzip: bool):
        self._max_bytes = max_bytes
        self._received = 0
        self._parts: list[bytes] = []
        self._unpacked = 0
        self._unpacker = zlib.decompressobj(31) if gzip else None

    def add(self, block: bytes) -> None:
        self._received += len(block)
        if self._unpacker is None:
            self._keep(block)
            return
        while True:
            part = self._unpacker.decompress(block, BLOCK_BYTES)
            self._keep(part)
            block = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            if not block and len(part) < BLOCK_BYTES:
                return
            if self._unpacker.eof:  # a gzip file may be several in a row
                self._unpacker = zlib.decompressobj(31)

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)
        self._unpacked += len(part)
        if max(self._unpacked, self._received) > self._max_bytes:
            raise ContractError(
                f"the answer is larger than {self._max_bytes / 1_000_000:g} MB",
                next="ask for smaller pages (`size`), or raise api.max_response",
            )

    def whole(self) -> bytes:
        """Raises EOFError for a packed body that ends before its own end mark."""
        if self._unpacker and self._received and not self._unpacker.eof:
            raise EOFError
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def prepared(request: Request) -> requests.PreparedRequest:
    ready = requests.PreparedRequest()
    ready.prepare(method=request.method, url=request.url, headers=dict(request.headers), data=request.content)
    return ready


def failure_of(error: requests.RequestException, host: str) -> Unanswered | IntegrationError:
    """Requests' exceptions hold the URL, and with it perhaps a key: only their kind and the host are passed on."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in text:
        return SourceConfigError(
            "the source's TLS certificate was not accepted",
            who="an administrator of the outside system",
            next="check the URL and the source's certificate",
        )
    if isinstance(error, requests.exceptions.InvalidHeader | requests.exceptions.InvalidURL | ValueError):
        return SourceConfigError("the request can't be written as HTTP")
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return Unanswered(Transient(f"the source's host name {host} can't be resolved"), sent=False)
    if isinstance(error, requests.ConnectTimeout) or "NewConnectionError" in text or "Connection refused" in text:
        return Unanswered(Transient(f"the source at {host} can't be reached"), sent=False)
    if isinstance(error, requests.Timeout):
        return Unanswered(Transient("the source didn't answer in time"))
    return Unanswered(Transient("the connection to the source broke"))
