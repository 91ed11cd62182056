"""What the store's tests are made of: two connections that feed one kind, rows, chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.store.landing import Chunk, Landed
from integrations_pipeline.store.lease import Lease, take_lease

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
CUSTOMER = Kind.model_validate(
    {
        "kind": "customer",
        "fields": {
            "email": {"type": "string"},
            "name": {"type": "string"},
            "worth": {"type": "decimal"},
            "visits": {"type": "integer"},
            "joined": {"type": "timestamp"},
            "extra": {"type": "json"},
            "manager": {"type": "string"},
        },
    }
)


def crm(name: str = "crm") -> Connection:
    stream = {
        "request": "GET /contacts",
        "records": "results",
        "primary_key": "id",
        "map": {"to": "customer", "match": ["email", ["name", "joined"]], "fields": {"email": "email"}},
    }
    notes = {"request": "GET /contacts/<contacts.id>/notes", "records": "results", "primary_key": "id"}
    api = {"url": "https://api.example.com", "pagination": {"type": "single_page"}}
    streams = {"contacts": stream, "notes": notes}
    return Connection.model_validate({"connection": name, "api": api, "streams": streams})


def shop() -> Connection:
    return crm("shop")


def row(key: str, version: int = 1, *, deleted: bool = False, **payload: Any) -> Landed:
    """A checked row; its hash is that of its payload."""
    body = encode({"id": key, **payload})
    return (key, body, hashlib.blake2b(body, digest_size=16).digest(), f"{version:020d}", deleted)


def chunk(*good: Landed, **more: Any) -> Chunk:
    """A chunk that adds up."""
    others = sum(len(more.get(name, ())) for name in ("rejected", "skipped", "superseded"))
    return Chunk(good=list(good), fetched=len(good) + others, read_at=NOW, **more)


def rejection(key: str | None, payload: str = '{"id": "x"}', message: str = "no") -> tuple[Any, ...]:
    digest = hashlib.blake2b(payload.encode(), digest_size=16).digest()
    return (key, payload, digest, [{"rule": "type", "field": "amount", "message": message, "sample": "x"}])


@contextmanager
def run(connect: Any, connection: str = "crm", stream: str = "contacts", mode: Any = "incremental") -> Iterator[Lease]:
    """A lease with a run in the log."""
    with take_lease(connect, connection, stream, uuid4()) as lease:
        lease.start_run(mode, NOW)
        yield lease


def land(connect: Any, *chunks: Chunk, **where: Any) -> list[dict[str, int]]:
    """One run that commits these chunks. Returns what is not zero of each one's counters."""
    with run(connect, **where) as lease:
        done = [lease.commit_chunk(one) for one in chunks]
        lease.finish_run("succeeded")
    return [counted(one.as_dict()) for one in done]


def counted(counters: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in counters.items() if value and name != "fetched"}


def stored(look: Any, keys: Sequence[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Raw rows as key → (payload without id, version as a number, deleted)."""
    rows = look("SELECT external_id, payload - 'id', version::int, deleted_at IS NOT NULL FROM raw.crm__contacts")
    return {key: (payload, version, deleted) for key, payload, version, deleted in rows if not keys or key in keys}
