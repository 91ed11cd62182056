"""What is changed here reaches the source: each effect once, in order, and lost answers never make two objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from integrations_pipeline.spec.limits import PUSH_MERGES, PUSH_TRIES
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store import outbox
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import push as pushing
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.patience import until
from integrations_pipeline_tests.sync.provider import BATCHED, CONDITIONAL, FINDABLE, KEYED, LOST, Desk, Provider


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """A provider with Anna and Bert, synced once."""
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.add(name="Bert", email="bert@a.example")
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        yield desk


def test_an_edit_leaves_and_its_echo_is_no_news(desk: Desk) -> None:
    desk.edit("Anna", email="anna@b.example")
    found = desk.push()
    assert (found.changes, found.landed, found.status) == ({"sent": 1}, 1, "succeeded")
    assert desk.provider.people["p1"]["email"] == "anna@b.example"
    assert [one.json for one in desk.sent()] == [{"email": "anna@b.example"}]
    assert desk.rows("SELECT payload ->> 'email' FROM raw.crm__people WHERE external_id = 'p1'") == [
        ("anna@b.example",)
    ]
    (stream,) = desk.sync().streams
    assert (stream.counters.unchanged, stream.counters.fetched) == (2, 2)
    assert not desk.push().changes and len(desk.sent()) == 1


def test_a_create_that_was_polled_before_it_was_found_takes_its_references_along(desk: Desk) -> None:
    desk.write |= FINDABLE
    desk.provider.after = lambda seen: LOST if seen.method == "POST" else None
    mine = desk.insert("Cleo", email="cleo@a.example")
    assert desk.push().changes == {"unsure": 1}
    desk.provider.after = lambda seen: None
    desk.provider.add(name="Dora", boss="p3")
    desk.sync()
    desk.edit("Dora", email="dora@a.example")
    desk.due()
    assert desk.push().changes == {"read_back": 1, "sent": 1}, desk.outbox("reason ->> 'message'")
    assert desk.rows("SELECT boss::text FROM canonical.person WHERE name = 'Dora'") == [(mine,)]
    assert desk.provider.people["p4"]["email"] == "dora@a.example"


def test_a_refused_change_is_sent_once_though_another_transaction_is_open(desk: Desk) -> None:
    """As any long report leaves one open: edits are looked at again until it ends."""
    desk.write |= {"update": "PUT /people/<external_id>"}
    desk.push()
    desk.provider.instead = lambda seen: Reply({}, 422) if seen.method == "PUT" else None
    with psycopg.connect(desk.database_url) as other:
        other.execute("SELECT pg_current_xact_id()")
        desk.edit("Anna", email="bad@b.example")
        assert desk.push(limit=5).changes == {"dead": 1}
        assert desk.push(limit=5).changes == {}
    assert len(desk.sent("PUT")) == 1
    desk.edit("Anna", email="other@b.example")
    desk.edit("Anna", email="bad@b.example")
    assert desk.push().changes == {"dead": 1}, "the same edit made again is a new one"


def test_a_record_made_here_is_created_once_and_deleted_there_once(desk: Desk) -> None:
    desk.insert("Cleo", email="cleo@a.example")
    assert desk.push().changes == {"sent": 1}
    assert desk.provider.people["p3"]["name"] == "Cleo"
    assert desk.rows("SELECT external_id FROM integrations.link WHERE deleted_at IS NULL ORDER BY 1") == [
        ("p1",), ("p2",), ("p3",)
    ]  # fmt: skip
    desk.rows("DELETE FROM canonical.person WHERE name = 'Cleo'")
    assert desk.push().changes == {"sent": 1}
    assert "p3" not in desk.provider.people
    assert desk.rows("SELECT deleted_at IS NOT NULL FROM raw.crm__people ORDER BY external_id") == [
        (False,), (False,), (True,)
    ]  # fmt: skip
    desk.sync()
    assert not desk.push().changes
    assert desk.rows("SELECT count(*) FROM canonical.person WHERE deleted_at IS NULL") == [(2,)]


def test_what_the_source_normalises_does_not_come_back_as_a_change(desk: Desk) -> None:
    desk.provider.normalise = lambda fields: (
        {**fields, "email": fields["email"].lower()} if "email" in fields else fields
    )
    desk.edit("Anna", email="ANNA@B.example")
    desk.push()
    for _ in range(3):
        desk.sync()
        assert not desk.push().changes
    assert len(desk.sent()) == 1
    assert desk.rows("SELECT email FROM canonical.person WHERE name = 'Anna'") == [("ANNA@B.example",)]


def test_what_was_taken_back_before_its_turn_is_not_sent(desk: Desk) -> None:
    desk.provider.instead = lambda seen: Reply({"error": "later"}, 429, {"Retry-After": "300"})
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {}
    desk.edit("Anna", email="anna@a.example")
    desk.provider.instead = lambda seen: None
    desk.due()
    assert desk.push().changes == {"nothing_to_send": 1}
    assert desk.outbox() == [("update", "done", "nothing_to_send")]


def test_while_the_source_is_down_edits_coalesce_and_what_counts_leaves_when_it_is_back(desk: Desk) -> None:
    desk.provider.instead = lambda seen: Reply({"error": "busy"}, 429, {"Retry-After": "300"})
    for number in range(3):
        desk.edit("Anna", email=f"anna@{number}.example")
        desk.edit("Bert", email=f"bert@{number}.example")
        found = desk.push()
        assert (found.status, found.error and found.error.error_class) == ("deferred", "rate_limited")
        desk.due()
    desk.source.seen.clear()
    desk.provider.instead = lambda seen: None
    assert desk.push().changes == {"sent": 2}
    assert sorted(one.json["email"] for one in desk.sent()) == ["anna@2.example", "bert@2.example"]


def test_changes_of_one_record_leave_in_their_order(desk: Desk) -> None:
    """An edit comes while the one before it is being sent."""
    edits = iter(["second", "third"])

    def after(seen: Seen) -> None:
        if seen.method == "PATCH" and (name := next(edits, None)):
            desk.rows("UPDATE canonical.person SET email = %s WHERE name = 'Anna'", name)

    desk.provider.after = after
    desk.edit("Anna", email="first")
    assert desk.push().changes == {"sent": 3}
    assert [one.json["email"] for one in desk.sent()] == ["first", "second", "third"]


def lost_once(methods: tuple[str, ...] = ("POST",), *, done: bool = True) -> Callable[[Provider], None]:
    def prepare(provider: Provider) -> None:
        left = [True]

        def fault(seen: Seen) -> Reply | None:
            if seen.method in methods and left:
                left.clear()
                return LOST
            return None

        if done:
            provider.after = fault
        else:
            provider.instead = fault

    return prepare


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_a_lost_create_is_sent_again_with_its_key(desk: Desk, done: bool) -> None:
    desk.write |= KEYED
    lost_once(done=done)(desk.provider)
    desk.insert("Cleo")
    assert desk.push().changes == {"unsure": 1}
    ((key, sent_at),) = desk.outbox("idempotency_key::text, first_sent_at")
    desk.insert("Dora")
    desk.due()
    assert desk.push().changes == {"sent": 2}
    assert [one.headers["Idempotency-Key"] for one in desk.sent() if one.json["name"] == "Cleo"] == [key, key]
    assert desk.outbox("first_sent_at")[0] == (sent_at,)
    assert sorted(one["name"] for one in desk.provider.people.values()) == ["Anna", "Bert", "Cleo", "Dora"]


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_of_a_source_that_keeps_no_key_a_lost_create_is_looked_for(desk: Desk, done: bool) -> None:
    desk.provider.keeps = False
    desk.write |= FINDABLE
    lost_once(done=done)(desk.provider)
    desk.insert("Cleo")
    assert desk.push().changes == {"unsure": 1}
    desk.due()
    assert desk.push().changes == ({"read_back": 1} if done else {"sent": 1})
    assert [one["name"] for one in desk.provider.people.values()].count("Cleo") == 1
    desk.sync()
    assert not desk.push().changes


def test_a_key_that_is_kept_no_longer_is_not_relied_upon(desk: Desk) -> None:
    desk.provider.keeps = False
    desk.write |= {**KEYED, **FINDABLE}
    lost_once()(desk.provider)
    desk.insert("Cleo")
    desk.push()
    desk.rows("UPDATE integrations.outbox SET first_sent_at = now() - interval '1 day', next_try_at = NULL")
    assert desk.push().changes == {"read_back": 1}
    assert len(desk.sent("POST")) == 1


def test_the_read_lag_is_waited_out_before_a_create_is_looked_for(desk: Desk) -> None:
    desk.provider.keeps = False
    desk.write |= {**FINDABLE, "find": {**FINDABLE["find"], "lag": "1h"}}
    lost_once()(desk.provider)
    desk.insert("Cleo")
    desk.push()
    assert desk.outbox("next_try_at > now() + interval '50 minutes'") == [(True,)]
    assert not desk.push().changes


def test_a_lost_create_that_nothing_can_settle_waits_for_a_person(desk: Desk) -> None:
    desk.provider.after = lambda seen: LOST if seen.method == "POST" and seen.json["name"] == "Cleo" else None
    cleo = desk.insert("Cleo")
    desk.insert("Dora")
    found = desk.push()
    assert (found.changes, found.status) == ({"parked": 1, "sent": 1}, "failed")
    desk.rows("UPDATE canonical.person SET email = 'c@a.example' WHERE id = %s", cleo)
    desk.due()
    assert not desk.push().changes, "neither it nor what is behind it is sent"
    (reason,) = desk.rows("SELECT reason FROM integrations.outbox WHERE status = 'parked'")[0]
    assert reason["who"] == "the person who runs this connection" and "integrations outbox resolve" in reason["next"]
    assert len(desk.sent("POST")) == 2


def test_a_lost_update_and_a_lost_delete_are_simply_sent_again(desk: Desk) -> None:
    for methods in (("PATCH",), ("DELETE",)):
        lost_once(methods)(desk.provider)
        desk.edit("Anna", email="anna@b.example")
        desk.rows("DELETE FROM canonical.person WHERE name = 'Bert' AND %s", methods == ("DELETE",))
        assert desk.push().changes == {"unsure": 1}
        desk.due()
        again = desk.push().changes
        assert again == {"sent": 1}, again
    assert [*desk.provider.people] == ["p1"]


def test_what_is_refused_for_good_is_a_letter_and_holds_up_nobody(desk: Desk) -> None:
    refusals = {"Cleo": 422, "Dora": 409, "Emil": 400}
    desk.provider.instead = lambda seen: (
        Reply({"error": "no"}, refusals[seen.json["name"]])
        if seen.method == "POST" and seen.json["name"] in refusals
        else None
    )
    for name in [*refusals, "Fred"]:
        desk.insert(name)
    found = desk.push()
    assert (found.changes, found.status) == ({"dead": 3, "sent": 1}, "failed")
    letters = desk.rows("SELECT reason ->> 'class' FROM integrations.dead_letter WHERE origin = 'outbox' ORDER BY 1")
    assert letters == [("config",), ("conflict",), ("data",)]
    assert not desk.push().changes


def test_an_update_of_what_is_gone_is_a_letter_and_a_delete_of_it_is_done(desk: Desk) -> None:
    del desk.provider.people["p1"], desk.provider.people["p2"]
    desk.edit("Anna", email="anna@b.example")
    desk.rows("DELETE FROM canonical.person WHERE name = 'Bert'")
    assert desk.push().changes == {"dead": 1, "sent": 1}
    assert desk.rows("SELECT deleted_at IS NOT NULL FROM raw.crm__people ORDER BY external_id") == [(False,), (True,)]


def test_a_record_changed_there_meanwhile_is_merged_and_sent_again(desk: Desk) -> None:
    desk.write |= CONDITIONAL
    desk.provider.edit("p1", name="Annabel")
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {"merged_again": 1, "sent": 1}
    assert desk.provider.people["p1"] | {"name": "Annabel", "email": "anna@b.example"} == desk.provider.people["p1"]
    assert desk.rows("SELECT name, email FROM canonical.person ORDER BY 1") == [
        ("Annabel", "anna@b.example"), ("Bert", "bert@a.example")
    ]  # fmt: skip
    desk.sync()
    assert not desk.push().changes


def test_a_record_that_always_changes_is_given_up(desk: Desk) -> None:
    desk.write |= CONDITIONAL
    desk.provider.instead = lambda seen: desk.provider.edit("p1") if seen.method == "PATCH" else None
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {"merged_again": PUSH_MERGES - 1, "dead": 1}


def test_a_reference_waits_for_its_record_and_goes_right_after_it(desk: Desk) -> None:
    boss = desk.insert("Cleo")
    desk.insert("Dora", boss=boss)
    assert desk.push().changes["sent"] == 2
    people = {one["name"]: one for one in desk.provider.people.values()}
    assert people["Dora"]["boss"] == people["Cleo"]["id"]


def test_new_records_that_point_to_each_other_or_to_themselves_reach_the_source(desk: Desk) -> None:
    """They can't wait for each other for ever: one is created without the reference, which follows."""
    people = {name: str(uuid4()) for name in ("Cleo", "Dora", "Emil")}
    bosses = {"Cleo": "Dora", "Dora": "Cleo", "Emil": "Emil"}
    values = ", ".join(f"('{people[name]}', '{name}', '{people[boss]}')" for name, boss in bosses.items())
    desk.rows(f"INSERT INTO canonical.person (id, name, boss) VALUES {values}")
    for _ in range(4):
        desk.push()
        desk.due()
    ids = {one["name"]: one["id"] for one in desk.provider.people.values()}
    found = {one["name"]: one["boss"] for one in desk.provider.people.values() if one["boss"]}
    assert found == {name: ids[boss] for name, boss in bosses.items()}
    assert len(desk.sent("POST")) == 3
    desk.sync()
    assert not desk.push().changes
    assert desk.rows("SELECT count(*) FROM integrations.outbox WHERE status <> 'done'") == [(0,)]


