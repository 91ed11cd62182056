"""The inbox: one row per event, leased by one run at a time, done or dead at last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.errors import DestinationError, LeaseHeld
from integrations_pipeline.spec.limits import EVENT_TRIES
from integrations_pipeline.store import inbox
from integrations_pipeline.store.disconnecting import drop
from integrations_pipeline.store.inbox import Event

Connect = Callable[[], psycopg.Connection[Any]]
WHY = {"class": "data", "message": "no", "where": "crm", "who": "somebody", "next": "look"}
SOON = timedelta(seconds=-1)
"""A hold that has run out already: the run was killed."""


def event(id: str | None, payload: str = '{"a": 1}', connection: str = "crm", **more: Any) -> Event:
    digest = hashlib.blake2b(payload.encode(), digest_size=16).digest()
    return Event(connection, id, digest, more.get("type", "x"), more.get("order"), payload, "{}")


@pytest.fixture
def session(connect: Connect) -> Iterator[psycopg.Connection[Any]]:
    with connect() as session:
        yield session


def statuses(session: psycopg.Connection[Any]) -> dict[str, str]:
    return dict(session.execute("SELECT event_id, status FROM integrations.inbox").fetchall())


def fill(session: psycopg.Connection[Any], count: int, connection: str = "crm") -> None:
    assert not inbox.append(session, [event(f"e{n}", connection=connection) for n in range(count)])


def test_the_same_event_is_one_row_and_the_same_id_with_another_body_is_two(session: psycopg.Connection[Any]) -> None:
    inbox.append(session, [event("a"), event("a"), event("a", '{"a": 2}')])
    inbox.append(session, [event("a"), event("a", connection="shop")])
    assert inbox.counts(session) == {"crm": {"received": 2}, "shop": {"received": 1}}


@pytest.mark.parametrize("id", [None, "", "x" * 3_000, "ü" * 1_500])
def test_an_id_that_no_index_holds_is_replaced_by_the_hash(session: psycopg.Connection[Any], id: str | None) -> None:
    one = event(id)
    inbox.append(session, [one, one])
    assert statuses(session) == {one.hash.hex(): "received"}


def test_texts_no_database_takes_are_kept_in_another_form(session: psycopg.Connection[Any]) -> None:
    hostile = event("a\0\ud800", '{"n": "\\u0000", "s": "\\ud800"}', type="t\0", order="\udfff")
    assert not inbox.append(session, [hostile])
    (kept,) = inbox.lease(session, "crm", limit=10).events
    assert (kept.event_id, kept.event_type, kept.order_value) == ("a\\u0000\\ud800", "t\\u0000", "\\udfff")
    assert kept.payload["n"] == "\0"


def test_one_that_cannot_be_stored_costs_the_others_nothing(session: psycopg.Connection[Any]) -> None:
    events = [event(f"e{n}", "{" if n in (3, 7) else f"[{n}]") for n in range(10)]
    assert inbox.append(session, events) == {3, 7}
    assert len(statuses(session)) == 8


def test_two_runs_never_hold_the_same_event(session: psycopg.Connection[Any], connect: Connect) -> None:
    fill(session, 25)
    fill(session, 3, "shop")
    with connect() as other:
        first, second = inbox.lease(session, "crm", limit=10), inbox.lease(other, "crm", limit=100)
    assert [one.event_id for one in first.events] == [f"e{n}" for n in range(10)]
    assert [one.event_id for one in second.events] == [f"e{n}" for n in range(10, 25)]
    assert inbox.lease(session, "crm", limit=10).events == []
    assert [one[:2] for one in inbox.waiting(session)] == [("shop", 3)]


def test_done_is_part_of_the_transaction_that_applied_it(session: psycopg.Connection[Any]) -> None:
    fill(session, 2)
    batch = inbox.lease(session, "crm", limit=10)
    outcomes = {one.id: "applied" for one in batch.events}
    with pytest.raises(ZeroDivisionError), session.transaction():
        inbox.mark_done(session, batch, outcomes)
        raise ZeroDivisionError
    assert inbox.counts(session) == {"crm": {"leased": 2}}
    with session.transaction():
        inbox.mark_done(session, batch, outcomes)
    assert inbox.counts(session) == {"crm": {"done": 2}}


def test_a_run_that_lost_its_lease_can_mark_nothing(session: psycopg.Connection[Any]) -> None:
    fill(session, 1)
    slow = inbox.lease(session, "crm", limit=10, hold=SOON)
    quick = inbox.lease(session, "crm", limit=10)
    assert [one.id for one in quick.events] == [one.id for one in slow.events]
    with pytest.raises(LeaseHeld):
        inbox.mark_done(session, slow, {one.id: "applied" for one in slow.events})
    assert not inbox.mark_failed(session, slow, slow.events[0].id, WHY)
    inbox.give_back(session, slow)
    assert inbox.counts(session) == {"crm": {"leased": 1}}
    inbox.mark_done(session, quick, {one.id: "applied" for one in quick.events})


def test_a_long_run_keeps_what_it_holds(session: psycopg.Connection[Any]) -> None:
    fill(session, 1)
    batch = inbox.lease(session, "crm", limit=1, hold=SOON)
    inbox.extend(session, batch)
    assert inbox.lease(session, "crm", limit=1).events == []


def due(session: psycopg.Connection[Any]) -> None:
    session.execute("UPDATE integrations.inbox SET next_try_at = now() WHERE next_try_at IS NOT NULL")


def test_a_poison_event_ends_as_a_dead_letter_and_holds_nobody_up(session: psycopg.Connection[Any]) -> None:
    fill(session, 3)
    for attempt in range(1, EVENT_TRIES + 1):
        batch = inbox.lease(session, "crm", limit=10)
        for one in batch.events:
            if one.event_id == "e1":
                assert one.tries == attempt
                assert inbox.mark_failed(session, batch, one.id, WHY) is (attempt == EVENT_TRIES)
            else:
                inbox.mark_done(session, batch, {one.id: "applied"})
        assert inbox.lease(session, "crm", limit=10).events == []  # it waits, longer each time
        due(session)
    assert statuses(session) == {"e0": "done", "e1": "dead", "e2": "done"}
    letters = session.execute(
        "SELECT origin, connection, reason, tries, status FROM integrations.dead_letter"
    ).fetchall()
    assert letters == [("inbox", "crm", WHY, EVENT_TRIES, "open")]


def test_an_event_that_kills_its_run_is_parted_from_the_others(session: psycopg.Connection[Any]) -> None:
    fill(session, 300)
    for _ in range(1_000):
        batch = inbox.lease(session, "crm", limit=200)
        if any(one.event_id == "e123" for one in batch.events):
            session.execute(
                "UPDATE integrations.inbox SET leased_until = now() - interval '1 s' WHERE status = 'leased'"
            )
        elif batch.events:
            inbox.mark_done(session, batch, {one.id: "applied" for one in batch.events})
        else:
            break
    assert inbox.counts(session) == {"crm": {"done": 299, "dead": 1}}
    assert statuses(session)["e123"] == "dead"


def test_what_a_run_gives_back_was_no_try(session: psycopg.Connection[Any]) -> None:
    fill(session, 2)
    batch = inbox.lease(session, "crm", limit=10)
    inbox.mark_done(session, batch, {batch.events[0].id: "applied"})
    inbox.give_back(session, batch)
    (again,) = inbox.lease(session, "crm", limit=10).events
    assert (again.event_id, again.tries) == ("e1", 1)


def test_people_replay_and_discard_but_not_what_a_run_holds(session: psycopg.Connection[Any]) -> None:
    fill(session, 4)
    ids = dict(session.execute("SELECT event_id, id FROM integrations.inbox").fetchall())
    for _ in range(EVENT_TRIES):
        due(session)
        batch = inbox.lease(session, "crm", limit=1)
        inbox.mark_failed(session, batch, batch.events[0].id, WHY)
        for one in ("e1", "e2", "e3"):
            session.execute("UPDATE integrations.inbox SET tries = 9 WHERE event_id = %s", [one])
    session.execute("UPDATE integrations.inbox SET tries = 0, next_try_at = NULL WHERE status = 'received'")
    held = inbox.lease(session, "crm", limit=1).events[0].event_id
    assert statuses(session) == {"e0": "dead", "e1": "leased", "e2": "received", "e3": "received"} and held == "e1"
    assert inbox.discard(session, [ids["e1"], ids["e2"]], WHY) == [ids["e2"]]
    assert sorted(inbox.replay(session, [ids["e0"], ids["e1"], ids["e2"]])) == [ids["e0"], ids["e2"]]
    assert inbox.discard(session, [ids["e0"]]) == [ids["e0"]]
    letters = session.execute("SELECT status, closed_at IS NULL FROM integrations.dead_letter").fetchall()
    assert letters == [("replayed", False)]
    assert inbox.replay(session, [ids["e0"]]) == [ids["e0"]]
    assert inbox.lease(session, "crm", limit=10).events[0].tries == 1


def test_dropping_a_connection_takes_its_events_along(session: psycopg.Connection[Any]) -> None:
    fill(session, 2)
    fill(session, 1, "shop")
    drop(session, "crm", keep_data=True)
    assert inbox.counts(session) == {"crm": {"received": 2}, "shop": {"received": 1}}
    drop(session, "crm", keep_data=False)
    assert inbox.counts(session) == {"shop": {"received": 1}}


def test_a_lost_database_is_said_so(connect: Connect) -> None:
    with connect() as session, connect() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
        with pytest.raises(DestinationError):
            inbox.append(session, [event("a")])
