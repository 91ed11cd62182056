"""Products: linked pages, changes by `updated_at_min`, variants inside their product, deletions only by comparison."""

from __future__ import annotations

from integrations_pipeline_tests.connectors.account import open_account
from integrations_pipeline_tests.journeys.conftest import House


def test_a_catalogue_of_several_pages_and_its_changes(house: House) -> None:
    source = open_account(house, "shopify", records=600, enforce_limits=True)
    first = house.sync("shopify")
    asked = [one for one in source.requests() if one.stream == "products"]
    assert [one.count for one in asked] == [250, 250, 100]
    assert all("page_token" in one.query for one in asked[1:])
    assert first["variants"]["created"] == source.counts()["variants"]
    house.assert_whole("shopify", "variants")
    orphans = (
        "SELECT count(*) FROM canonical.variant v LEFT JOIN canonical.product p ON p.id = v.product WHERE p.id IS NULL"
    )
    assert house.value(orphans) == 0

    [changed] = source.update("products", 1, {"title": "Desk Lamp, gold", "variants": [{"id": 9001, "price": "12.50"}]})
    [gone] = source.delete("products", 1)
    counts = house.sync("shopify")["products"]
    assert source.requests()[-1].query["updated_at_min"]
    assert (counts["updated"], counts["tombstoned"], counts["pages"]) == (int(changed != gone), 0, 1)
    assert gone in house.raw("shopify", "products")
    mine = "SELECT external_id FROM raw.shopify__variants WHERE deleted_at IS NULL AND payload->>'product_id' = %s"
    assert house.rows(mine, changed) == [("9001",)]

    full = house.sync("shopify", "--full")
    assert full["products"]["tombstoned"] == 1
    for name in ("products", "variants"):
        house.assert_whole("shopify", name)
