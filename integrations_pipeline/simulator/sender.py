"""Sends webhooks as providers do: in the background, and again while the receiver is down."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from integrations_pipeline.client.delivery import Delivery

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
GIVE_UP_SECONDS = 600.0
"""Real senders go on for days; a simulation that nobody hears has ended by then."""

HELD_SECONDS = 1.0
"""A delivery that is to be overtaken waits this long for another one."""

ANSWER_SECONDS = 30.0
IDLE_SECONDS = 5.0
"""After so long without work the thread ends; the next delivery starts another one."""

LATER = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery on its way. ``sign`` makes the request as of a moment; ``faults`` are those it was struck by."""

    stream: str
    event: str
    sign: Callable[[datetime], Delivery]
    faults: tuple[str, ...] = ()
    tampered: bool = False
    attempt: int = 1
    since: float = 0.0


class Sender:
    """A queue and a thread that works it off. ``note(parcel, request, status)`` is told of each try; 0 is no answer."""

    def __init__(self, note: Callable[[Parcel, Delivery, int], None]):
        self.note = note
        self.queue: list[tuple[float, int, Parcel]] = []
        self.held: list[tuple[float, Parcel]] = []
        self.number = 0
        self.under_way = 0
        self.closed = False
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.links: dict[tuple[str, str], HTTPConnection] = {}

    def put(self, parcel: Parcel, *, delay_seconds: float = 0.0, overtaken: bool = False) -> None:
        """To be sent so much later; or ``overtaken``: after the next one."""
        with self.changed:
            if self.closed:
                return
            now = time.monotonic()
            parcel = replace(parcel, since=now)
            if overtaken:
                self.held.append((now + HELD_SECONDS, parcel))
            else:
                self.push(now + delay_seconds, parcel)
                for _, other in self.held:
                    self.push(now + delay_seconds, other)
                self.held.clear()
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="webhooks", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def push(self, due: float, parcel: Parcel) -> None:
        self.number += 1
        heapq.heappush(self.queue, (due, self.number, parcel))

    @property
    def waiting(self) -> int:
        """How many are not yet delivered or given up."""
        with self.changed:
            return len(self.queue) + len(self.held) + self.under_way

    def settled(self, seconds: float) -> bool:
        """Waits until nothing is on its way any more; whether that came within so many seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: not (self.queue or self.held or self.under_way), seconds)

    def close(self) -> None:
        """What is still on its way is dropped."""
        with self.changed:
            self.closed = True
            self.queue.clear()
            self.held.clear()
            self.changed.notify_all()

    def work(self) -> None:
        while (parcel := self.next()) is not None:
            again = None
            try:
                again = self.sent(parcel)
            finally:
                with self.changed:
                    self.under_way -= 1
                    if again is not None and not self.closed:
                        self.push(*again)
                    self.changed.notify_all()

    def next(self) -> Parcel | None:
        """Waits for the next one that is due; None where the thread may end."""
        ends = time.monotonic() + IDLE_SECONDS
        with self.changed:
            while not self.closed:
                now = time.monotonic()
                for one in [one for one in self.held if one[0] <= now]:
                    self.held.remove(one)
                    self.push(now, one[1])
                if self.queue and self.queue[0][0] <= now:
                    self.under_way += 1
                    return heapq.heappop(self.queue)[2]
                if not self.queue and not self.held and now >= ends:
                    break
                times = [due for due, *_ in self.queue[:1]] + [due for due, _ in self.held] or [ends]
                self.changed.wait(max(min(times) - now, 0.001))
            for link in self.links.values():
                link.close()
            self.links.clear()
            self.thread = None
            return None

    def sent(self, parcel: Parcel) -> tuple[float, Parcel] | None:
        """Sends it once. Where it is to be tried again: when, and what."""
        request = parcel.sign(datetime.now(UTC))
        if parcel.tampered:
            request = replace(request, body=tampered(request.body))
        status = self.status_of(request)
        self.note(parcel, request, status)
        now = time.monotonic()
        lasting = now - parcel.since < GIVE_UP_SECONDS
        if not lasting or not (status == 0 or status >= 500 or status in LATER):
            return None
        wait = min(FIRST_WAIT_SECONDS * 2 ** (parcel.attempt - 1), LONGEST_WAIT_SECONDS)
        return now + wait, replace(parcel, attempt=parcel.attempt + 1)

    def status_of(self, request: Delivery) -> int:
        """The receiver's answer; 0 where there was none."""
        split = urlsplit(request.url)
        key = (split.scheme, split.netloc)
        link = self.links.get(key)
        if link is None:
            kind = HTTPSConnection if split.scheme == "https" else HTTPConnection
            link = self.links[key] = kind(split.netloc, timeout=ANSWER_SECONDS)
        try:
            target = (split.path or "/") + (f"?{split.query}" if split.query else "")
            link.request(request.method, target, request.body, dict(request.headers))
            answer = link.getresponse()
            answer.read()
            return answer.status
        except (OSError, HTTPException):
            link.close()
            return 0


def tampered(body: bytes) -> bytes:
    """The same with one digit or letter changed, so that it still reads well."""
    for at in range(len(body) // 2, len(body)):
        if body[at : at + 1].isalnum():
            return body[:at] + (b"7" if body[at : at + 1] != b"7" else b"8") + body[at + 1 :]
    return body + b"7"
