"""Demo connections: those whose `api.url` is the simulator's address, under their own name.

The simulator of `integrations up` listens there. Where the port is taken it listens on another one, and
INTEGRATIONS_SIMULATOR_URL tells the processes it starts where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from integrations_pipeline.spec.connection import Connection

PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}"
VARIABLE = "INTEGRATIONS_SIMULATOR_URL"


def is_simulated(connection: Connection) -> bool:
    """Whether the connection speaks to the simulator."""
    return f"{connection.api.url}/".startswith(f"{ADDRESS}/{connection.name}/")


def imitated(connection: Connection) -> Connection:
    """The connection as the simulator serves it: below a mount that bears its name."""
    return with_url(connection, ADDRESS + connection.api.url.removeprefix(f"{ADDRESS}/{connection.name}"))


def relocated(connection: Connection, environment: Mapping[str, str] = os.environ) -> Connection:
    """A demo connection at the address the simulator really has; any other as it is."""
    address = environment.get(VARIABLE)
    if not address or not is_simulated(connection):
        return connection
    return with_url(connection, address + connection.api.url.removeprefix(ADDRESS))


def with_url(connection: Connection, url: str) -> Connection:
    return connection.model_copy(update={"api": connection.api.model_copy(update={"url": url})})
