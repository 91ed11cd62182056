"""A CRM over real HTTP that takes writes, its connection as files, and the gateway's pages before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.pages.pages import Pages
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.client.source import Reply, Source
from integrations_pipeline_tests.gateway.conftest import Door, serving
from integrations_pipeline_tests.gateway.test_pages import Visit
from integrations_pipeline_tests.sync.provider import KINDS, LOST, STREAM, Desk, Provider


class Crm:
    """``desk`` is what a person does here, ``provider`` what the source holds."""

    def __init__(self, desk: Desk, home: Path):
        self.desk, self.provider, self.home, self.port = desk, desk.provider, home, 0

    def write_files(self, auth: Any = None, **more: Any) -> None:
        api = {"url": self.desk.source.url, "pagination": {"type": "single_page"}, "retry": {"attempts": 1}}
        api |= {"auth": auth} if auth else {}
        streams = {"people": {**STREAM, "write": self.desk.write}}
        document = {"connection": "crm", "api": api, "streams": streams, **more}
        kind = {
            "kind": "person",
            "fields": {n: f.model_dump(exclude_unset=True) for n, f in KINDS["person"].fields.items()},
        }
        for folder, name, text in (("connections", "crm", document), ("models", "person", kind)):
            (self.home / folder).mkdir(exist_ok=True)
            (self.home / folder / f"{name}.yaml").write_text(json.dumps(text), encoding="utf-8")

    def visit(self) -> Visit:
        return Visit(self.port)

    @contextmanager
    def served(self) -> Iterator[None]:
        """Its pages, and the lane that sends what a decision lets go."""
        with Store(self.desk.database_url) as store:
            doors = Doors(Home(self.home))
            lane = PushLane(doors, store)
            door = Door(self.home, self.desk.database_url)
            gateway = Gateway(doors, store.connect, pages=Pages(doors, store, Access(None, ""), lane))
            try:
                with serving(door, gateway):
                    self.port = door.port
                    yield
            finally:
                lane.stop()

    def parked(self, name: str) -> int:
        """The id of a create that was done at the source, whose answer was lost."""
        self.provider.after = lambda seen: LOST if seen.method == "POST" else None
        number = self.pushed(name)
        self.provider.after = lambda seen: None
        return number

    def dead(self, name: str) -> int:
        """The id of a create that the source refused."""
        self.provider.instead = lambda seen: (
            Reply({"error": f"{name} is on no list"}, 422) if seen.method == "POST" else None
        )
        number = self.pushed(name)
        self.provider.instead = lambda seen: None
        return number

    def pushed(self, name: str) -> int:
        self.desk.insert(name, email=f"{name.lower()}@example.com")
        self.desk.push()
        return int(self.desk.outbox("id")[-1][0])

    def names(self) -> list[str]:
        return sorted(one["name"] for one in list(self.provider.people.values()))

    def status(self, number: int) -> str:
        return str(self.desk.rows("SELECT status FROM integrations.outbox WHERE id = %s", number)[0][0])


@pytest.fixture
def crm(database_url: str, tmp_path: Path) -> Iterator[Crm]:
    provider = Provider()
    provider.add(name="Anna", email="anna@example.com")
    with Source(provider) as source:
        built = Crm(Desk(database_url, source, provider), tmp_path)
        built.desk.sync()
        built.write_files()
        with built.served():
            yield built