def test_an_answer_lands_when_the_poll_that_held_the_stream_ends(desk: Desk) -> None:
    desk.edit("Anna", email="anna@b.example")
    with Store(desk.database_url) as store, take_lease(store.connect, "crm", "people", uuid4()):
        found = desk.push()
    assert (found.changes, found.landed) == ({"sent": 1}, 0)
    assert desk.outbox() == [("update", "answered", "sent")]
    desk.sync()
    assert desk.outbox() == [("update", "done", "sent")]


def test_a_retry_by_hand_does_not_look_before_the_source_would_show_it(desk: Desk) -> None:
    """Within its read lag a search finds nothing, whatever is there."""
    desk.write |= {**FINDABLE, "find": {**FINDABLE["find"], "lag": "1h"}}
    lost_once()(desk.provider)
    desk.insert("Cleo")
    assert desk.push().changes == {"unsure": 1}
    ((number, planned),) = desk.outbox("id, next_try_at")
    with Store(desk.database_url) as store, store.borrow() as session:
        assert outbox.retry(session, [number]) == [number]
    assert desk.push().changes == {"unsure": 1}
    assert [one.path for one in desk.sent()] == ["/people"] and not [s for s in desk.source.seen if s.path == "/find"]
    ((status, tries, again),) = desk.outbox("status, tries, next_try_at")
    assert (status, tries) == ("unsure", 1) and abs((again - planned).total_seconds()) < 60


