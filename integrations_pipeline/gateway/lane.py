"""The fast lane (`webhook: apply: immediately`): events are applied right after their commit, in a thread of its own.

The same verb under the same leases as a run's. What it can't do now stays in the inbox, where Dagster's sensor finds
it, which also reports what this lane did.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog

from integrations_pipeline.client import Client
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.simulated import relocated
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.reaching import client_of
from integrations_pipeline.sync.receive import Receiver

RUN_SECONDS = 60.0
"""What a lane does within it is one run in the log: a run per event would fill it."""

STOP_SECONDS = 10.0

log = structlog.get_logger()


class Opened(NamedTuple):
    """A connection as it was when its file was last loaded, ready to apply events."""

    connection: Connection
    client: Client
    receiver: Receiver


class Runs:
    """The runs that what a lane does belongs to."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[UUID, float]] = {}

    def of(self, name: str) -> UUID:
        """The connection's run at this time."""
        run_id, began = self._runs.get(name, (uuid4(), float("-inf")))
        if time.monotonic() - began > RUN_SECONDS:
            run_id, began = uuid4(), time.monotonic()
        self._runs[name] = run_id, began
        return run_id


class FastLane:
    """``wake`` never waits; one thread serves all connections, one after the other."""

    def __init__(self, doors: Doors, store: Store):
        self.doors, self.store = doors, store
        self._opened: dict[str, Opened] = {}
        self._runs = Runs()
        self._woken: dict[str, None] = {}
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="fast lane", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the batch under way."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)
        for one in self._opened.values():
            one.client.close()

    def wake(self, name: str) -> None:
        """Events of the connection are committed."""
        with self._changed:
            self._woken[name] = None
            self._changed.notify()

    def _serve(self) -> None:
        for name in self.doors.immediate():
            self._try(name, warm=True)
        while (woken := self._next()) is not None:
            self._try(woken)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._stopped)
            if self._stopped:
                return None
            name = next(iter(self._woken))
            del self._woken[name]
            return name

    def _try(self, name: str, *, warm: bool = False) -> None:
        """Whatever goes wrong is told, and left to the sensor."""
        try:
            receiver = self._receiver(name)
            if receiver is not None:
                receiver.warm() if warm else receiver.run(self._runs.of(name))
        except IntegrationError as error:
            log.warning("events are left to the sensor", connection=name, error=str(error))
        except Exception:  # one connection's defect must not end the lane of the others
            log.exception("events are left to the sensor", connection=name)

    def _receiver(self, name: str) -> Receiver | None:
        """Made anew when the file has changed; None where it no longer wants the fast lane."""
        connection = self.doors.immediate().get(name)
        known = self._opened.get(name)
        if known is not None and known.connection is connection:
            return known.receiver
        if known is not None:
            self._opened.pop(name).client.close()
        if connection is None:
            return None
        where = relocated(connection)
        client = client_of(where, self.store, Priority.EVENT)
        receiver = Receiver(where, client, self.store, self.doors.kinds, mode="immediately")
        self._opened[name] = Opened(connection, client, receiver)
        return receiver
