"""What most commands begin with: the home, a connection, its client and the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.simulated import relocated
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.reaching import client_of


@dataclass(frozen=True)
class Opened:
    """A connection ready to be worked with."""

    connection: Connection
    kinds: Mapping[str, Kind]
    client: Client
    store: Store


@contextmanager
def opened(name: str, priority: Priority = Priority.POLL) -> Iterator[Opened]:
    """Loads the files and secrets before anything is started, so that their errors come first (exit code 2)."""
    home = Home.from_environment()
    declared, kinds = load_connection_and_kinds(name, home)
    connection = relocated(declared)
    try:
        secrets: dict[str, Secret] = {key: source.resolve(key) for key, source in connection.secrets.items()}
    except ConfigError as error:
        raise error.at(connection.name) from None
    with open_store(home=home) as store:
        client = client_of(connection, store, priority, secrets=secrets)
        try:
            yield Opened(connection, kinds, client, store)
        finally:
            client.close()
