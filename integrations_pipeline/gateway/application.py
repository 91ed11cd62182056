"""The ASGI application: ``POST /webhooks/<connection>``, ``/data/<kind>`` (``data.py``), the
pages for people (``pages/``), ``GET /metrics`` and ``GET /healthz``.

A delivery is read up to a limit, verified over its raw bytes, split into events, and answered when they are committed.
Whatever proves nothing gets the same 401, so that nobody learns from it which part was wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.bodies import LATER, Bodies, Refused
from integrations_pipeline.gateway.data import Data
from integrations_pipeline.gateway.door import JSON, Answer, Door
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.lane import FastLane
from integrations_pipeline.gateway.metrics import Metrics
from integrations_pipeline.gateway.pages.pages import Pages
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.gateway.reloading import Reloading
from integrations_pipeline.gateway.writer import Writer
from integrations_pipeline.spec.errors import ContractError, DataError, DestinationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import WEBHOOK_SECONDS
from integrations_pipeline.store.disconnecting import stopped_connections
from integrations_pipeline.store.store import Store, open_store

LOOK_SECONDS = 1.0
"""How often files are looked at: a saved connection is live within about this."""

TELL_SECONDS = 60.0
"""How often refusals are summed up in the log: a line for each would let anybody fill the disk."""

METHODS = ["GET", "HEAD", "POST", "PUT"]
REFUSED = Answer(401, b"the delivery could not be verified")
UNKNOWN = Answer(404, b"no such webhook")
WRONG_METHOD = Answer(405, b"this webhook is not called so")
WITH_NUL = Answer(400, b"no address holds a NUL character")
NOSNIFF = {"x-content-type-options": "nosniff"}  # an echoed text is never a page
CLOSE = {"connection": "close"}  # nobody reads the rest of the body

log = structlog.get_logger()


class WithoutNul:
    """Refuses every address that holds a NUL: the database can't take one, so nothing here is named so."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"])
        await (response(WITH_NUL, CLOSE) if held else self.app)(scope, receive, send)


class Gateway:
    """The application of a home. ``connect`` gives a session of its database, in autocommit; ``lane`` applies events at
    once, where a connection wants it; ``data`` serves records, ``pages`` people, ``metrics`` Prometheus."""

    def __init__(
        self,
        doors: Doors,
        connect: Callable[[], Any],
        lane: FastLane | None = None,
        data: Data | None = None,
        pages: Pages | None = None,
        metrics: Metrics | None = None,
    ):
        self.doors = doors
        self.connect, self.lane, self.data, self.pages = connect, lane, data, pages
        self.stopped: frozenset[str] = frozenset()
        self.refused: Counter[tuple[str, str]] = Counter()
        self.bodies = Bodies()
        self.writer = Writer(connect)
        self.app = Starlette(
            routes=[
                Route("/webhooks/{connection}", self.receive, methods=METHODS),
                Route("/healthz", self.health),
                *(data.routes(self.bodies) if data else ()),
                *(pages.routes(self.bodies) if pages else ()),
                *([metrics.route()] if metrics else ()),
            ],
            middleware=[Middleware(WithoutNul)],
            lifespan=self.life,
        )
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        self.writer.start()
        await asyncio.to_thread(self.look)
        if self.lane is not None:
            self.lane.start()
        tasks = [asyncio.create_task(one) for one in (self.watch(), self.tell())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self.writer.stop()
            if self.lane is not None:
                await asyncio.to_thread(self.lane.stop)
            if self.data is not None:
                await asyncio.to_thread(self.data.close)
            if self.pages is not None:
                await asyncio.to_thread(self.pages.close)

    def look(self) -> None:
        """Files that changed, and connections that were disconnected; while the database is away, as it was."""
        self.doors.refresh()
        try:
            with closing(self.connect()) as session:
                self.stopped = stopped_connections(session)
        except DestinationError as error:
            log.warning("the database can't be asked who is disconnected", error=error.what)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.look)
            except OSError as error:
                log.warning("the files can't be looked at; the doors stay as they were", error=str(error))

    async def tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            counted, self.refused = self.refused, Counter()
            for (connection, reason), count in sorted(counted.items()):
                log.warning("deliveries refused", connection=connection, reason=reason, count=count)

    async def health(self, http: Request) -> Response:
        """200 while events can be stored, else 503."""
        try:
            await self.writer.store([])
        except DestinationError:
            return response(Answer(503, b'{"status":"the database can\'t be reached"}', JSON))
        return response(Answer(200, b'{"status":"ok"}', JSON))

    async def receive(self, http: Request) -> Response:
        """One delivery, from its first byte to the answer."""
        name = http.path_params["connection"]
        door = self.doors.find(name)
        if door is None or name in self.stopped:
            return response(UNKNOWN, CLOSE)
        if not isinstance(door, Door):
            return response(LATER, CLOSE)
        if http.method not in door.webhook.methods:
            return response(WRONG_METHOD, {"allow": ", ".join(door.webhook.methods), **CLOSE})
        try:
            async with self.bodies.read(http) as body:
                return response(await self.answer(door, delivery(http, body, door, self.doors.public_url)))
        except Refused as refused:
            return response(refused.answer, CLOSE)

    async def answer(self, door: Door, sent: Delivery) -> Answer:
        """What the sender is told; when that is the reply, its events are committed."""
        try:
            if greeting := door.greeting(sent):
                return greeting
            why = door.refusal(sent, datetime.now(UTC))
            if why is None and door.own is not None:
                async with asyncio.timeout(WEBHOOK_SECONDS):
                    why = await asyncio.to_thread(door.own_refusal, sent)
            if why is None and await self.writer.store(door.events(sent)):
                if self.lane is not None and door.webhook.apply == "immediately":
                    self.lane.wake(door.name)
                return door.reply
        except (ContractError, DataError):
            why = None
        except DestinationError as error:
            log.error("a delivery could not be stored", connection=door.name, error=str(error))
            return LATER
        except TimeoutError:
            log.error("the hook verify took too long", connection=door.name)
            return LATER
        self.refused[door.name, why or "malformed"] += 1
        return REFUSED


def delivery(http: Request, body: bytes, door: Door, public_url: str | None) -> Delivery:
    """The request as its sender knows it: by the public address, whatever proxies made of it."""
    raw: bytes = http.scope.get("raw_path") or http.scope["path"].encode()
    query: bytes = http.scope["query_string"]
    path = raw.decode("utf-8", "surrogateescape")
    asked = "?" + query.decode("utf-8", "surrogateescape") if query else ""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in http.scope["headers"]]
    return Delivery(http.method, f"{public_url or ''}{path}{asked}", headers, body, door.webhook.payload)


def response(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    return Response(answer.body, answer.status, {**NOSNIFF, **(headers or {})}, answer.media_type)


def whole(home: Home, store: Store) -> Gateway:
    """The gateway of a home with all it serves. Raises ConfigError where its token could be guessed."""
    doors = Doors(home, subscriptions=store.subscriptions, saved=Reloading().want)
    access, lane = Access(doors.public_url), PushLane(doors, store)
    data, pages = Data(doors, store, access, lane), Pages(doors, store, access, lane)
    return Gateway(doors, store.connect, FastLane(doors, store), data, pages, Metrics(doors, store, access))


def create() -> Starlette:
    """For any ASGI server: ``uvicorn --factory integrations_pipeline.gateway.application:create``.

    Raises ConfigError or DestinationError where the database can't be used.
    """
    home = Home.from_environment()
    store = open_store(home=home)
    return whole(home, store).app
