"""Edits and decisions through the gateway leave right after their commit, by a push of the connections they concern.

The same verb as a run's, so they may meet. What this doesn't get to stays in the outbox, where Dagster's
sensor finds it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from integrations_pipeline.client import Client
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.lane import Runs
from integrations_pipeline.spec.cautions import creating_nothing
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.lines import logger
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.simulated import relocated
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.push import push
from integrations_pipeline.sync.reaching import client_of

AT_ONCE = 4
"""Connections that are pushed at once: a source that doesn't answer holds up its own."""

CHANGES = 100
"""Of one push: who drains a backlog is the sensor's run, not the process that answers requests."""

log = logger()


class PushLane:
    """Never waits. One push of a connection at a time; who comes meanwhile starts another one after it."""

    def __init__(self, doors: Doors, store: Store):
        self.doors, self.store = doors, store
        self._runs = Runs()
        self._opened: dict[str, tuple[Connection, Client]] = {}
        self._busy: dict[str, bool] = {}  # connection → whether it was woken since its push began
        self._guard = threading.Lock()
        self._stopped = False
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="push lane")

    def wake(self, kind: str) -> None:
        """A record of the kind was edited, and that is committed."""
        self.push(*(name for name, _ in self.doors.written(kind)))

    def push(self, *connections: str) -> None:
        """What these have to send was edited or decided about, and that is committed."""
        for name in dict.fromkeys(connections):
            with self._guard:
                if self._stopped:
                    return
                if name in self._busy:
                    self._busy[name] = True
                    continue
                self._busy[name] = False
                self._pool.submit(self._serve, name)  # guarded: after a stop the pool takes no more

    def stop(self) -> None:
        """Ends what is under way: a change whose answer doesn't come any more is settled by the next push."""
        with self._guard:
            self._stopped = True
        self._close()
        self._pool.shutdown(cancel_futures=True)
        self._close()  # of a push that was just beginning

    def _close(self) -> None:
        for _, client in list(self._opened.values()):
            client.close()

    def _serve(self, name: str) -> None:
        while True:
            self._try(name)
            with self._guard:
                if self._stopped or not self._busy[name]:
                    del self._busy[name]
                    return
                self._busy[name] = False

    def _try(self, name: str) -> None:
        """Whatever goes wrong is told, and left to the sensor."""
        try:
            connection = self.doors.connections.get(name)
            if connection is None or self.store.is_stopped(name):
                return
            where, client = self._client(connection)
            rivals = creating_nothing(self.doors.connections.values()).get(name, ())
            kinds, run_id = self.doors.kinds, self._runs.of(name)
            result = push(where, client, self.store, kinds, rivals=rivals, run_id=run_id, limit=CHANGES)
            if result.error is not None:
                log.warning("edits are left to the sensor", connection=name, error=str(result.error))
        except IntegrationError as error:
            log.warning("edits are left to the sensor", connection=name, error=str(error))
        except Exception:  # one connection's defect must not end the lane of the others
            log.exception("edits are left to the sensor", connection=name)

    def _client(self, connection: Connection) -> tuple[Connection, Client]:
        """Made anew when the file has changed; only the connection's own push uses it."""
        where = relocated(connection)
        known = self._opened.get(connection.name)
        if known is not None and known[0] is connection:
            return where, known[1]
        if known is not None:
            known[1].close()
        client = client_of(where, self.store, Priority.EVENT)
        self._opened[connection.name] = connection, client
        return where, client
