"""Events: a sync token brings what changed, cancelled ones are deletions, an expired token begins again."""

from __future__ import annotations

from integrations_pipeline_tests.connectors.account import open_account
from integrations_pipeline_tests.journeys.conftest import House

LIVE = "SELECT count(*) FROM canonical.event WHERE deleted_at IS NULL"


def test_a_sync_token_brings_changes_and_cancellations(house: House) -> None:
    source = open_account(house, "google_calendar", records=90, page_limit=40)
    house.sync("google_calendar")
    assert [one.count for one in source.requests() if one.stream == "events"] == [40, 40, 10]

    changed = source.update("events", 2, {"summary": "Moved"})
    gone = set(source.delete("events", 3))
    source.insert("events", 1)
    asked = len(source.requests())
    counts = house.sync("google_calendar")["events"]
    [only] = source.requests()[asked:]
    assert only.query["syncToken"]
    assert only.query["singleEvents"] == ["true"]
    assert (counts["created"], counts["deleted"], counts["updated"]) == (1, 3, len(set(changed) - gone))
    assert not gone & set(house.raw("google_calendar", "events"))
    house.assert_whole("google_calendar", "events")
    assert house.value(LIVE) == source.counts()["events"] == 88

    source.update("events", sorted(gone)[:1], {"status": "confirmed"})
    house.sync("google_calendar")
    house.assert_whole("google_calendar", "events")
    assert house.value(LIVE) == 89


def test_an_expired_token_begins_again_without_loss(house: House) -> None:
    source = open_account(house, "google_calendar", records=60)
    house.sync("google_calendar")
    source.insert("events", 2)
    source.update("events", 2, {"summary": "Moved"})
    source.delete("events", 3)  # by the time all is read again, the list no longer tells of them
    source.expire_cursors()
    asked = len(source.requests())
    counts = house.sync("google_calendar")["events"]
    assert [one.status for one in source.requests()[asked:]] == [410, 200]
    assert counts["tombstoned"] == 3
    house.assert_whole("google_calendar", "events")
    assert house.value(LIVE) == 59

    source.insert("events", 1)
    asked = len(source.requests())
    assert house.sync("google_calendar")["events"]["fetched"] == 1
    assert source.requests()[asked].query["syncToken"]
