"""From a signed delivery to the rows: what was sent, doubled, reordered, lost or wrong, and what is held in the end."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

import pytest

from integrations_pipeline.spec.limits import EVENT_TRIES
from integrations_pipeline.store import inbox
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.sync import applying
from integrations_pipeline_tests.gateway.shop import Shop, at, shop

__all__ = ["shop"]


def contact(key: str, minutes: float, **more: Any) -> dict[str, Any]:
    return {"id": key, "updated": at(minutes), **more}


def test_created_updated_and_deleted_arrive_as_rows_and_canonical_records(shop: Shop) -> None:
    shop.send("contact.created", minutes=1, contact=contact("a", 1, email="a@x.example", name="A"))
    shop.receive()
    assert shop.door.rows("SELECT email, name FROM canonical.customer") == [{"email": "a@x.example", "name": "A"}]
    shop.send("contact.updated", minutes=2, contact=contact("a", 2, email="a@x.example", name="B"))
    shop.receive()
    assert shop.door.rows("SELECT name FROM canonical.customer") == [{"name": "B"}]
    shop.send("contact.deleted", minutes=3, id="a")
    done = shop.receive()
    assert (done.status, done.events["applied"]) == ("succeeded", 1)
    assert shop.held("contacts") == {}
    assert shop.door.rows("SELECT count(deleted_at) AS gone FROM canonical.customer") == [{"gone": 1}]
    runs = shop.door.rows("SELECT mode, status, fetched FROM integrations.run_log ORDER BY started_at")
    assert runs == [{"mode": "events", "status": "succeeded", "fetched": 1}] * 3
    assert shop.outcomes() == ["applied"] * 3


def test_doubled_and_reordered_events_end_as_the_source(shop: Shop) -> None:
    rng = random.Random(7)
    said: list[dict[str, Any]] = []
    for key in "abcdef":
        for step in range(1, 6):
            row = contact(key, step, name=f"{key}{step}")
            shop.tables["contacts"][key] = row
            said.append({"event": f"{key}{step}", "type": "contact.updated", "at": step, "contact": row})
    for key in "ab":
        del shop.tables["contacts"][key]
        said.append({"event": f"{key}6", "type": "contact.deleted", "at": 6, "id": key})
    doubled = [*said, *rng.sample(said, 10)]
    rng.shuffle(doubled)
    for cut in range(0, len(doubled), 7):
        for one in doubled[cut : cut + 7]:
            shop.deliver(one)
        shop.receive()
    assert shop.held("contacts") == shop.tables["contacts"]
    assert len(shop.outcomes()) == len(said)
    assert set(shop.outcomes()) <= {"applied", "superseded", "unchanged"}


def test_records_without_versions_are_ordered_by_the_events(shop: Shop) -> None:
    shop.send("order.updated", minutes=9, order={"id": "o", "total": 9})
    shop.receive()
    shop.send("order.updated", minutes=5, order={"id": "o", "total": 5})
    shop.receive()
    assert shop.held("orders") == {"o": {"id": "o", "total": 9}}
    assert shop.outcomes() == ["applied", "superseded"]


def test_an_event_from_before_a_poll_changes_nothing_and_one_after_it_does(shop: Shop) -> None:
    """A unix time of the event against the ISO time at which the poll read."""
    shop.tables["orders"]["o"] = {"id": "o", "total": 2}
    shop.poll("orders")
    shop.send("order.updated", minutes=1, order={"id": "o", "total": 1})
    shop.receive()
    assert shop.held("orders")["o"]["total"] == 2
    shop.send("order.updated", minutes=12 * 60, order={"id": "o", "total": 3})  # after the poll, however long it took
    shop.receive()
    assert shop.held("orders")["o"]["total"] == 3
    assert shop.outcomes() == ["superseded", "applied"]


@pytest.mark.parametrize("ordered", [True, False], ids=["with order_by", "without"])
def test_a_late_update_does_not_bring_a_deleted_record_back(shop: Shop, ordered: bool) -> None:
    order = (lambda minutes: {"minutes": minutes}) if ordered else (lambda minutes: {})
    shop.send("contact.created", **order(1), contact=contact("a", 1))
    shop.send("order.created", **order(1), order={"id": "o"})
    shop.receive()
    shop.send("contact.deleted", **order(3), id="a")
    shop.send("order.deleted", **order(3), id="o")
    shop.receive()
    shop.send("contact.updated", **order(2), contact=contact("a", 2))
    shop.send("order.updated", **order(2), order={"id": "o", "total": 2})
    shop.receive()
    assert (shop.held("contacts"), shop.held("orders")) == ({}, {})
    assert shop.outcomes()[-2:] == ["superseded"] * 2


def test_a_deletion_of_a_record_never_seen_keeps_its_late_creation_out(shop: Shop) -> None:
    shop.send("contact.deleted", minutes=3, id="a")
    shop.receive()
    shop.send("contact.created", minutes=1, contact=contact("a", 1))
    shop.receive()
    assert shop.held("contacts") == {}


def test_a_record_created_anew_after_its_deletion_is_back(shop: Shop) -> None:
    shop.send("contact.created", minutes=1, contact=contact("a", 1))
    shop.send("contact.deleted", minutes=2, id="a")
    shop.receive()
    shop.send("contact.created", minutes=4, contact=contact("a", 4))
    shop.receive()
    assert set(shop.held("contacts")) == {"a"}


def test_many_events_of_a_record_are_one_request(shop: Shop) -> None:
    shop.tables["tickets"] = {"7": {"id": "7", "updated": at(5)}, "8": {"id": "8", "updated": at(5)}}
    for minutes in (1, 2, 3):
        shop.send("ticket.changed", minutes=minutes, id="7")
    shop.send("ticket.changed", minutes=4, id="8")
    shop.receive()
    assert sorted(seen.path for seen in shop.source.seen) == ["/tickets/7", "/tickets/8"]
    assert shop.held("tickets") == shop.tables["tickets"]
    assert shop.outcomes() == ["applied"] * 4


def test_an_older_answer_and_a_record_that_is_gone(shop: Shop) -> None:
    shop.tables["tickets"] = {"7": {"id": "7", "updated": at(5)}, "8": {"id": "8", "updated": at(5)}}
    shop.poll("tickets")
    shop.tables["tickets"]["7"] = {"id": "7", "updated": at(3), "stale": True}  # a replica that lags
    del shop.tables["tickets"]["8"]
    shop.send("ticket.changed", minutes=6, id="7")
    shop.send("ticket.changed", minutes=6, id="8")
    shop.send("ticket.changed", minutes=6, id="9")  # never heard of
    shop.receive()
    assert shop.held("tickets") == {"7": {"id": "7", "updated": at(5)}}
    assert shop.outcomes() == ["superseded", "applied", "unchanged"]


def test_a_source_that_is_down_costs_no_try(shop: Shop) -> None:
    shop.tables["tickets"]["7"] = {"id": "7", "updated": at(5)}
    shop.fails["7"] = 503
    shop.send("ticket.changed", id="7")
    shop.send("contact.created", contact=contact("a", 1))
    done = shop.receive()
    assert (done.status, done.events["given_back"], set(shop.held("contacts"))) == ("deferred", 1, {"a"})
    (row,) = shop.door.rows(
        "SELECT tries, next_try_at > now() AS later FROM integrations.inbox WHERE status = 'received'"
    )
    assert row == {"tries": 0, "later": True}
    shop.fails.clear()
    shop.make_due()
    shop.receive()
    assert set(shop.held("tickets")) == {"7"}


def test_poison_ends_in_the_dead_letter_and_holds_nobody_up(shop: Shop) -> None:
    shop.send("contact.created", name="poison", contact="no object")
    shop.fails["13"] = 422
    shop.send("ticket.changed", name="refused", id="13")
    shop.send("contact.created", contact=contact("a", 1))
    for _ in range(EVENT_TRIES):
        shop.receive()
        shop.make_due()
    assert set(shop.held("contacts")) == {"a"}
    letters = shop.door.rows(
        "SELECT i.event_id, d.tries, d.reason ->> 'message' AS why FROM integrations.dead_letter d"
        " JOIN integrations.inbox i ON i.id = d.origin_id ORDER BY 1"
    )
    assert [(one["event_id"], one["tries"]) for one in letters] == [("poison", EVENT_TRIES), ("refused", EVENT_TRIES)]
    assert letters[0]["why"] == "the event holds no object at `contact`, where the record should be"
    assert shop.receive().events.total() == 0


def test_a_bad_record_goes_to_quarantine(shop: Shop) -> None:
    shop.send("contact.created", contact={"id": "a", "updated": "not a time"})
    done = shop.receive()
    assert (done.events["quarantined"], done.streams["contacts"].counters.quarantined) == (1, 1)
    assert shop.door.rows("SELECT external_id FROM integrations.quarantine") == [{"external_id": "a"}]


def test_unknown_types_are_kept_and_counted(shop: Shop) -> None:
    shop.send("invoice.paid", minutes=1)
    shop.send("contact.tag.added", minutes=1)  # `*` stays within one dotted part
    assert shop.receive().as_dict()["events"] == {"ignored": 2}
    assert shop.outcomes() == ["ignored"] * 2


def test_an_event_can_start_a_sync(shop: Shop) -> None:
    shop.tables["contacts"]["a"] = contact("a", 1)
    shop.send("all.changed", name="1")
    shop.send("all.changed", name="2")
    shop.receive()
    assert shop.held("contacts") == shop.tables["contacts"]
    assert [seen.path for seen in shop.source.seen] == ["/contacts"]


def test_a_sync_that_fails_leaves_what_is_done(shop: Shop) -> None:
    shop.fails["contacts"] = 422
    shop.send("contact.created", contact=contact("a", 1))
    shop.send("all.changed")
    done = shop.receive()
    assert (done.status, done.as_dict()["events"]) == ("failed", {"applied": 1, "failed": 1})
    assert set(shop.held("contacts")) == {"a"}


def test_a_stream_that_a_poll_holds_gives_its_events_back(shop: Shop) -> None:
    shop.poll("contacts", "orders")
    shop.send("contact.created", contact=contact("a", 1))
    shop.send("order.created", order={"id": "o"})
    with take_lease(shop.store.connect, "acme", "contacts", uuid4()):
        done = shop.receive()
    assert (done.status, done.as_dict()["events"]) == ("deferred", {"applied": 1, "given_back": 1})
    assert (shop.held("contacts"), set(shop.held("orders"))) == ({}, {"o"})
    shop.make_due()
    shop.receive()
    assert set(shop.held("contacts")) == {"a"}


class Killed(BaseException):
    """The process ends here."""


def test_a_killed_run_has_done_all_of_an_event_or_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.send("contact.created", contact=contact("a", 1))

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(applying, "mark_done", dies)
        broken.setattr(inbox, "give_back", dies)
        with pytest.raises(Killed):
            shop.receive()
    assert (shop.held("contacts"), shop.outcomes()) == ({}, ["leased"])
    assert shop.receive().events.total() == 0  # it may still be alive
    shop.make_due()
    shop.receive()
    assert (set(shop.held("contacts")), shop.outcomes()) == ({"a"}, ["applied"])


def test_what_lands_during_a_full_refresh_counts_as_seen(shop: Shop) -> None:
    shop.tables["contacts"] = {f"k{n}": contact(f"k{n}", 1) for n in range(30)}
    shop.poll("contacts")
    pages = iter([[f"k{n}" for n in range(15)], None])

    def answer(seen: Any) -> Any:
        page = next(pages)
        return {"items": [shop.tables["contacts"][key] for key in page], "next": "2"} if page else {"items": "broken"}

    shop.source.answer = answer
    assert shop.poll("contacts", full=True).streams[0].status == "failed"
    shop.send("contact.created", minutes=2, contact=contact("new", 2))
    shop.receive()
    shop.source.answer = lambda seen: {"items": [shop.tables["contacts"][f"k{n}"] for n in range(15, 30)]}
    assert shop.poll("contacts", full=True).streams[0].status == "succeeded"
    assert set(shop.held("contacts")) == {*shop.tables["contacts"], "new"}


def test_what_webhooks_lose_a_poll_brings(shop: Shop) -> None:
    rng = random.Random(3)
    for number in range(40):
        row = contact(f"k{number % 10}", number, name=str(number))
        shop.tables["contacts"][row["id"]] = row
        if rng.random() > 0.2:
            shop.send("contact.updated", minutes=number, contact=row)
    shop.receive()
    shop.poll("contacts")
    assert shop.held("contacts") == shop.tables["contacts"]


def test_events_done_long_ago_are_forgotten(shop: Shop) -> None:
    shop.send("contact.created", contact=contact("a", 1))
    shop.receive()
    with shop.store.borrow() as session:
        session.execute("UPDATE integrations.inbox SET finished_at = now() - '31 days'::interval")
    shop.receive()
    assert shop.outcomes() == []
