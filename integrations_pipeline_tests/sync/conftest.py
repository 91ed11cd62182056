"""A stream's sync, run here, against a scripted source and a real database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import pull, reading
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.conftest import Answer, LocalLimiter
from integrations_pipeline_tests.client.source import Reply, Seen, Source

THINGS = {"request": "GET /things", "records": "items", "primary_key": "id"}


class Bench:
    """``streams``, ``kinds`` and the source's ``answer`` may change from one sync to the next, as they do in life."""

    def __init__(self, database_url: str, source: Source):
        self.database_url, self.source = database_url, source
        self.streams: dict[str, Any] = {"things": THINGS}
        self.kinds: dict[str, Kind] = {}
        self.concurrency = 1
        self.auth: dict[str, Any] = {"type": "none"}

    def sync(self, answer: Answer | None = None, *, full: bool = False) -> dict[str, StreamResult]:
        """The results by stream, each in balance."""
        self.source.answer = answer or self.source.answer
        pages = {"type": "cursor", "read": "next", "send": "after"}
        api = {"url": self.source.url, "pagination": pages, "retry": {"attempts": 1}, "concurrency": self.concurrency}
        api["auth"] = self.auth
        connection = Connection.model_validate({"connection": "acme", "api": api, "streams": self.streams})
        with Store(self.database_url) as store:
            tokens = store.tokens(connection)
            client = Client(connection, limiter=LocalLimiter(), tokens=tokens, log=store.calls, secrets={})
            try:
                result = sync(connection, client, store, self.kinds, full=full, now=True)
            finally:
                client.close()
        assert all(one.counters.balanced for one in result.streams)
        return {one.stream: one for one in result.streams}

    def things(self, answer: Answer | None = None, *, full: bool = False, **more: Any) -> StreamResult:
        """One sync of the one stream `things`, which is declared so."""
        self.streams = {"things": {**THINGS, **more}}
        return self.sync(answer, full=full)["things"]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as session:
            return session.execute(query).fetchall()

    def live(self, stream: str = "things") -> set[str]:
        """The external ids of the raw records that aren't deleted."""
        return {row[0] for row in self.rows(f"SELECT external_id FROM raw.acme__{stream} WHERE deleted_at IS NULL")}


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    with Source(lambda seen: Reply(status=500)) as source:
        yield Bench(database_url, source)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is committed after each page."""
    monkeypatch.setattr(pull, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(reading, "CHUNK_RECORDS", 3)


def made(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"k{number:05}", **more} for number in range(count)]


def keys(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}


def paged(rows: list[dict[str, Any]], size: int = 5, *, fails_at: int | None = None, status: int = 422) -> Answer:
    """The rows in pages with tokens; from the token ``fails_at`` on the source refuses."""

    def answer(seen: Seen) -> Any:
        at = int(seen.one("after", "0"))
        if fails_at is not None and at >= fails_at:
            return Reply(status=status)
        return {"items": rows[at : at + size], **({"next": str(at + size)} if at + size < len(rows) else {})}

    return answer
