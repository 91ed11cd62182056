"""The verbs `connect` and `disconnect`: the first and the last thing done with a connection."""

from __future__ import annotations

from collections.abc import Mapping

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.store.store import Store


def connect(connection: Connection, client: Client, store: Store, kinds: Mapping[str, Kind]) -> None:
    """Proves the credentials, prepares the tables, lets the streams run. Raises what the source said."""
    client.check()
    store.prepare(connection, kinds)
    store.activate(connection)


def disconnect(connection: str, store: Store, *, keep_data: bool) -> None:
    """Stops the connection of that name, with or without a file: its streams are refused until `connect`.

    Without ``keep_data`` its raw tables, state, quarantine and links go; canonical rows that no other connection
    holds become deleted. Idempotent.
    """
    store.drop(connection, keep_data=keep_data)