def test_a_create_parked_after_too_many_tries_is_sent_again_once_a_person_says_it_is_not_there(desk: Desk) -> None:
    desk.write |= KEYED
    desk.provider.instead = lambda seen: LOST if seen.method == "POST" else None
    desk.insert("Cleo")
    assert desk.push().changes == {"unsure": 1}
    desk.rows("UPDATE integrations.outbox SET tries = %s", PUSH_TRIES)
    desk.due()
    desk.sync()
    assert desk.push().changes == {"parked": 1}
    desk.provider.instead = lambda seen: None
    ((number,),) = desk.outbox("id")
    with Store(desk.database_url) as store, store.borrow() as session:
        assert outbox.not_there(session, number)
    assert desk.push().changes == {"sent": 1}


def test_a_missing_permission_for_all_kills_no_change(desk: Desk) -> None:
    desk.provider.instead = lambda seen: Reply({"error": "scope"}, 403) if seen.method == "PATCH" else None
    desk.rows("UPDATE canonical.person SET email = 'new'")
    for _ in range(3):
        found = desk.push()
        assert (found.status, found.error and found.error.error_class) == ("failed", "permission")
        desk.due()
    assert desk.outbox("status, tries, reason ->> 'class'") == [("queued", 0, "permission")] * 2
    desk.provider.instead = lambda seen: None
    assert desk.push().changes == {"sent": 2}


