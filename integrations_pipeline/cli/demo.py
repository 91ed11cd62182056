"""The simulator of `integrations up`: it serves the demo connections, and follows their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from integrations_pipeline.simulator.server import Running, serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all, load_connection, yaml_files
from integrations_pipeline.spec.simulated import ADDRESS, PORT, VARIABLE, is_simulated, relocated
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.reaching import client_of
from integrations_pipeline.sync.subscribing import subscribe

Stamps = dict[Path, tuple[int, int]]


class Demo:
    """Sources that live as long as this context. An edit begins a source anew; a broken file leaves it as it is."""

    def __init__(self, home: Home, records: int):
        self.home, self.records = home, records
        self.served: dict[str, str] = {}
        self.stamps: Stamps | None = None
        self.moved = False
        self.strangers: set[str] = set()  # sources that nobody has subscribed to since they began
        self.broken: set[str] = set()
        self.running: Running

    def __enter__(self) -> Demo:
        try:
            self.running = serve([], port=PORT)
        except OSError:
            self.running = serve([], port=0)
        return self

    def __exit__(self, *error: object) -> None:
        self.running.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which others find it."""
        return {} if self.address == ADDRESS else {VARIABLE: self.address}

    def see(self) -> list[str]:
        """Serves what is in the files by now. Returns what a person should know."""
        stamps = stamps_of(self.home)
        if stamps == self.stamps:
            return []
        self.stamps = stamps
        loaded = load_all(self.home)
        demo = {name: one for name, one in loaded.connections.items() if is_simulated(one)}
        if not loaded.broken:  # a file that is just being edited keeps its source
            self.drop(set(self.served) - set(demo))
        changed = [one for name, one in demo.items() if self.served.get(name) != facts(one)]
        troubles = {one.name: trouble for one in changed if (trouble := self.put(one))}
        return [
            *self.announced([one.name for one in changed if one.name not in troubles]),
            *troubles.values(),
            *self.complaints(loaded.broken),
        ]

    def announced(self, names: list[str]) -> Iterator[str]:
        if names:
            yield f"simulator: {', '.join(names)} on {self.address}"
        if names and self.environment and not self.moved:
            self.moved = True
            yield f"  port {PORT} is taken; for other terminals: export {VARIABLE}={self.address}"

    def complaints(self, broken: Mapping[str, ConfigError]) -> list[str]:
        """A line for each file that can't be used since this look."""
        new, self.broken = [file for file in broken if file not in self.broken], set(broken)
        return [f"{file} can't be used; `integrations check` says why (the others work)" for file in new]

    def put(self, connection: Connection) -> str | None:
        """Serves it, or says why not."""
        try:
            self.running.put(Simulation(connection, records=self.records))
        except IntegrationError as error:
            return f"simulator: {connection.name} is not served: {error}"
        self.served[connection.name] = facts(connection)
        if connection.webhook and connection.webhook.subscribe:
            self.strangers.add(connection.name)
        return None

    def subscribe(self, store: Store, gateway: str) -> list[str]:
        """Subscribes the gateway at each source that began since. Returns what a person should know."""
        told: list[str] = []
        for name in sorted(self.strangers):
            self.strangers.remove(name)
            try:
                told += self.subscribe_to(name, store, gateway)
            except IntegrationError as error:
                told.append(f"simulator: {name} sends no webhooks: {error}")
        return told

    def subscribe_to(self, name: str, store: Store, gateway: str) -> Iterator[str]:
        """The source is new: what it gave to an earlier subscriber counts no longer. A stopped connection stays so."""
        connection = relocated(load_connection(name, self.home), self.environment)
        store.subscriptions.forget(name)
        if store.is_stopped(name):
            return
        client = client_of(connection, store, secrets={})
        try:
            subscribe(connection, client, store, gateway)
        finally:
            client.close()
        yield f"simulator: {name} tells {gateway}/webhooks/{name} of its changes"

    def drop(self, names: set[str]) -> None:
        for name in names:
            del self.served[name]
            self.strangers.discard(name)
            self.running.drop(name)


def facts(connection: Connection) -> str:
    """What the source's contents and answers depend on. Not the mapping, which is ours: its edit keeps the source."""
    streams = {name: stream.model_copy(update={"map": None}) for name, stream in connection.streams.items()}
    return repr((connection.api, connection.secrets, streams, connection.webhook, connection.faults))


def stamps_of(home: Home) -> Stamps:
    """When each file that makes connections was written, and its size."""
    found: Stamps = {}
    for path in (path for folder in (home.connections, home.models, *home.connectors) for path in yaml_files(folder)):
        try:
            stat = path.stat()
        except OSError:  # deleted meanwhile
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size)
    return found
