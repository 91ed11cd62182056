"""A source over real HTTP whose answers are scripted, and which remembers all it was asked."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    at: float
    peer: Any

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is answered. ``raw``: pieces written to the socket as they are, a number being a pause in seconds."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: list[bytes | float] | None = None
    delay: float = 0.0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def zipped(body: Any) -> Reply:
    return Reply(gzip.compress(json.dumps(body).encode()), headers={"Content-Encoding": "gzip"})


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


class Source:
    """Use as a context manager; ``answer`` is called for each request, also from several threads at once."""

    def __init__(self, answer: Callable[[Seen], Reply | Any]):
        self.answer = answer
        self.seen: list[Seen] = []
        self._server = QuietServer(("127.0.0.1", 0), handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def handler_of(source: Source) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 65536

        def respond(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = parse_qs(parts.query, keep_blank_values=True)
            seen = Seen(self.command, parts.path, query, self.headers, body, time.monotonic(), self.client_address)
            source.seen.append(seen)
            reply = source.answer(seen)
            reply = reply if isinstance(reply, Reply) else Reply(reply)
            time.sleep(reply.delay)
            try:
                self.write_raw(reply.raw) if reply.raw is not None else self.write(reply)
            except OSError:
                self.close_connection = True

        def write(self, reply: Reply) -> None:
            empty = reply.status in (204, 304)
            content = b"" if empty else reply.content
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            if not empty:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def write_raw(self, pieces: list[bytes | float]) -> None:
            self.close_connection = True
            for piece in pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(piece)
                    self.wfile.flush()
                else:
                    time.sleep(piece)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.respond)
    return Handler