def test_one_record_that_may_not_be_written_holds_up_no_other(desk: Desk) -> None:
    desk.provider.instead = lambda seen: Reply({}, 403) if (seen.method, seen.path) == ("PATCH", "/people/p1") else None
    desk.rows("UPDATE canonical.person SET email = 'new'")
    assert desk.push().changes == {"put_off": 1, "sent": 1}
    desk.edit("Bert", email="newer")
    assert desk.push().changes == {"sent": 1}
    desk.due()
    assert desk.push().changes == {"dead": 1}
    assert desk.rows("SELECT reason ->> 'class' FROM integrations.dead_letter") == [("permission",)]


def test_what_was_changed_while_the_whole_record_waited_goes_out_once_it_is_brought_back(desk: Desk) -> None:
    desk.write |= {"conflict": {"default": "review"}}
    desk.rows("DELETE FROM canonical.person WHERE name = 'Anna'")
    desk.provider.edit("p1", name="Annabel")
    desk.sync()
    assert desk.rows("SELECT field, reason FROM integrations.conflict WHERE status = 'open'") == [
        ("", "deleted here, changed at the source")
    ]
    desk.rows(
        "UPDATE canonical.person SET deleted_at = NULL, email = 'back@a.example' WHERE name IN ('Anna', 'Annabel')"
    )
    assert desk.push().changes == {"sent": 1}
    assert desk.provider.people["p1"]["email"] == "back@a.example"
    assert desk.rows("SELECT 1 FROM integrations.conflict WHERE status = 'open'") == []


