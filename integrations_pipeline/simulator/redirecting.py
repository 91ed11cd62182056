"""A connection that asks the simulator in the place of its source."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

from integrations_pipeline.simulator.views import below_mount
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.simulated import with_auth_at
from integrations_pipeline.spec.streams import Count, Full, Get, Stream
from integrations_pipeline.spec.write import Write


def simulated(connection: Connection, port: int) -> Connection:
    """The same connection, asking the simulator on this port instead, also where a call names a whole URL."""
    mount, url = f"http://127.0.0.1:{port}/{connection.name}", connection.api.url
    auth = with_auth_at(connection.api.auth, lambda path: mount + below_mount(url, path))
    api: dict[str, Any] = {"url": mount + urlsplit(url).path.rstrip("/"), "origins": [], "auth": auth}
    streams = {name: redirected(stream, mount, url) for name, stream in connection.streams.items()}
    return connection.model_copy(update={"api": connection.api.model_copy(update=api), "streams": streams})


Called = TypeVar("Called", Stream, Full, Get, Count, Call)


def redirected(called: Called, mount: str, url: str) -> Called:
    """A stream or call with the simulator's address in the place of any other."""
    changed: dict[str, Any] = {}
    method, _, path = (called.request or "").partition(" ")
    if path.startswith("http"):
        changed["request"] = f"{method} {mount}{below_mount(url, path)}"
    if isinstance(called, Stream):
        changed["full"] = called.full and redirected(called.full, mount, url)
        if isinstance(called.probe, Count):
            changed["probe"] = redirected(called.probe, mount, url)
        changed["get"] = called.get and redirected(called.get, mount, url)
        changed["write"] = called.write and written_at(called.write, mount, url)
    return called.model_copy(update=changed)


def written_at(write: Write, mount: str, url: str) -> Write:
    """The same writes, at the simulator."""
    changed: dict[str, Any] = {name: redirected(call, mount, url) for name, call in write if isinstance(call, Call)}
    if write.batch is not None:
        calls = {name: redirected(call, mount, url) for name, call in write.batch if isinstance(call, Call)}
        changed["batch"] = write.batch.model_copy(update=calls)
    return write.model_copy(update=changed)
