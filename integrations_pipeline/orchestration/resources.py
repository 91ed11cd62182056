"""What runs, schedules and sensors work with: the home, the store, a client per connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dagster import ConfigurableResource, InitResourceContext
from pydantic import PrivateAttr

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.beacon import light
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.reaching import client_of


class HomeResource(ConfigurableResource):  # type: ignore[type-arg]
    """The folder with connections and models; ``INTEGRATIONS_HOME`` unless a path is given."""

    path: str = ""

    def home(self) -> Home:
        return Home.from_environment({"INTEGRATIONS_HOME": self.path} if self.path else None)


class StoreResource(ConfigurableResource):  # type: ignore[type-arg]
    """The database, open for the time of a run or of a sensor's tick. In a run it says that the process is alive."""

    home: HomeResource
    _store: Store | None = PrivateAttr(default=None)

    @contextlib.contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Iterator[StoreResource]:
        with open_store(home=self.home.home()) as store, contextlib.ExitStack() as stack:
            if context.run:
                stack.enter_context(contextlib.closing(light(store.url, context.run.run_id)))
            self._store = store
            yield self

    @property
    def store(self) -> Store:
        """The open database."""
        assert self._store is not None, "the store is open within a run or a tick only"
        return self._store


class ClientResource(ConfigurableResource):  # type: ignore[type-arg]
    """A client per connection, kept for the time of a run."""

    store: StoreResource
    _clients: dict[tuple[str, Priority], Client] = PrivateAttr(default_factory=dict)

    def of(self, connection: Connection, priority: Priority = Priority.POLL) -> Client:
        """The connection's client. Raises ConfigError where a secret is missing."""
        key = (connection.name, priority)
        if key not in self._clients:
            self._clients[key] = client_of(connection, self.store.store, priority)
        return self._clients[key]

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
