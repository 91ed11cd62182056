"""A sender of webhooks: signed events over kept connections, each sent again until it is accepted.

`python load.py URL --count 5000 --connections 32` prints one JSON document: what was accepted, in what time, and every
status met. Without --count it sends until its stdin ends. The signing secret is the variable LOAD_SECRET's.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0
AGAIN_SECONDS = 0.05


def signed(number: int, run: str, secret: bytes, path: str, host: str) -> bytes:
    """One request, signed as Stripe does: the time and the raw body."""
    now = int(time.time())
    record = {"id": f"ord_{number}", "amount": number, "note": "x" * 400}
    event = {"id": f"evt_{run}_{number}", "type": "order.updated", "created": 1_700_000_000 + number}
    body = json.dumps({**event, "data": {"object": record}}).encode()
    proof = hmac.new(secret, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nStripe-Signature: t={now},v1={proof}\r\n\r\n"
    )
    return head.encode() + body


class Load:
    """What is sent and what came of it."""

    def __init__(self, url: str, count: int, run: str):
        parts = urlsplit(url)
        self.host, self.port, self.path = str(parts.hostname), parts.port or 80, parts.path
        self.count, self.run = count, run
        self.secret = os.environ["LOAD_SECRET"].encode()
        self.next = 0
        self.ended = False
        self.accepted: list[int] = []
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def work(self) -> None:
        """One connection: the next event, until it is accepted, then another."""
        link: Any = None
        while not self.ended and (not self.count or self.next < self.count):
            number, self.next = self.next, self.next + 1
            while not self.ended:
                began = time.perf_counter()
                try:
                    link = link or await asyncio.open_connection(self.host, self.port)
                    async with asyncio.timeout(ANSWER_SECONDS):
                        status, ends = await self.send(link, number)
                except (OSError, EOFError, TimeoutError, ValueError) as error:
                    status, ends = type(error).__name__, True
                link = closed(link) if ends else link
                self.statuses[status] += 1
                if status.startswith("2"):
                    self.accepted.append(number)
                    self.seconds.append(time.perf_counter() - began)
                    break
                await asyncio.sleep(AGAIN_SECONDS)
        closed(link)

    async def send(self, link: Any, number: int) -> tuple[str, bool]:
        """The status, and whether the connection ends with it."""
        reader, writer = link
        writer.write(signed(number, self.run, self.secret, self.path, f"{self.host}:{self.port}"))
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        return head.split(b" ", 2)[1].decode(), b"connection: close" in head.lower()

    async def end_with_stdin(self) -> None:
        await asyncio.to_thread(sys.stdin.read)
        self.ended = True

    async def run_all(self, connections: int) -> dict[str, Any]:
        began = time.perf_counter()
        watcher = None if self.count else asyncio.create_task(self.end_with_stdin())
        await asyncio.gather(*(self.work() for _ in range(connections)))
        took = time.perf_counter() - began
        if watcher is not None:
            await watcher
        ordered = sorted(self.seconds) or [0.0]
        return {
            "accepted": [f"evt_{self.run}_{number}" for number in sorted(self.accepted)],
            "seconds": took,
            "rate": len(self.accepted) / took,
            "p50_ms": 1000 * ordered[len(ordered) // 2],
            "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
            "statuses": dict(self.statuses),
        }


def closed(link: Any) -> None:
    if link is not None:
        link[1].close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--run", default="a")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(Load(given.url, given.count, given.run).run_all(given.connections))))


if __name__ == "__main__":
    main()
