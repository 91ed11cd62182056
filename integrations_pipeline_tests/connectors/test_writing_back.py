"""What the catalogue declares writable is taken by its source as our client sends it, and reads as what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from integrations_pipeline.client import Answered, Change, Client
from integrations_pipeline.mapping import Mapping
from integrations_pipeline.mapping.backwards import Backwards
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.errors import AnswerLost, Exists
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.yaml_text import parse_document
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.connectors.account import CATALOGUE, account_of, open_account
from integrations_pipeline_tests.journeys.conftest import House

VALUES = {
    "email": "ada@example.com", "name": "Ada King", "first_name": "Ada", "last_name": "King", "phone": "+49301234567",
    "company": "Engines", "stage": "active", "domain": "engines.example", "city": "London", "available": 7,
}  # fmt: skip
REFERENCE = "6b0c1f3e-0000-4000-8000-000000000001"


def writable(operation: str) -> Iterator[tuple[str, str]]:
    for connector, path in CATALOGUE.items():
        facts: dict[str, Any] = parse_document(path.read_text(encoding="utf-8"), connector).data
        yield from (
            (connector, name) for name, stream in facts["streams"].items() if operation in stream.get("write", ())
        )


@dataclass
class Account:
    """A simulated account and what writes to one of its streams."""

    source: Simulation
    client: Client
    name: str
    kind: Kind

    @property
    def stream(self) -> Any:
        return self.source.connection.streams[self.name]

    def change(self, record: dict[str, Any] | None = None, **values: Any) -> Change:
        body = Backwards(self.stream, self.kind).payload(values).body
        key = {str(path): path.get(record) for path in self.stream.primary_key} if record else {}
        external_id = "-".join(map(str, key.values())) if record else None
        operation = "update" if record else "create"
        return Change(operation, body, external_id, key, record, REFERENCE, f"key-of-{sorted(values)}")  # type: ignore[arg-type]

    def read(self, record: dict[str, Any] | None) -> dict[str, Any]:
        return dict(Mapping(self.stream, self.kind).apply(record or {}).values)

    def held(self) -> int:
        return self.source.counts()[self.name]


@pytest.fixture
def account(house: House, request: pytest.FixtureRequest) -> Iterator[Account]:
    connector, name = request.param
    source = open_account(house, connector, records=30)
    connection, kinds = load_connection_and_kinds(connector, Home(house.home))
    secrets = {key: Secret(value) for key, value in account_of(connector)[1].items()}
    mapped = connection.streams[name].map
    assert mapped is not None
    with Store(house.database_url) as store:
        client = Client(connection, limiter=store.limiter(connection), secrets=secrets)
        yield Account(source, client, name, kinds[mapped.to])
        client.close()


def accounts(streams: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("account", streams, ids="/".join, indirect=True)


contacts = accounts([("hubspot", "contacts")])


@accounts(list(writable("update")))
def test_an_update_is_taken_and_reads_as_it_was_meant(account: Account) -> None:
    record = list(account.source.contents(account.name))[3]
    values = {name: VALUES[name] for name in account.stream.write.fields}
    answered = account.client.write(account.name, account.change(record, **values))
    read = account.read(answered.record or truth(account, record))
    assert {name: read[name] for name in values} == values
    assert account.held() == sum(1 for _ in account.source.contents(account.name))
    [entry] = [one for one in account.source.requests() if one.wrote]
    assert (entry.purpose, len(entry.wrote)) == ("update", 1)


def truth(account: Account, record: dict[str, Any]) -> dict[str, Any]:
    keys = [path.get(record) for path in account.stream.primary_key]
    rows = account.source.contents(account.name)
    return next(row for row in rows if [path.get(row) for path in account.stream.primary_key] == keys)


@accounts(list(writable("create")))
def test_a_lost_create_is_found_again_and_makes_one_object(account: Account) -> None:
    write, before = account.stream.write, account.held()
    account.source.switch(["lose answer 500 once"])
    create = account.change(**{name: VALUES[name] for name in write.fields})
    with pytest.raises(AnswerLost):
        account.client.write(account.name, create)
    found = account.read(account.client.find(account.name, create))
    assert {name: found[name] for name in write.fields} == {name: VALUES[name] for name in write.fields}
    if write.idempotency:
        assert account.client.write(account.name, create).external_id
    assert account.held() == before + 1


@contacts
def test_a_contact_exists_once(account: Account) -> None:
    create = account.change(email="ada@example.com", first_name="Ada")
    made = account.client.write("contacts", create)
    with pytest.raises(Exists):
        account.client.write("contacts", create)
    assert account.read(made.record)["first_name"] == "Ada"
    assert account.held() == 31


@contacts
def test_a_batch_of_contacts_is_told_apart_by_its_trace(account: Account) -> None:
    account.source.switch(["shuffle results"])
    records = list(account.source.contents("contacts"))[:5]
    changes = [
        Change("update", account.change(record, first_name=f"n{at}").fields, record["id"], {"id": record["id"]}, record,
               f"reference-{at}", f"key-{at}")
        for at, record in enumerate(records)
    ]  # fmt: skip
    outcomes = account.client.write_many("contacts", "update", changes)
    assert [one.external_id for one in outcomes if isinstance(one, Answered)] == [one["id"] for one in records]
    assert [account.read(truth(account, one))["first_name"] for one in records] == [f"n{at}" for at in range(5)]
    assert [len(one.wrote) for one in account.source.requests() if one.wrote] == [5]
