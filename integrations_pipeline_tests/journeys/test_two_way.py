"""Records kept in several systems and here: made, changed and deleted on each side, merged by each policy; three
systems on one hub come to agree, and then nothing moves any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.conflicts import Side, open_conflicts, resolve
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.push import PushResult, push
from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.journeys.test_two_way_machine import CANONICAL, PERSON, SOURCE

POLICIES = ["remote_wins", "local_wins", "newest_wins", "review"]
IDLE_CYCLES = 10
STATE = """
SELECT (SELECT jsonb_agg(to_jsonb(c) ORDER BY id) FROM canonical.person c)::text,
       (SELECT count(*) FROM integrations.outbox), (SELECT count(*) FROM integrations.decision)
"""


class Hub:
    """Systems that hold the same people, and what is held here of them."""

    def __init__(self, house: House):
        self.house = house
        house.write("models/person.yaml", PERSON)
        self.secret = house.write("hook", "known to both")
        self.systems: dict[str, Simulation] = {}

    def join(self, name: str, policy: str = "remote_wins", records: int = 6) -> Simulation:
        text = SOURCE.replace("NAME", name, 1).replace("POLICY", policy).replace("HOOK", str(self.secret))
        self.systems[name] = self.house.connect_to(name, text, records=records)
        return self.systems[name]

    def push(self, name: str) -> PushResult:
        connection, kinds = load_connection_and_kinds(name, Home(self.house.home))
        with Store(self.house.database_url) as store:
            client = Client(connection, limiter=store.limiter(connection), breaker=store.breaker(connection))
            try:
                return push(connection, client, store, kinds)
            finally:
                client.close()

    def cycle(self, *, full: bool = False) -> int:
        """Each system is read, then written. How many changes were sent."""
        for name in self.systems:
            self.house.sync_here(name, full=full)
        return sum(self.push(name).changes["sent"] for name in self.systems)

    def here(self) -> dict[str, tuple[Any, ...]]:
        return {email: (name, city) for _, email, name, city in self.house.rows(CANONICAL)}

    def there(self, name: str) -> dict[str, tuple[Any, ...]]:
        rows = list(self.systems[name].contents("people"))
        assert len({row["email"] for row in rows}) == len(rows)
        return {row["email"]: (row["name"], row["city"]) for row in rows}

    def key(self, name: str, email: str) -> str:
        return next(row["id"] for row in self.systems[name].contents("people") if row["email"] == email)

    def edit(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.house.database_url, autocommit=True) as session:
            session.execute(statement, values)  # type: ignore[arg-type]

    def decide(self, side: Side) -> None:
        """Every open conflict, for one side."""
        with psycopg.connect(self.house.database_url, autocommit=True) as session:
            for found in open_conflicts(session):
                resolve(session, found.id, side, by="a test")

    def writes(self) -> int:
        return sum(asked.method != "GET" for one in self.systems.values() for asked in one.requests())

    def assert_equal(self) -> None:
        for name in self.systems:
            assert self.there(name) == self.here(), name
            self.house.assert_whole(name, "people")


@pytest.fixture
def hub(house: House) -> Hub:
    return Hub(house)


@pytest.fixture
def two(hub: Hub) -> Callable[[str], str]:
    """Two systems that agree; gives a record's e-mail address."""

    def made(policy: str) -> str:
        hub.join("crm", policy)
        hub.join("pay", policy)
        hub.cycle()
        hub.decide("ours")  # what the systems said differently before they met here
        hub.cycle()
        hub.assert_equal()
        return min(hub.here())

    return made


