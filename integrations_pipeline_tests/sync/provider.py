"""A small provider over real HTTP that takes writes: versions, `If-Match`, idempotency keys, and lost answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.push import PushResult, push
from integrations_pipeline.sync.result import SyncResult
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.source import Reply, Seen, Source

KINDS = {
    "person": Kind.model_validate(
        {"kind": "person", "fields": {"name": {"type": "string"}, "email": {"type": "string"},
                                      "boss": {"type": "string", "format": "uuid"}}}
    )
}  # fmt: skip
STREAM: dict[str, Any] = {
    "request": "GET /people",
    "records": "items",
    "primary_key": "id",
    "version": "version",
    "get": "GET /people/<external_id>",
    "fields": {"id": {"type": "string", "required": True}, "version": {"type": "integer", "required": True}},
    "map": {"to": "person", "fields": {"name": "name", "email": "email", "boss": {"from": "boss", "lookup": "people"}}},
}
WRITE: dict[str, Any] = {
    "fields": ["name", "email", "boss"],
    "create": "POST /people",
    "update": "PATCH /people/<external_id>",
    "delete": "DELETE /people/<external_id>",
    "conflict": {"default": "local_wins"},
}
KEYED = {"idempotency": {"send": "header Idempotency-Key", "kept": "1d"}}
FINDABLE = {"set": {"ref": "<reference>"}, "find": {"request": "GET /find", "query": {"ref": "<reference>"},
                                                   "records": "items"}}  # fmt: skip
CONDITIONAL = {"update": {"request": "PATCH /people/<external_id>", "headers": {"If-Match": "<record.version>"}}}
BATCHED = {"batch": {"update": "POST /batch", "size": 10, "body": {"inputs": "<items>"}, "set": {"id": "<external_id>"},
                    "results": "results", "by": "id", "status": "status"}}  # fmt: skip
LOST = Reply(raw=[])
"""The connection is closed without an answer."""

Fault = Callable[[Seen], Reply | None]


class Provider:
    """``keeps``: whether it remembers keys. ``instead`` answers in place of it, ``after`` once it has done what was
    asked."""

    def __init__(self, *, keeps: bool = True):
        self.people: dict[str, dict[str, Any]] = {}
        self.keeps = keeps
        self.answers: dict[str, Reply] = {}
        self.instead: Fault = lambda seen: None
        self.after: Fault = lambda seen: None
        self.normalise: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.guard = threading.Lock()
        self.made = 0
        self.version = 0

    def add(self, **fields: Any) -> str:
        self.made += 1
        self.version += 1
        key = f"p{self.made}"
        self.people[key] = {"id": key, "version": self.version, "name": None, "email": None, "boss": None} | fields
        return key

    def edit(self, key: str, **fields: Any) -> None:
        self.version += 1
        self.people[key] |= {**fields, "version": self.version}

    def __call__(self, seen: Seen) -> Reply:
        if (found := self.instead(seen)) is not None:
            return found
        with self.guard:
            reply = self.kept(seen) if seen.method == "POST" else self.done(seen)
        return self.after(seen) or reply

    def kept(self, seen: Seen) -> Reply:
        key = seen.headers.get("Idempotency-Key")
        if not (key and self.keeps):
            return self.done(seen)
        if key not in self.answers:
            self.answers[key] = self.done(seen)
        return self.answers[key]

    def done(self, seen: Seen) -> Reply:
        if seen.path == "/people":
            return self.created(seen.json) if seen.method == "POST" else Reply({"items": [*self.people.values()]})
        if seen.path == "/batch":
            return Reply({"results": [self.item(one) for one in seen.json["inputs"]]}, 207)
        if seen.path == "/find":
            return Reply({"items": [one for one in self.people.values() if one.get("ref") == seen.one("ref")]})
        return self.one(seen, seen.path.rsplit("/", 1)[1])

    def created(self, fields: dict[str, Any]) -> Reply:
        return Reply(self.people[self.add(**self.normalise(fields))], 201)

    def item(self, fields: dict[str, Any]) -> dict[str, Any]:
        """One of a batch; a record without a name is refused."""
        if "name" in fields and not fields["name"]:
            return {"id": fields["id"], "status": 422}
        self.edit(fields["id"], **fields)
        return {"status": 200, **self.people[fields["id"]]}

    def one(self, seen: Seen, key: str) -> Reply:
        if key not in self.people:
            return Reply({"error": "unknown"}, 404)
        held = seen.headers.get("If-Match")
        if held is not None and held != str(self.people[key]["version"]):
            return Reply({"error": "changed meanwhile"}, 412)
        if seen.method == "DELETE":
            del self.people[key]
            return Reply(status=204)
        if seen.method in ("PATCH", "PUT"):
            self.edit(key, **self.normalise(seen.json))
        return Reply(self.people[key])


class Desk:
    """A connection to the provider, its store, and what a person does here."""

    def __init__(self, database_url: str, source: Source, provider: Provider):
        self.database_url, self.source, self.provider = database_url, source, provider
        self.name = "crm"
        self.write: dict[str, Any] = {**WRITE}
        self.stream: dict[str, Any] = {**STREAM}
        self.limits: list[str] = []
        self.retry: dict[str, Any] = {"attempts": 1}

    def connection(self) -> Connection:
        api = {"url": self.source.url, "auth": {"type": "none"}, "pagination": {"type": "single_page"}}
        streams = {"people": {**self.stream, "write": self.write}}
        return Connection.model_validate(
            {
                "connection": self.name,
                "api": {**api, "retry": self.retry, "timeout": "5s", "limits": self.limits},
                "streams": streams,
            }
        )

    @contextmanager
    def opened(self, priority: Priority = Priority.EVENT) -> Any:
        connection = self.connection()
        with Store(self.database_url) as store:
            client = Client(connection, limiter=store.limiter(connection), priority=priority, secrets={},
                            breaker=store.breaker(connection), log=store.calls)  # fmt: skip
            try:
                yield connection, client, store, KINDS
            finally:
                client.close()

    def sync(self) -> SyncResult:
        with self.opened() as parts:
            found = sync(*parts, now=True)
        assert found.status == "succeeded", found.as_dict()
        return found

    def push(self, **more: Any) -> PushResult:
        with self.opened() as parts:
            return push(*parts, **more)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with Store(self.database_url) as store, store.borrow() as session:
            cursor = session.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def insert(self, name: str, **more: Any) -> str:
        """A record is made here, by the team's own SQL."""
        fields = {"name": name, **more}
        columns, marks = ", ".join(fields), ", ".join(["%s"] * len(fields))
        (row,) = self.rows(
            f"INSERT INTO canonical.person (id, {columns}) VALUES (gen_random_uuid(), {marks}) RETURNING id",
            *fields.values(),
        )
        return str(row[0])

    def edit(self, called: str, /, **fields: Any) -> None:
        """A record is edited here."""
        assignments = ", ".join(f"{field} = %s" for field in fields)
        self.rows(f"UPDATE canonical.person SET {assignments} WHERE name = %s", *fields.values(), called)

    def outbox(self, columns: str = "operation, status, outcome") -> list[tuple[Any, ...]]:
        return self.rows(f"SELECT {columns} FROM integrations.outbox ORDER BY id")

    def due(self) -> None:
        """Time has passed."""
        self.rows("UPDATE integrations.outbox SET next_try_at = now() WHERE next_try_at IS NOT NULL")
        self.rows("DELETE FROM integrations.rate_limit")

    def sent(self, *methods: str) -> list[Seen]:
        return [one for one in self.source.seen if one.method in (methods or ("POST", "PATCH", "PUT", "DELETE"))]
