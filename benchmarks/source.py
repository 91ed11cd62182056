"""A source that costs next to nothing: prebuilt pages over HTTP, in a process of its own, the same for both sides.

`python source.py RECORDS PAGE_RECORDS LATENCY_SECONDS` prints its port, then serves until its standard input closes.
`GET /contacts?page=N` (from 1) answers `{"data": […], "next": N + 1 or null, "pages": …}`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
COUNTRIES = ("DE", "FR", "NL", "US", "JP", "BR", "ZA")
STAGES = ("lead", "customer", "gone")


def record(number: int) -> dict[str, object]:
    """About 450 bytes of JSON: texts, a nested object, an exact amount, a time, a list."""
    changed = EPOCH + timedelta(seconds=number)
    return {
        "id": f"c{number:09d}",
        "email": f" Person.{number}@Example.com ",
        "first": f"First{number % 977}",
        "last": f"Last{number % 7919}",
        "phone": f"+49 30 {number:09d}",
        "country": COUNTRIES[number % len(COUNTRIES)],
        "stage": STAGES[number % len(STAGES)],
        "active": number % 5 != 0,
        "score": number % 100,
        "balance": f"{number % 100000}.{number % 100:02d}",
        "updated_at": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "address": {"street": f"{number % 300} High Street", "city": "Springfield", "zip": f"{number % 99999:05d}"},
        "tags": ["newsletter", f"segment-{number % 12}"],
        "note": "Met at the fair, wants a quote for the larger size before the end of the quarter.",
    }


def answers(records: int, page_records: int) -> list[bytes]:
    """Whole HTTP answers, head and body, so that serving one is a single send."""
    pages = -(-records // page_records)
    built = []
    for page in range(pages):
        rows = [record(n) for n in range(page * page_records, min((page + 1) * page_records, records))]
        document = {"data": rows, "next": page + 2 if page + 1 < pages else None, "pages": pages}
        body = json.dumps(document, separators=(",", ":")).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        built.append(head.encode() + body)
    return built


def serve(connection: socket.socket, built: list[bytes], latency_seconds: float) -> None:
    """Answers one client's requests, one after the other, until it leaves."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    while part := connection.recv(65536):
        received += part
        while b"\r\n\r\n" in received:
            head, _, received = received.partition(b"\r\n\r\n")
            query = parse_qs(urlsplit(head.split()[1].decode()).query)
            if latency_seconds:
                time.sleep(latency_seconds)
            connection.sendall(built[int(query.get("page", ["1"])[0]) - 1])


def leave_with_starter() -> None:
    """Whoever started us holds our standard input open."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    records, page_records, latency_seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    built = answers(records, page_records)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=leave_with_starter, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, built, latency_seconds), daemon=True).start()


if __name__ == "__main__":
    main()
