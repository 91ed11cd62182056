"""`/data/<kind>`: canonical records, read and edited in our own tables; `/changes/<id>`: where an edit stands outside.

Reading never fails because a source or the database is away: the answer says as of when it is, and why not newer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.asked import Told, answer, document_in, id_in, key_in, page_of, told, versions_in
from integrations_pipeline.gateway.bodies import Bodies, Refused
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.freshness import freshness, unavailable
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.gateway.values import Refusals, checked
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import encode_sorted
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.limits import DATA_SECONDS
from integrations_pipeline.store import records
from integrations_pipeline.store.agreed import writeback_of
from integrations_pipeline.store.breaker import read_breakers
from integrations_pipeline.store.edits import Edit, Operation, edit_of_key, follow, note_edit, one_edit
from integrations_pipeline.store.freshness import read_freshness
from integrations_pipeline.store.records import Record
from integrations_pipeline.store.store import Store

THREADS = 8
"""Requests for data at once; the next ones wait."""

ATTENTION = ("parked", "dead", "discarded", "conflict")
SETTLED = ("done", "nothing_to_send")
Work = Callable[[Request, bytes], Response]

log = structlog.get_logger()


class Data:
    """The doors to the records of a home's kinds. ``lane`` sends what was edited right after its commit."""

    def __init__(
        self,
        doors: Doors,
        store: Store,
        access: Access | None = None,
        lane: PushLane | None = None,
    ):
        self.doors, self.store, self.lane = doors, store, lane
        self.access = access or Access(doors.public_url)
        self._prepared: dict[str, Kind] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="data")

    def routes(self, bodies: Bodies) -> list[Route]:
        def route(path: str, works: Mapping[str, Work]) -> Route:
            async def serve(http: Request) -> Response:
                return await self._serve(http, bodies, works["GET" if http.method == "HEAD" else http.method])

            return Route(path, serve, methods=[*works])

        return [
            route("/data/{kind}", {"GET": self.list, "POST": self.create}),
            route("/data/{kind}/{id}", {"GET": self.one, "PATCH": self.update, "DELETE": self.delete}),
            route("/changes/{id}", {"GET": self.change}),
        ]

    def close(self) -> None:
        """Waits for what is under way."""
        self._threads.shutdown(cancel_futures=True)
        if self.lane is not None:
            self.lane.stop()

    def _leave(self, kind: Kind) -> None:
        if self.lane is not None:
            self.lane.wake(kind.kind)

    async def _serve(self, http: Request, bodies: Bodies, work: Work) -> Response:
        if refusal := self.access.refusal(http):
            return told(refusal)
        try:
            async with bodies.read(http) as body:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, work, http, body)
        except Refused as refused:
            why = refused.answer
            return told(Told(why.status, "config", why.body.decode(), headers={"connection": "close"}))

    def _guarded(self, work: Work, http: Request, body: bytes) -> Response:
        """In a thread. Whatever goes wrong is one answer, in JSON."""
        try:
            return work(http, body)
        except Told as other:
            return told(other)
        except Refusals as wrong:
            message = "; ".join(f"{one['field'] or 'the record'}: {one['message']}" for one in wrong.problems)
            return told(Told(422, "data", message, next="correct it and send it again", problems=wrong.problems))
        except IntegrationError as error:
            log.error("a request for data was refused", path=http.url.path, error=str(error))
            later = {"retry-after": "5"}
            return told(Told(503, error.error_class, error.what, next="send it again later", headers=later))
        except Exception:
            log.exception("a request for data was refused", path=http.url.path)
            return told(
                Told(503, "failed", "unexpected: the gateway's log has it", next="tell whoever runs the gateway")
            )

    def list(self, http: Request, body: bytes) -> Response:
        """A page of living records, with the place of the next one."""
        kind = self._kind(http)
        limit, after, wanted = page_of(kind, http)

        def read(session: Any) -> dict[str, Any]:
            rows = records.list_records(session, kind, wanted, after=after, limit=limit + 1)
            following = rows[limit - 1]["id"] if len(rows) > limit else None
            return {"data": rows[:limit], "next": following, **self._freshness(session, kind)}

        return answer(200, {"kind": kind.kind, **self._read(kind, read, {"data": [], "next": None})})

    def one(self, http: Request, body: bytes) -> Response:
        """One record, with its version."""
        kind, record_id = self._kind(http), id_in(http)

        def read(session: Any) -> dict[str, Any]:
            found = living(kind, record_id, records.one_record(session, kind, record_id))
            return {"data": found, **self._freshness(session, kind, record_id)}

        document = self._read(kind, read, {"data": None})
        return answer(200, {"kind": kind.kind, **document}, tag(document["data"]) if document["data"] else None)

    def create(self, http: Request, body: bytes) -> Response:
        """A new record. With an idempotency key that made one already: that one, as it is by now."""
        kind, document, key = self._kind(http), document_in(http, body), key_in(http)
        values = checked(kind, document, whole=True)
        digest = hashlib.blake2b(encode_sorted(document), digest_size=16).digest() if key else None
        record_id = records.new_id()
        with self._editing(kind) as session:
            edit = note_edit(session, kind.kind, record_id, "create", key=key, request_hash=digest)
            if edit is not None:
                record = records.create_record(session, kind, record_id, values)
            else:
                return self._made_before(session, kind, str(key), digest)
        self._leave(kind)
        place = {"location": f"/data/{kind.kind}/{record_id}"}
        return answer(201, edited_document(record, edit), {**tag(record), **place})

    def _made_before(self, session: Any, kind: Kind, key: str, digest: bytes | None) -> Response:
        known = edit_of_key(session, kind.kind, key)
        if known is None or known.request_hash != digest:
            raise Told(422, "data", "this Idempotency-Key was used for another record", next="send another key")
        record = records.one_record(session, kind, known.record_id)
        if record is None:
            raise gone(404, kind, known.record_id)
        place = {"location": f"/data/{kind.kind}/{known.record_id}", "idempotency-replayed": "true"}
        return answer(201, edited_document(record, known.id), {**tag(record), **place})

    def update(self, http: Request, body: bytes) -> Response:
        """Sets the fields that are named."""
        kind, record_id, versions = self._kind(http), id_in(http), versions_in(http)
        values = checked(kind, document_in(http, body), whole=False)
        return self._edit(
            kind, record_id, "update", lambda at: records.update_record(at, kind, record_id, values, versions)
        )

    def delete(self, http: Request, body: bytes) -> Response:
        """The record stays, with `deleted_at`."""
        kind, record_id, versions = self._kind(http), id_in(http), versions_in(http)
        return self._edit(kind, record_id, "delete", lambda at: records.delete_record(at, kind, record_id, versions))

    def _edit(
        self, kind: Kind, record_id: UUID, operation: Operation, work: Callable[[Any], Record | None]
    ) -> Response:
        with self._editing(kind) as session:
            record = work(session)
            if record is None:
                found = living(kind, record_id, records.one_record(session, kind, record_id))
                message = f"the record is at version {found['version']}"
                raise Told(412, "conflict", message, next="read it again, then decide", headers=tag(found))
            edit = note_edit(session, kind.kind, record_id, operation)
        self._leave(kind)
        return answer(200, edited_document(record, edit), tag(record))

    def change(self, http: Request, body: bytes) -> Response:
        """Where an edit stands in each connection that its kind is written to."""
        edit_id = id_in(http)
        with self._bounded() as session:
            edit = one_edit(session, edit_id)
            if edit is None:
                raise Told(
                    404, "not_found", f"no change {edit_id} is known", next="take the `change` of an edit's answer"
                )
            rows = [standing(row) for row in followed(self.doors, session, edit)]
        words = {row["status"] for row in rows}
        status = "attention" if words & {*ATTENTION} else "done" if words <= {*SETTLED} else "pending"
        told = {name: getattr(edit, name) for name in ("id", "kind", "record_id", "operation", "edited_at")}
        return answer(200, {**told, "status": status, "connections": rows})

    def _kind(self, http: Request) -> Kind:
        name = http.path_params["kind"]
        if name not in self.doors.kinds:
            known = ", ".join(sorted(self.doors.kinds)) or "none"
            raise Told(404, "not_found", f"there is no kind {name}", next=f"kinds: {known}")
        return self.doors.kinds[name]

    def _read(self, kind: Kind, read: Callable[[Any], dict[str, Any]], nothing: dict[str, Any]) -> dict[str, Any]:
        """What was read; where that can't be had, nothing, with the reason."""
        try:
            self._prepare(kind)
            with self._bounded() as session:
                return read(session)
        except IntegrationError as error:
            log.warning("data are unavailable", kind=kind.kind, error=str(error))
            return {**nothing, **unavailable(error.what)}

    def _freshness(self, session: Any, kind: Kind, record_id: UUID | None = None) -> dict[str, Any]:
        connections = self.doors.connections
        fed = read_freshness(session, self.doors.feeding(kind.kind), record_id)
        if record_id is not None:
            fed = [one for one in fed if one.held]
        return freshness(fed, connections, read_breakers(session, {one.connection for one in fed}))

    @contextmanager
    def _editing(self, kind: Kind) -> Iterator[Any]:
        self._prepare(kind)
        with self._bounded() as session:
            yield session

    @contextmanager
    def _bounded(self) -> Iterator[Any]:
        """A transaction that keeps nobody waiting for long."""
        with self.store.borrow() as session, session.transaction():
            records.bound(session, DATA_SECONDS)
            yield session

    def _prepare(self, kind: Kind) -> None:
        """The kind's table, once after each edit of its file."""
        if self._prepared.get(kind.kind) is not kind:
            self.store.prepare_kind(kind)
            self._prepared[kind.kind] = kind


