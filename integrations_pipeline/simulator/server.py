"""The HTTP around simulations: each mounted under its connection's name, and a control door beside them.

``/_simulator/`` is not part of any imitated API and answers on loopback only:

- ``GET /_simulator/`` names the connections with their live records per stream.
- ``POST /_simulator/CONNECTION/STREAM/insert`` with ``{"count": 3}`` or ``{"records": [{…}]}``; a child: ``parent``.
- ``POST …/update`` with ``{"count": 3}`` or ``{"keys": […]}``, and ``values``; ``POST …/delete`` likewise.
- ``GET …/contents`` gives the true contents as JSON lines; ``?deleted=true`` adds tombstones.
- ``GET /_simulator/CONNECTION/requests`` gives the request log; ``POST /_simulator/CONNECTION/reset`` begins anew.
- ``POST /_simulator/CONNECTION/expire``: opaque cursors given out so far have expired.
- ``GET …/truth`` gives each record that ever was as JSON lines: ``key``, ``version``, ``deleted``, ``faults``.
- ``GET /_simulator/CONNECTION/faults`` gives the faults that are on with their counts, and how many requests came, were
  answered by 429, and came while their sender had been told to wait; ``POST`` with ``{"faults": […]}`` replaces them.
- ``POST /_simulator/CONNECTION/tokens`` with ``{"lifetime_seconds": 60}`` ``{"lifetime_requests": 5}`` (of tokens and
  sessions issued from then on), ``{"single_use": false}`` (refresh tokens), ``{"expire": true}`` or
  ``{"revoke": true}`` (all issued so far); answers with the calls of token endpoint and login so far.
- ``GET /_simulator/CONNECTION/webhooks`` gives who is told of changes and how many deliveries are on their way;
  ``POST`` with ``{"url": "http://…"}`` tells that address of all changes too, ``null`` ends it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from integrations_pipeline.simulator.simulation import Row, Simulation
from integrations_pipeline.simulator.views import Request
from integrations_pipeline.simulator.wire import BadResponse, OpenProtocol
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ConfigError, ContractError, DataError

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
LOOPBACK = ("127.0.0.1", "::1")
OUTSIDE = "the control door opens on loopback only"
START_SECONDS = 10.0
LINES_AT_ONCE = 500


class Application:
    """The ASGI application of some simulations."""

    def __init__(self, simulations: Iterable[Simulation]):
        self.simulations = {simulation.name: simulation for simulation in simulations}
        self.server: uvicorn.Server | None = None
        self.restart: asyncio.Task[None] | None = None
        self.app = Starlette(
            routes=[
                Route("/_simulator/", self.overview),
                Route("/_simulator/{connection}/requests", self.requests),
                Route("/_simulator/{connection}/reset", self.reset, methods=["POST"]),
                Route("/_simulator/{connection}/expire", self.expire, methods=["POST"]),
                Route("/_simulator/{connection}/faults", self.faults, methods=["GET", "POST"]),
                Route("/_simulator/{connection}/tokens", self.tokens, methods=["POST"]),
                Route("/_simulator/{connection}/webhooks", self.webhooks, methods=["GET", "POST"]),
                Route("/_simulator/{connection}/{stream}/contents", self.contents),
                Route("/_simulator/{connection}/{stream}/truth", self.truth),
                Route("/_simulator/{connection}/{stream}/{verb}", self.change, methods=["POST"]),
                Route("/{connection}/{rest:path}", self.imitate, methods=METHODS),
            ]
        )

    async def imitate(self, http: HttpRequest) -> Response:
        """A request to one of the imitated APIs."""
        simulation = self.simulations.get(http.path_params["connection"])
        if simulation is None:
            return json_response({"error": {"code": "not_found", "message": "no such connection"}}, 404)
        if simulation.latency_ms:
            await asyncio.sleep(simulation.latency_ms / 1000)
        answer = simulation.answer(await request_of(http, simulation.name))
        if answer.delay_seconds:
            await asyncio.sleep(answer.delay_seconds)
        if answer.delivery is None:
            return Response(answer.body, answer.status, answer.headers, media_type="application/json")
        if answer.delivery.name == "down":
            self.go_down(answer.delivery.arguments["duration"])
        return BadResponse(answer)

    def go_down(self, seconds: float) -> None:
        """Refuses connections for so long, and resets those that stand."""
        server = self.server
        if server is None or self.restart is not None:
            return
        port = server.servers[0].sockets[0].getsockname()[:2]
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        self.restart = asyncio.create_task(self.come_back(server, port, seconds))

    async def come_back(self, server: uvicorn.Server, address: tuple[str, int], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await server.startup([socket.create_server(address)])
        self.restart = None

    def meant(self, http: HttpRequest) -> Simulation:
        """The simulation a control request is about. Raises DataError for an unknown one, or a caller from outside."""
        if not is_near(http):
            raise DataError(OUTSIDE)
        simulation = self.simulations.get(http.path_params.get("connection", ""))
        if simulation is None:
            raise DataError("no such connection")
        return simulation

    async def overview(self, http: HttpRequest) -> Response:
        if not is_near(http):
            return json_response({"error": OUTSIDE}, 403)
        return json_response({name: simulation.counts() for name, simulation in list(self.simulations.items())})

    async def requests(self, http: HttpRequest) -> Response:
        try:
            asked = self.meant(http).requests()
        except DataError as error:
            return json_response({"error": error.what}, 400)
        return json_response([asdict(one) for one in asked])

    async def reset(self, http: HttpRequest) -> Response:
        try:
            self.meant(http).reset()
        except DataError as error:
            return json_response({"error": error.what}, 400)
        return json_response({})

    async def expire(self, http: HttpRequest) -> Response:
        try:
            self.meant(http).expire_cursors()
        except DataError as error:
            return json_response({"error": error.what}, 400)
        return json_response({})

    async def tokens(self, http: HttpRequest) -> Response:
        try:
            tokens = self.meant(http).tokens
            if tokens is None:
                raise DataError("this connection obtains no tokens")
            tokens.control(decode(await http.body() or b"{}"))
        except (DataError, ContractError) as error:
            return json_response({"error": error.what}, 400)
        return json_response({"calls": tokens.calls})

    async def faults(self, http: HttpRequest) -> Response:
        """Tells the faults, or replaces them."""
        try:
            simulation = self.meant(http)
            if http.method == "POST":
                simulation.switch(faults_in(decode(await http.body() or b"{}")))
        except (DataError, ContractError) as error:
            return json_response({"error": error.what}, 400)
        return json_response(simulation.report())

    async def webhooks(self, http: HttpRequest) -> Response:
        """Tells who is told of changes, or names one more."""
        try:
            simulation = self.meant(http)
            if http.method == "POST":
                simulation.telling.tell_at(address_in(decode(await http.body() or b"{}")))
        except (DataError, ContractError, ConfigError) as error:
            return json_response({"error": error.what}, 400)
        told = [{"url": one.url, "event": one.event} for one in list(simulation.telling.subscriptions.values())]
        return json_response({"subscriptions": told, "waiting": simulation.telling.sender.waiting})

    async def contents(self, http: HttpRequest) -> Response:
        deleted = http.query_params.get("deleted") == "true"
        return self.lines(http, lambda simulation, stream: simulation.contents(stream, deleted=deleted))

    async def truth(self, http: HttpRequest) -> Response:
        return self.lines(http, lambda simulation, stream: simulation.truth(stream))

    def lines(self, http: HttpRequest, rows: Callable[[Simulation, str], Iterator[Row]]) -> Response:
        """Rows of a stream as JSON lines."""
        stream = http.path_params["stream"]
        try:
            simulation = self.meant(http)
            simulation.dataset(stream)
        except DataError as error:
            return json_response({"error": error.what}, 400)
        return StreamingResponse(json_lines(rows(simulation, stream)), media_type="application/x-ndjson")

    async def change(self, http: HttpRequest) -> Response:
        """Insert, update or delete; answers with the external ids."""
        try:
            given = decode(await http.body() or b"{}")
            keys = changes(self.meant(http), http.path_params["stream"], http.path_params["verb"], given)
        except (DataError, ContractError) as error:
            return json_response({"error": error.what}, 400)
        return json_response({"keys": keys})


def is_near(http: HttpRequest) -> bool:
    return http.client is not None and http.client.host in LOOPBACK


def changes(simulation: Simulation, stream: str, verb: str, given: dict[str, Any]) -> list[str]:
    """Does what a control request says. Raises DataError."""
    count = given.get("count", 1)
    if verb == "insert":
        return simulation.insert(stream, given.get("records", count), given.get("parent"))
    if verb == "update":
        return simulation.update(stream, given.get("keys", count), given.get("values"))
    if verb == "delete":
        return simulation.delete(stream, given.get("keys", count))
    raise DataError(f"insert, update or delete was expected, not {verb}")


def faults_in(given: Any) -> list[str]:
    """The faults of a control request. Raises DataError where there are none."""
    found = given.get("faults") if isinstance(given, dict) else None
    if not isinstance(found, list):
        raise DataError('{"faults": ["429 every 7th"]} was expected, or an empty list')
    return found


def address_in(given: Any) -> str | None:
    """The address of a control request. Raises DataError where there is none."""
    if not isinstance(given, dict) or not isinstance(given.get("url", 0), str | None):
        raise DataError('{"url": "http://…"} was expected, or null')
    url: str | None = given["url"]
    return url


def json_response(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def request_of(http: HttpRequest, mount: str) -> Request:
    """The request as the imitated source sees it; paths stay quoted, so that a slash in a key is none of the path."""
    raw: bytes = http.scope.get("raw_path") or http.scope["path"].encode()
    path = raw.decode("latin-1").removeprefix(f"/{mount}")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in http.scope["headers"]}
    origin = f"{http.url.scheme}://{headers.get('host', '')}/{mount}"
    query: str = http.scope["query_string"].decode("latin-1")
    content = b"" if http.method in ("GET", "HEAD") and "content-length" not in headers else await http.body()
    return Request(http.method, path, query, headers, content, origin)


async def json_lines(rows: Iterator[Row]) -> AsyncIterator[bytes]:
    """Rows a few hundred lines at a time, so that a million records pass in flat memory."""
    lines: list[bytes] = []
    for row in rows:
        lines.append(encode(row) + b"\n")
        if len(lines) == LINES_AT_ONCE:
            yield b"".join(lines)
            lines.clear()
            await asyncio.sleep(0)
    yield b"".join(lines)


class Running:
    """A server in a thread of its own. Also a context manager that stops it."""

    def __init__(self, simulations: Iterable[Simulation], listener: socket.socket):
        self.application = Application(simulations)
        self.server = server_of(self.application)
        self.port: int = listener.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, args=([listener],), name="simulator", daemon=True)
        self.thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.server.started and self.thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not self.server.started:
            raise OSError(f"the simulator did not start within {START_SECONDS:.0f} s")

    def put(self, simulation: Simulation) -> None:
        """Serves one more, or another one under its name."""
        self.drop(simulation.name)
        self.application.simulations[simulation.name] = simulation

    def drop(self, name: str) -> None:
        """Serves it no longer."""
        if simulation := self.application.simulations.pop(name, None):
            simulation.close()

    def stop(self) -> None:
        """Ends the server and waits for it; open connections are closed."""
        for simulation in list(self.application.simulations.values()):
            simulation.close()
        self.server.should_exit = True
        self.thread.join(START_SECONDS)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def serve(simulations: Iterable[Simulation], host: str = "127.0.0.1", port: int = 0) -> Running:
    """Starts a server in a thread; port 0 takes a free one. Raises OSError where the port is taken."""
    listener = socket.create_server((host, port))
    return Running(simulations, listener)


def run(
    simulations: Iterable[Simulation],
    host: str = "127.0.0.1",
    port: int = 0,
    started: Callable[[int], None] = lambda port: None,
) -> None:
    """Serves until interrupted, in the calling thread; ``started`` is told the port. Raises OSError for a taken one."""
    listener = socket.create_server((host, port))
    started(listener.getsockname()[1])
    server_of(Application(simulations)).run([listener])


def server_of(application: Application) -> uvicorn.Server:
    configuration = uvicorn.Config(
        application.app,
        http=OpenProtocol,
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    application.server = uvicorn.Server(configuration)
    return application.server
