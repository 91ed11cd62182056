"""What is special about Stripe, GitHub and EasyPost: an event log, 304 and skipped rows, a window of days."""

from __future__ import annotations

from decimal import Decimal

from integrations_pipeline_tests.connectors.account import open_account
from integrations_pipeline_tests.journeys.conftest import House


def asked(house: House, connector: str, stream: str) -> list[str]:
    return [one.path for one in house.sources[connector].requests() if one.stream == stream]


def test_stripe_is_read_by_list_once_and_by_events_from_then_on(house: House) -> None:
    source = open_account(house, "stripe")
    house.sync("stripe")
    assert {path.rsplit("/", 1)[-1] for path in asked(house, "stripe", "customers")} == {"customers"}
    before = len(asked(house, "stripe", "customers"))

    [changed] = source.update("customers", 1, {"email": "  Grace@Example.com "})
    [gone] = source.delete("customers", ["cus_0000007"])
    counts = house.sync("stripe", "customers")["customers"]
    assert {path.rsplit("/", 1)[-1] for path in asked(house, "stripe", "customers")[before:]} == {"events"}
    assert (counts["updated"], counts["deleted"]) == (1, 1)
    assert gone not in house.raw("stripe", "customers")
    held = (
        "SELECT c.email FROM canonical.customer c JOIN integrations.link l ON l.canonical_id = c.id "
        "WHERE l.external_id = %s"
    )
    assert house.rows(held, changed) == [("grace@example.com",)]
    house.assert_whole("stripe", "customers")


def test_stripe_tells_money_in_the_smallest_unit(house: House) -> None:
    source = open_account(house, "stripe", records=10)
    source.insert("charges", [{"id": "ch_eur", "amount": 1099, "currency": "eur"}])
    source.insert("charges", [{"id": "ch_jpy", "amount": 1099, "currency": "jpy"}])
    house.sync("stripe")
    amounts = (
        "SELECT l.external_id, p.amount FROM canonical.payment p JOIN integrations.link l ON l.canonical_id = p.id "
        "WHERE l.external_id IN ('ch_eur', 'ch_jpy')"
    )
    assert dict(house.rows(amounts)) == {"ch_eur": Decimal("10.99"), "ch_jpy": Decimal("1099")}


def test_github_skips_pull_requests_and_costs_nothing_while_nothing_is_new(house: House) -> None:
    source = open_account(house, "github")
    first = house.sync("github")
    pulls = sum(1 for row in source.contents("issues") if row.get("pull_request"))
    assert first["issues"]["skipped"] == pulls > 0
    house.sync("github")  # asks since the watermark for the first time: an ETag belongs to the question
    before = len(source.requests())
    again = house.sync("github")
    assert [one.status for one in source.requests()[before:]] == [304, 304]
    assert {one["fetched"] for one in again.values()} == {0}

    source.update("issues", [1], {"state": "closed", "title": "Done at last"})
    assert house.sync("github")["issues"]["updated"] == 1
    state = (
        "SELECT t.state, t.title FROM canonical.ticket t JOIN integrations.link l ON l.canonical_id = t.id "
        "WHERE l.stream = 'issues' AND l.external_id = '1'"
    )
    assert house.rows(state) == [("done", "Done at last")]


def test_easypost_is_asked_for_the_parcels_of_the_last_days(house: House) -> None:
    source = open_account(house, "easypost")
    house.sync("easypost")
    house.sync("easypost")
    assert source.requests()[-1].query["start_datetime"]
    [late] = source.insert("trackers", [{"id": "trk_late", "status": "delivered"}])
    assert house.sync("easypost")["trackers"]["created"] == 1
    status = (
        "SELECT s.status FROM canonical.shipment s JOIN integrations.link l ON l.canonical_id = s.id "
        "WHERE l.external_id = %s"
    )
    assert house.value(status, late) == "delivered"
