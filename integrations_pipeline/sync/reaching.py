"""A client with all that the store lends it: in one place, for each room that makes one."""

from __future__ import annotations

from collections.abc import Mapping

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.store.store import Store


def client_of(
    connection: Connection,
    store: Store,
    priority: Priority = Priority.POLL,
    *,
    secrets: Mapping[str, Secret] | None = None,
) -> Client:
    """A client that shares its limits, its breaker and its tokens with all processes, and whose calls are logged.

    Raises ConfigError where a secret is missing. Close it before the store.
    """
    return Client(
        connection,
        limiter=store.limiter(connection),
        breaker=store.breaker(connection, at_once=priority is Priority.USER),
        tokens=store.tokens(connection),
        log=store.calls,
        priority=priority,
        secrets=secrets,
    )