def test_what_is_made_changed_and_deleted_on_each_side_is_so_on_all(hub: Hub, two: Callable[[str], str]) -> None:
    email = two("remote_wins")
    held = len(hub.here())
    hub.edit("INSERT INTO canonical.person (email, name) VALUES ('made@here.example', 'Here')")
    hub.systems["crm"].insert("people", [{"email": "made@crm.example", "name": "Crm"}])
    hub.systems["pay"].insert("people", [{"email": "made@pay.example", "name": "Pay"}])
    hub.cycle()
    hub.cycle()
    hub.assert_equal()
    assert len(hub.here()) == held + 3
    hub.edit("UPDATE canonical.person SET city = 'Here' WHERE email = %s", email)
    hub.systems["crm"].update("people", [hub.key("crm", "made@here.example")], {"city": "Crm"})
    hub.systems["pay"].update("people", [hub.key("pay", "made@crm.example")], {"city": "Pay"})
    hub.cycle()
    hub.cycle()
    hub.assert_equal()
    assert {hub.here()[one][1] for one in (email, "made@here.example", "made@crm.example")} == {"Here", "Crm", "Pay"}
    hub.edit("DELETE FROM canonical.person WHERE email = %s", email)
    hub.cycle(full=True)
    hub.cycle(full=True)
    hub.assert_equal()
    assert len(hub.here()) == held + 2
    for name in hub.systems:  # gone at both of them, so gone here
        hub.systems[name].delete("people", [hub.key(name, "made@here.example")])
    hub.cycle(full=True)
    hub.assert_equal()
    assert len(hub.here()) == held + 1


@pytest.mark.parametrize("policy", POLICIES)
def test_different_fields_of_both_sides_are_merged(hub: Hub, two: Callable[[str], str], policy: str) -> None:
    email = two(policy)
    hub.edit("UPDATE canonical.person SET city = 'Ours' WHERE email = %s", email)
    hub.systems["crm"].update("people", [hub.key("crm", email)], {"name": "Theirs"})
    hub.cycle()
    hub.cycle()
    assert hub.here()[email] == ("Theirs", "Ours")
    hub.assert_equal()


@pytest.mark.parametrize(
    ("policy", "stands"),
    [("remote_wins", "Theirs"), ("local_wins", "Ours"), ("newest_wins", "Theirs"), ("review", "Ours")],
)
def test_the_same_field_of_both_sides_goes_by_the_policy(
    hub: Hub, two: Callable[[str], str], policy: str, stands: str
) -> None:
    """The source's change is the newer one."""
    email = two(policy)
    hub.edit("UPDATE canonical.person SET city = 'Ours' WHERE email = %s", email)
    hub.systems["crm"].update("people", [hub.key("crm", email)], {"city": "Theirs"})
    hub.cycle()
    assert hub.here()[email][1] == stands
    if policy == "review":
        assert hub.there("crm")[email][1] == "Theirs"
        with psycopg.connect(hub.house.database_url, autocommit=True) as session:
            (found,) = open_conflicts(session)
        assert (found.ours, found.theirs) == ("Ours", "Theirs")
        hub.decide("theirs")
    hub.cycle()
    hub.cycle()
    hub.assert_equal()


def test_an_older_change_there_does_not_win_over_a_newer_one_here(hub: Hub, two: Callable[[str], str]) -> None:
    email = two("newest_wins")
    hub.systems["crm"].update("people", [hub.key("crm", email)], {"city": "Theirs"})
    hub.edit("UPDATE canonical.person SET city = 'Ours', name = name WHERE email = %s", email)
    hub.cycle()
    hub.cycle()
    assert hub.here()[email][1] == "Ours"
    hub.assert_equal()


@pytest.mark.parametrize("faults", [[], ["normalise upper"]], ids=["as written", "in a form of its own"])
def test_three_systems_agree_within_two_cycles_and_then_nothing_moves(hub: Hub, faults: list[str]) -> None:
    """Each holds people the others don't have; one of them keeps what it is sent in a form of its own."""
    for number, name in enumerate(("crm", "pay", "shop")):
        hub.join(name, records=5 + number).insert("people", [{"email": f"only@{name}.example"}])
    hub.systems["pay"].faults.switch(faults)
    hub.cycle()
    hub.cycle()
    if not faults:
        hub.assert_equal()
    assert len(hub.here()) == 10
    assert {name: len(hub.there(name)) for name in hub.systems} == dict.fromkeys(hub.systems, 10)
    writes, state = hub.writes(), hub.house.rows(STATE)
    for number in range(IDLE_CYCLES):
        assert hub.cycle(full=number % 5 == 4) == 0
    assert hub.writes() == writes
    assert hub.house.rows(STATE) == state