def test_what_was_made_there_without_a_record_in_the_answer_and_deleted_before_any_read_is_deleted_here(
    desk: Desk,
) -> None:
    desk.stream |= {"deletes": {"snapshot": "1d", "at_most": "100%"}}
    desk.sync()
    desk.provider.after = lambda seen: Reply({"id": "p3"}, 201) if seen.method == "POST" else None
    desk.insert("Cleo")
    assert desk.push().changes == {"sent": 1}
    del desk.provider.people["p3"]
    desk.rows("UPDATE integrations.link SET linked_at = linked_at - interval '2 hours' WHERE external_id = 'p3'")
    for _ in range(2):  # a refresh that began before the write may have missed it: the one after tells
        with desk.opened() as parts:
            assert sync(*parts, full=True, now=True).status == "succeeded"
    assert desk.rows("SELECT name FROM canonical.person WHERE deleted_at IS NULL ORDER BY name") == [
        ("Anna",),
        ("Bert",),
    ]
    assert desk.rows("SELECT 1 FROM integrations.link WHERE external_id = 'p3' AND deleted_at IS NULL") == []
    assert desk.push().changes == {}


def test_a_record_changed_there_meanwhile_waits_for_the_next_read_where_none_can_be_read_alone(desk: Desk) -> None:
    desk.write |= CONDITIONAL
    desk.stream = {key: value for key, value in desk.stream.items() if key != "get"}
    desk.provider.edit("p1", name="Annabel")
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {"merged_again": 1}
    for _ in range(PUSH_MERGES + 1):
        desk.due()
        assert desk.push().changes == {"put_off": 1}
    assert len(desk.sent()) == 1
    desk.sync()
    desk.due()
    assert desk.push().changes == {"sent": 1}
    assert desk.provider.people["p1"] | {"name": "Annabel", "email": "anna@b.example"} == desk.provider.people["p1"]


