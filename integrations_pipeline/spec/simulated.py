"""Demo connections: those whose `api.url` is the simulator's address, under their own name.

The simulator of `integrations up` listens there. Where the port is taken it listens on another one, and
INTEGRATIONS_SIMULATOR_URL tells the processes it starts where.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from integrations_pipeline.spec.auth import Auth, LoginCall, Session
from integrations_pipeline.spec.connection import Connection

PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}"
VARIABLE = "INTEGRATIONS_SIMULATOR_URL"


def is_simulated(connection: Connection) -> bool:
    """Whether the connection speaks to the simulator."""
    return f"{connection.api.url}/".startswith(f"{ADDRESS}/{connection.name}/")


def imitated(connection: Connection) -> Connection:
    """The connection as the simulator serves it: below a mount that bears its name."""
    return moved(connection, f"{ADDRESS}/{connection.name}", ADDRESS)


def relocated(connection: Connection, environment: Mapping[str, str] = os.environ) -> Connection:
    """A demo connection at the address the simulator really has; any other as it is."""
    address = environment.get(VARIABLE)
    if not address or not is_simulated(connection):
        return connection
    return moved(connection, ADDRESS, address)


def moved(connection: Connection, here: str, there: str) -> Connection:
    """The same connection at another address."""

    def place(url: str) -> str:
        return there + url.removeprefix(here) if url.startswith(here) else url

    api = {"url": place(connection.api.url), "auth": with_auth_at(connection.api.auth, place)}
    return connection.model_copy(update={"api": connection.api.model_copy(update=api)})


def with_auth_at(auth: Auth, place: Callable[[str], str]) -> Auth:
    """The same auth with its token endpoint, and the calls of its login that name a whole URL, placed elsewhere."""
    if isinstance(auth, Session):
        refresh = auth.refresh and login_at(auth.refresh, place)
        return auth.model_copy(update={"login": [login_at(call, place) for call in auth.login], "refresh": refresh})
    token_url = getattr(auth, "token_url", None)
    return auth.model_copy(update={"token_url": place(token_url)}) if token_url else auth


def login_at(call: LoginCall, place: Callable[[str], str]) -> LoginCall:
    if call.path.startswith("/"):
        return call
    return call.model_copy(update={"request": f"{call.method} {place(call.path)}"})
