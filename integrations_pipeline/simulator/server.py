"""The HTTP around simulations: each mounted under its connection's name, and a control door beside them.

``/_simulator/`` is not part of any imitated API and answers on loopback only:

- ``GET /_simulator/`` names the connections with their live records per stream.
- ``POST /_simulator/CONNECTION/STREAM/insert`` with ``{"count": 3}`` or ``{"records": [{…}]}``; a child: ``parent``.
- ``POST …/update`` with ``{"count": 3}`` or ``{"keys": […]}``, and ``values``; ``POST …/delete`` likewise.
- ``GET …/contents`` gives the true contents as JSON lines; ``?deleted=true`` adds tombstones.
- ``GET /_simulator/CONNECTION/requests`` gives the request log; ``POST /_simulator/CONNECTION/reset`` begins anew.
- ``POST /_simulator/CONNECTION/expire``: opaque cursors given out so far have expired.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.simulator.views import Request
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ContractError, DataError

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
LOOPBACK = ("127.0.0.1", "::1")
OUTSIDE = "the control door opens on loopback only"
START_SECONDS = 10.0
LINES_AT_ONCE = 500


class Application:
    """The ASGI application of some simulations."""

    def __init__(self, simulations: Iterable[Simulation]):
        self.simulations = {simulation.name: simulation for simulation in simulations}
        self.app = Starlette(
            routes=[
                Route("/_simulator/", self.overview),
                Route("/_simulator/{connection}/requests", self.requests),
                Route("/_simulator/{connection}/reset", self.reset, methods=["POST"]),
                Route("/_simulator/{connection}/expire", self.expire, methods=["POST"]),
                Route("/_simulator/{connection}/{stream}/contents", self.contents),
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
        return Response(answer.body, answer.status, answer.headers, media_type="application/json")

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

    async def contents(self, http: HttpRequest) -> Response:
        try:
            simulation = self.meant(http)
            simulation.dataset(http.path_params["stream"])
        except DataError as error:
            return json_response({"error": error.what}, 400)
        deleted = http.query_params.get("deleted") == "true"
        lines = json_lines(simulation, http.path_params["stream"], deleted)
        return StreamingResponse(lines, media_type="application/x-ndjson")

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


async def json_lines(simulation: Simulation, stream: str, deleted: bool) -> AsyncIterator[bytes]:
    """The contents a few hundred lines at a time, so that a million records pass in flat memory."""
    lines: list[bytes] = []
    for row in simulation.contents(stream, deleted=deleted):
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
        self.server = uvicorn.Server(configuration(self.application))
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
        self.application.simulations[simulation.name] = simulation

    def drop(self, name: str) -> None:
        """Serves it no longer."""
        self.application.simulations.pop(name, None)

    def stop(self) -> None:
        """Ends the server and waits for it; open connections are closed."""
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
    uvicorn.Server(configuration(Application(simulations))).run([listener])


def configuration(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application.app,
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
