"""Our values leave through the map backwards and the client, meet a simulated source, and are read as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from integrations_pipeline.client import Answered, Change, Client
from integrations_pipeline.mapping import Backwards, Mapping
from integrations_pipeline.simulator.redirecting import simulated
from integrations_pipeline.simulator.server import serve
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.errors import AnswerLost, Conflict, DataError, NotFound
from integrations_pipeline_tests.client.conftest import HastyClock, LocalLimiter
from integrations_pipeline_tests.simulator.conftest import parsed
from integrations_pipeline_tests.simulator.test_writes import WRITE, YAML

CUSTOMER = Kind.model_validate(
    {"kind": "customer", "fields": {"email": {}, "name": {}, "stage": {}, "score": {"type": "integer"}}}
)
ADA = {"email": "ada@example.com", "name": "Ada", "score": 7, "stage": "active"}


class Shop:
    """One simulated source, the way back into it, and a client."""

    def __init__(self, faults: list[str], write: str = WRITE):
        given = parsed(YAML.replace("WRITE", write))
        self.simulation = Simulation(given, records=4, faults=faults)
        self.running = serve([self.simulation])
        self.client = Client(simulated(given, self.running.port), limiter=LocalLimiter(), clock=HastyClock())
        stream = given.streams["people"]
        self.backwards, self.forwards = Backwards(stream, CUSTOMER), Mapping(stream, CUSTOMER)

    def close(self) -> None:
        self.client.close()
        self.running.stop()

    def change(self, values: dict[str, Any], record: Any = None, number: int = 1) -> Change:
        return Change(
            operation="update" if record else "create",
            fields=self.backwards.payload(values, record).body,
            external_id=record["id"] if record else None,
            key={"id": record["id"]} if record else {},
            record=record,
            reference=f"ours-{number}",
            idempotency_key=f"key-{number}",
        )

    def holds(self) -> list[dict[str, Any]]:
        return list(self.simulation.contents("people"))

    def ours(self, record: Any) -> dict[str, Any]:
        """What a record of the source says in our words."""
        return self.forwards.apply(record).values


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    made = Shop(*getattr(request, "param", ([],)))
    yield made
    made.close()


def faults(*given: str) -> Any:
    return pytest.mark.parametrize("shop", [(list(given),)], indirect=True, ids=[", ".join(given)])


def test_a_record_is_created_changed_and_deleted_there(shop: Shop) -> None:
    made = shop.client.write("people", shop.change(ADA))
    assert made.record is not None
    assert shop.ours(made.record) == ADA
    assert made.record["props"]["ref"] == "ours-1"
    updated = shop.client.write("people", shop.change({"name": "Ada L.", "stage": "prospect"}, made.record, 2))
    assert updated.record is not None
    assert shop.ours(updated.record) == {**ADA, "name": "Ada L.", "stage": "prospect"}
    with pytest.raises(Conflict):
        shop.client.write("people", shop.change({"name": "late"}, made.record, 3))
    delete = replace(shop.change({}, updated.record, 4), operation="delete", fields={})
    for _ in range(2):
        assert shop.client.write("people", delete) == Answered(None, made.external_id)
    with pytest.raises(NotFound):
        shop.client.write("people", shop.change({"name": "gone"}, updated.record, 5))
    assert len(shop.holds()) == 4


def test_a_value_that_the_source_refuses_is_no_doubt(shop: Shop) -> None:
    change = shop.change(ADA)
    change.fields["props"]["stage"] = "unheard of"
    with pytest.raises(DataError):
        shop.client.write("people", change)
    assert len(shop.holds()) == 4


@faults("lose answer reset once")
def test_after_a_lost_answer_the_same_key_brings_the_same_record(shop: Shop) -> None:
    with pytest.raises(AnswerLost):
        shop.client.write("people", shop.change(ADA))
    found = shop.client.find("people", shop.change(ADA))
    again = shop.client.write("people", shop.change(ADA))
    assert found == again.record
    assert [one["id"] for one in shop.holds()[4:]] == [again.external_id]


@faults("refuse write 503 once")
def test_what_was_not_done_is_not_found(shop: Shop) -> None:
    with pytest.raises(AnswerLost):
        shop.client.write("people", shop.change(ADA))
    assert shop.client.find("people", shop.change(ADA)) is None
    assert shop.client.write("people", shop.change(ADA)).external_id
    assert len(shop.holds()) == 5


@faults("shuffle results", "fail item 422 once", "omit result once")
def test_a_batch_is_told_item_by_item_whatever_order_it_comes_in(shop: Shop) -> None:
    """The item that no result names is sent again alone, to the same end."""
    records = shop.holds()[:3]
    changes = [shop.change({"name": f"new {n}"}, one, n) for n, one in enumerate(records)]
    told = shop.client.write_many("people", "update", changes)
    named = {one["id"]: one["props"]["name"] for one in shop.holds()}
    assert [type(one) for one in told] == [Answered] * 3
    assert [named[one["id"]] for one in records] == ["new 0", "new 1", "new 2"]
    assert [one.external_id for one in told if isinstance(one, Answered)] == [one["id"] for one in records]