def tag(record: Record) -> dict[str, str]:
    return {"etag": f'"{record["version"]}"'}


def edited_document(record: Record, edit: UUID | None) -> dict[str, Any]:
    return {"data": record, "change": {"id": edit, "url": f"/changes/{edit}"}}


def living(kind: Kind, record_id: UUID, record: Record | None) -> Record:
    """The record. Raises Told where there is none, or where it is deleted."""
    if record is None:
        raise gone(404, kind, record_id)
    if record["deleted_at"] is not None:
        raise gone(410, kind, record_id, deleted_at=record["deleted_at"])
    return record


def gone(status: int, kind: Kind, record_id: UUID, **more: Any) -> Told:
    message = f"{kind.kind} {record_id} is deleted" if status == 410 else f"there is no {kind.kind} {record_id}"
    return Told(status, "not_found", message, next=f"see /data/{kind.kind} for those there are", **more)


def followed(doors: Doors, session: Any, edit: Edit) -> list[dict[str, Any]]:
    """Where the edit stands in each place that its kind is written to."""
    kind, connections = doors.kinds.get(edit.kind), doors.connections
    if kind is None:
        return []
    places = {
        (name, stream): writeback
        for name, stream in doors.written(edit.kind)
        if (writeback := writeback_of(connections[name].streams[stream])) is not None
    }
    return follow(session, edit, kind, places)


def standing(row: dict[str, Any]) -> dict[str, Any]:
    """One connection's line. Without a change in the outbox: it waits for one, it is in conflict, or needs none."""
    looked_at, conflicts = row.pop("looked_at"), row["conflicts"]
    if row["status"] is None:
        row["status"] = "conflict" if conflicts else "nothing_to_send" if looked_at else "waiting"
    return row