def test_a_dead_letter_is_closed_once_its_record_is_known_to_be_gone(desk: Desk) -> None:
    desk.stream = {**desk.stream, "deletes": {"snapshot": "1h", "at_most": "100%"}}
    desk.write |= {"when_deleted": "remote_wins"}
    del desk.provider.people["p1"]
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {"dead": 1}
    with desk.opened() as parts:
        assert sync(*parts, now=True, full=True).status == "succeeded"
    desk.push()
    assert desk.rows("SELECT status FROM integrations.dead_letter") == [("discarded",)]
    assert desk.outbox("status, reason ->> 'message'") == [("discarded", "the record is no longer at the source")]


def test_credentials_that_are_refused_cost_no_try(desk: Desk) -> None:
    desk.provider.instead = lambda seen: Reply({}, 401) if seen.method == "PATCH" else None
    desk.edit("Anna", email="anna@b.example")
    found = desk.push()
    assert (found.status, found.error and found.error.error_class) == ("failed", "credentials")
    assert desk.outbox("status, tries, reason ->> 'class'") == [("queued", 0, "credentials")]


def test_two_pushes_at_once_send_each_change_once(desk: Desk) -> None:
    for number in range(40):
        desk.insert(f"P{number}")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(desk.push())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.changes["sent"] for one in found) == 40
    assert len(desk.provider.people) == 42 and len(desk.sent("POST")) == 40


def test_changes_alike_share_a_request_and_each_has_an_outcome_of_its_own(desk: Desk) -> None:
    for number in range(23):
        desk.provider.add(name=f"P{number}")
    desk.sync()
    desk.write |= BATCHED
    desk.rows("UPDATE canonical.person SET email = name WHERE name LIKE 'P%%'")
    desk.rows("UPDATE canonical.person SET name = '' WHERE name = 'P7'")
    assert desk.push().changes == {"sent": 22, "dead": 1}
    assert sorted(len(one.json["inputs"]) for one in desk.sent()) == [3, 10, 10]
    people = [one for one in desk.provider.people.values() if one["name"].startswith("P")]
    assert [one["name"] for one in people if one["email"] != one["name"]] == ["P7"]
    desk.sync()
    assert not desk.push().changes


def test_a_lost_batch_is_settled_one_by_one(desk: Desk) -> None:
    desk.write |= BATCHED
    desk.provider.after = lambda seen: LOST if seen.path == "/batch" else None
    desk.rows("UPDATE canonical.person SET email = name")
    assert desk.push().changes == {"unsure": 2}
    desk.due()
    assert desk.push().changes == {"sent": 2}
    assert sorted(one.path for one in desk.sent()) == ["/batch", "/people/p1", "/people/p2"]


def test_what_replaces_the_record_sends_what_nobody_edited_just_as_it_stands_there(desk: Desk) -> None:
    desk.write |= {"update": "PUT /people/<external_id>"}
    email = {"from": "email", "apply": ["trim", "lower"]}
    desk.stream = {**desk.stream, "map": {"to": "person", "fields": {**desk.stream["map"]["fields"], "email": email}}}
    desk.provider.edit("p1", email="  Anna@A.example ")
    desk.sync()
    desk.edit("Anna", name="Annie")
    assert desk.push().changes == {"sent": 1}
    assert [one.json for one in desk.sent("PUT")] == [{"name": "Annie", "email": "  Anna@A.example ", "boss": None}]
    desk.sync()
    assert not desk.push().changes


def test_what_replaces_the_record_sends_the_last_edit_though_it_was_not_read_yet(desk: Desk) -> None:
    desk.write |= {"update": "PUT /people/<external_id>"}
    desk.provider.after = lambda seen: Reply(status=204) if seen.method == "PUT" else None
    desk.edit("Anna", email="new@a.example")
    desk.push()
    desk.edit("Anna", name="Annie")
    desk.push()
    assert [one.json["email"] for one in desk.sent("PUT")] == ["new@a.example"] * 2


