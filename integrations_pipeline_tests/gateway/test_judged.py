"""The poll as the judge: what events told of, what only a poll found, and what can't be held against anybody."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline_tests.gateway.shop import EVENTS, Shop, at, shop
from integrations_pipeline_tests.passing import minutes_pass

__all__ = ["shop"]


@pytest.fixture(autouse=True)
def judged_events(shop: Shop) -> None:
    """Without the event that starts a sync, which names no record."""
    shop.write({pattern: rule for pattern, rule in EVENTS.items() if "sync" not in rule})


def later(shop: Shop) -> None:
    minutes_pass(shop.door.database_url, 10)


def change(shop: Shop, table: str, key: str, minutes: float, *, told: bool, **more: Any) -> None:
    """A record changes at the source, and its event comes or is lost."""
    shop.tables[table][key] = {"id": key, "updated": at(minutes), **more}
    if told:
        name = table.removesuffix("s")
        said: dict[str, Any] = {"id": key, name: shop.tables[table][key]}
        shop.send(f"{name}.changed", minutes=minutes, **said)


def poll(shop: Shop, stream: str) -> dict[str, Any] | None:
    """What the poll finds of the stream's webhooks."""
    done = shop.poll(stream).streams[0]
    assert done.status == "succeeded", done.error
    found: dict[str, Any] | None = done.as_dict()["webhooks"]
    return found


def counted(found: dict[str, Any] | None) -> tuple[int, int] | None:
    return (found["told"], found["missed"]) if found else None


def begun(shop: Shop, stream: str) -> None:
    """The first sync, which judges nothing, was some time ago."""
    shop.tables[stream] = {key: {"id": key, "updated": at(0)} for key in "abc"}
    assert poll(shop, stream) is None
    later(shop)


@pytest.mark.parametrize("stream", ["contacts", "orders", "tickets"])
def test_what_only_a_poll_found_was_missed(shop: Shop, stream: str) -> None:
    begun(shop, stream)
    change(shop, stream, "a", 1, told=True)
    change(shop, stream, "new", 2, told=True)
    shop.receive()
    change(shop, stream, "b", 3, told=False)
    assert counted(poll(shop, stream)) == (0, 0)  # too early to say
    later(shop)
    assert counted(poll(shop, stream)) == (2, 1)
    later(shop)
    assert counted(poll(shop, stream)) == (0, 0)  # each change is judged once


def test_an_event_that_came_after_the_poll_was_late_and_not_lost(shop: Shop) -> None:
    begun(shop, "contacts")
    change(shop, "contacts", "a", 1, told=False)
    assert counted(poll(shop, "contacts")) == (0, 0)
    shop.send("contact.changed", minutes=1, contact=shop.tables["contacts"]["a"])
    shop.receive()
    later(shop)
    assert counted(poll(shop, "contacts")) == (1, 0)


def test_an_event_of_an_earlier_state_is_no_news_of_a_later_one(shop: Shop) -> None:
    begun(shop, "contacts")
    change(shop, "contacts", "a", 1, told=True)
    shop.receive()
    change(shop, "contacts", "a", 2, told=False)
    poll(shop, "contacts")
    later(shop)
    assert counted(poll(shop, "contacts")) == (1, 1)


def test_events_that_wait_are_not_held_against_anybody(shop: Shop) -> None:
    """They came; of which record they speak is known when they are applied."""
    begun(shop, "contacts")
    change(shop, "contacts", "a", 1, told=True)
    change(shop, "contacts", "b", 2, told=False)
    poll(shop, "contacts")
    later(shop)
    assert poll(shop, "contacts") is None
    shop.receive()
    later(shop)
    assert counted(poll(shop, "contacts")) == (1, 1)


def test_what_no_event_tells_of_is_not_expected(shop: Shop) -> None:
    """Deletions without a rule for them; a record that differs while its version says that it didn't change."""
    kept = {pattern: rule for pattern, rule in EVENTS.items() if "upsert" in rule}
    shop.write(kept)
    begun(shop, "contacts")
    shop.tables["contacts"]["a"] |= {"name": "differs"}
    del shop.tables["contacts"]["b"]
    done = shop.poll("contacts", full=True).streams[0].counters
    assert (done.updated, done.tombstoned) == (1, 1)
    later(shop)
    assert counted(poll(shop, "contacts")) == (0, 0)
    assert poll(shop, "tickets") is None and poll(shop, "tickets") is None


def test_a_missed_deletion_counts(shop: Shop) -> None:
    begun(shop, "contacts")
    del shop.tables["contacts"]["a"]
    shop.poll("contacts", full=True)
    later(shop)
    assert counted(poll(shop, "contacts")) == (0, 1)


def test_a_connection_that_lost_its_webhook_begins_anew(shop: Shop) -> None:
    """What polls alone brought meanwhile is no loss."""
    begun(shop, "contacts")
    shop.write({"order.*": EVENTS["order.*"]})
    change(shop, "contacts", "a", 1, told=False)
    assert poll(shop, "contacts") is None
    later(shop)
    shop.write({"contact.*": EVENTS["contact.*"]})
    assert poll(shop, "contacts") is None
    later(shop)
    assert counted(poll(shop, "contacts")) == (0, 0)


def test_how_late_events_are_is_told(shop: Shop) -> None:
    """From the time an event names to its arrival: here about an hour."""
    begun(shop, "contacts")
    change(shop, "contacts", "a", 1, told=True)
    shop.receive()
    later(shop)
    found = poll(shop, "contacts")
    assert found is not None and 0 < found["delay_seconds"] < 24 * 3600
    (status,) = (one for one in shop.store.status([shop.connection()]) if one.stream == "contacts")
    assert status.webhooks is not None and (status.webhooks.told, status.webhooks.missed) == (1, 0)
