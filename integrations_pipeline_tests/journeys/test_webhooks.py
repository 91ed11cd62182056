"""Create, update and delete at a source, seen here through webhooks alone, through polls alone, and through both while
a fifth of the webhooks is lost, doubled and reordered: what is held equals the source each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.connect import connect
from integrations_pipeline.sync.receive import Receiver
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline_tests.connectors.account import open_account
from integrations_pipeline_tests.gateway.conftest import START_SECONDS, Door, serving
from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.passing import minutes_pass

CONNECTORS = ["stripe", "github", "easypost", "hubspot"]
FAULTS = ["lose webhook 20%", "double webhook 20%", "reorder webhooks 20%"]
ROUNDS = 3
FAULTY_ROUNDS = 6


class Account:
    """A connector's account on the simulator, first synced, and its ways in."""

    def __init__(self, house: House, name: str, source: Simulation, store: Store):
        self.house, self.name, self.source, self.store = house, name, source, store
        self.connection, self.kinds = load_connection_and_kinds(name, Home(house.home))

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.connection, limiter=self.store.limiter(self.connection))
        with closing(client):
            yield client

    def subscribe(self, url: str) -> None:
        """By the provider's API, or by hand where it has none for that."""
        assert self.connection.webhook is not None
        if self.connection.webhook.subscribe is None:
            self.source.telling.tell_at(f"{url}/webhooks/{self.name}")
            return
        with self.client() as client:
            assert connect(self.connection, client, self.store, self.kinds, public_url=url) == 1

    def poll(self, *, full: bool = False) -> dict[str, StreamResult]:
        return self.house.sync_here(self.name, full=full)

    def receive(self) -> None:
        """What is on its way comes, and is applied."""
        assert self.source.telling.sender.settled(START_SECONDS)
        with self.client() as client:
            received = Receiver(self.connection, client, self.store, self.kinds).run(uuid4())
        assert not received.events["dead"] and not received.events["failed"], received.events

    def change(self) -> None:
        """In each stream that events tell of: a record comes, changes, goes (where that is told), and others change."""
        hook = self.connection.webhook
        assert hook is not None
        for stream in {rule.stream for rule in hook.events.values()}:
            (key,) = self.source.insert(stream)
            self.source.update(stream, [key])
            self.source.update(stream, 2)
            if any(rule.delete == stream for rule in hook.events.values()):
                self.source.delete(stream, [key])

    def assert_equal(self) -> None:
        for stream in self.connection.streams:
            self.house.assert_whole(self.name, stream)


@pytest.fixture
def account(house: House, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Account]]:
    with Store(database_url, state=house.home / "state") as store:

        def made(name: str) -> Account:
            source = open_account(house, name, records=40)
            for key, value in house.environment.items():
                monkeypatch.setenv(key, value)
            found = Account(house, name, source, store)
            found.poll()
            return found

        yield made


@contextmanager
def gateway(home: Path, database_url: str, store: Store) -> Iterator[str]:
    """A running gateway; its address."""
    door, doors = Door(home, database_url), Doors(Home(home), None, store.subscriptions)
    server = serving(door, Gateway(doors, store.connect))
    doors.public_url = f"http://127.0.0.1:{door.port}"  # which some providers sign
    with server:
        yield doors.public_url


@pytest.mark.parametrize("name", CONNECTORS)
def test_through_webhooks_alone(account: Callable[[str], Account], name: str) -> None:
    one = account(name)
    with gateway(one.house.home, one.house.database_url, one.store) as url:
        one.subscribe(url)
        lists = sum(asked.purpose in ("list", "full") for asked in one.source.requests())
        for _ in range(ROUNDS):
            one.change()
            one.receive()
        one.assert_equal()
        assert sum(asked.purpose in ("list", "full") for asked in one.source.requests()) == lists


@pytest.mark.parametrize("name", CONNECTORS)
def test_through_polls_alone(account: Callable[[str], Account], name: str) -> None:
    one = account(name)
    for _ in range(ROUNDS):
        one.change()
        one.poll()
    one.poll(full=True)
    one.assert_equal()
    assert one.house.rows("SELECT * FROM integrations.inbox") == []


@pytest.mark.parametrize("name", CONNECTORS)
def test_through_both_while_webhooks_are_lost_doubled_and_reordered(
    account: Callable[[str], Account], name: str
) -> None:
    one = account(name)
    with gateway(one.house.home, one.house.database_url, one.store) as url:
        one.subscribe(url)
        one.source.switch(FAULTS)
        for number in range(FAULTY_ROUNDS):
            one.change()
            one.receive()
            if number % 2:
                one.poll()
        one.change()
        one.poll(full=True)
        one.receive()  # what came before the poll and is applied after it
        one.poll(full=True)
        one.assert_equal()
    hits = {fault["fault"]: fault["hits"] for fault in one.source.report()["faults"]}
    assert all(hits.values()), hits


@pytest.mark.parametrize(("name", "stream"), [("stripe", "customers"), ("github", "issues"), ("easypost", "trackers")])
def test_polls_find_exactly_what_webhooks_lost(account: Callable[[str], Account], name: str, stream: str) -> None:
    one = account(name)

    def judged(faults: list[str]) -> tuple[int, int, dict[str, Any] | None]:
        """Thirty records come, each with its event: how many came by webhooks, how many by the poll after them, and
        what a later poll says of that."""
        before = set(one.house.raw(one.name, stream))
        one.source.switch(faults)
        one.source.insert(stream, 30)
        one.receive()
        told = set(one.house.raw(one.name, stream)) - before
        one.poll()
        polled = set(one.house.raw(one.name, stream)) - before - told
        minutes_pass(one.house.database_url, 10)
        return len(told), len(polled), one.poll()[stream].webhooks

    with gateway(one.house.home, one.house.database_url, one.store) as url:
        one.subscribe(url)
        minutes_pass(one.house.database_url, 10)
        told, polled, found = judged(["lose webhook 40%", "double webhook 20%", "reorder webhooks 20%"])
        assert told > 0 and polled > 0
        assert found is not None and (found["told"], found["missed"]) == (told, polled)
        told, polled, found = judged([])
        assert told > 0 and polled == 0
        assert found is not None and (found["told"], found["missed"]) == (told, 0)
        one.assert_equal()