def test_what_replaces_the_record_sends_all_of_it(desk: Desk) -> None:
    """A field that nobody touched goes as the source has it, also where our form of it is another one."""
    desk.write |= {"update": "PUT /people/<external_id>", "conflict": {"default": "remote_wins"}}
    desk.provider.normalise = lambda fields: {**fields, "name": (fields.get("name") or "").upper()}
    desk.edit("Anna", name="Annie")
    desk.push()
    desk.rows("UPDATE canonical.person SET email = 'a@new.example' WHERE name = 'Annie'")
    desk.push()
    assert [one.json for one in desk.sent("PUT")] == [
        {"name": "Annie", "email": "anna@a.example", "boss": None},
        {"name": "Annie", "email": "a@new.example", "boss": None},
    ]
    desk.sync()
    assert not desk.push().changes


def test_through_an_outage_everything_is_kept_and_leaves_afterwards(desk: Desk) -> None:
    """Every request is answered 503: the breaker opens, and what waits is not tried up."""
    desk.write |= KEYED
    for number in range(30):
        desk.insert(f"P{number}")
    desk.provider.instead = lambda seen: Reply({"error": "down"}, 503)
    found = desk.push()
    assert found.status == "deferred" and found.error is not None and found.error.error_class == "breaker_open"
    assert found.requests < 30 and len(desk.provider.people) == 2
    desk.provider.instead = lambda seen: None
    desk.rows("DELETE FROM integrations.breaker")
    desk.due()
    assert desk.push().changes["sent"] == 30
    assert len(desk.provider.people) == 32
    assert desk.rows("SELECT count(*) FROM integrations.dead_letter") == [(0,)]


def test_what_only_fails_while_others_go_through_is_given_up(desk: Desk) -> None:
    desk.edit("Anna", email="poison")
    desk.provider.instead = lambda seen: (
        Reply({}, 500) if seen.method == "PATCH" and "poison" in str(seen.json) else None
    )
    assert desk.push().changes == {"unsure": 1}
    desk.rows("UPDATE integrations.outbox SET tries = %s", PUSH_TRIES)
    desk.due()
    assert desk.push().changes == {"unsure": 1}, "the source has answered nothing else since: it may be down"
    desk.edit("Bert", email="bert@b.example")
    assert desk.push().changes == {"sent": 1}
    desk.due()
    assert desk.push().changes == {"dead": 1}


def test_an_edit_that_comes_while_its_write_is_under_way_is_not_lost(desk: Desk) -> None:
    """The source's own edit is taken while ours is on its way; what the write overwrote there is sent again."""

    def meanwhile(seen: Seen) -> None:
        if seen.method == "PATCH" and len(desk.sent()) == 1:
            desk.rows("UPDATE canonical.person SET email = 'theirs@a.example' WHERE name = 'Anna'")

    desk.provider.after = meanwhile
    desk.edit("Anna", email="ours@a.example")
    desk.push()
    assert desk.provider.people["p1"]["email"] == "theirs@a.example"
    desk.sync()
    assert not desk.push().changes


def test_a_conflict_of_a_source_without_get_waits_for_the_poll(desk: Desk) -> None:
    desk.write |= CONDITIONAL
    desk.stream["get"] = None
    desk.provider.edit("p1", name="Annabel")
    desk.edit("Anna", email="anna@b.example")
    assert desk.push().changes == {"merged_again": 1}
    desk.sync()
    desk.due()
    assert desk.push().changes == {"sent": 1}
    assert desk.provider.people["p1"]["name"] == "Annabel"


def test_a_long_push_lets_reads_through(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both want all of the rate limit: a read is answered long before the last change has left."""
    monkeypatch.setattr(pushing, "LOOK_SECONDS", 0.0)
    desk.limits = ["20 per 1s"]
    for number in range(80):
        desk.insert(f"P{number}")
    pushed = threading.Thread(target=desk.push)
    pushed.start()
    until(lambda: desk.sent("POST"))
    with desk.opened(Priority.POLL) as (_, client, _, _):
        for _ in range(3):
            list(client.pages("people"))
    left = 80 - len(desk.sent("POST"))
    pushed.join()
    assert left > 0 and len(desk.provider.people) == 82
