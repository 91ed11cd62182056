"""What `check` warns of."""

from __future__ import annotations

from pathlib import Path

from integrations_pipeline.spec.cautions import cautions
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline_tests.spec.written import EXAMPLES, SHOP, write_home

WRITES = """\
    map: {to: customer, fields: {email: email}}
    write: {fields: [email], create: POST /customers}
"""


def test_an_end_that_cannot_be_proven(tmp_path: Path) -> None:
    pages = "    pagination: {type: page_number, send: page}\n"
    more = "    pagination: {type: page_number, send: page, more: has_more, total: total}\n"
    home = write_home(tmp_path, connections__a=SHOP + pages, connections__b=SHOP.replace("shop", "b") + more)
    found = cautions(load_all(home).connections)
    assert list(found) == ["shop"]
    assert found["shop"][0].startswith("streams.orders: the end of this list can't be proven")


def test_rows_that_move_from_page_to_page_unseen(tmp_path: Path) -> None:
    pages = "    pagination: {type: page_number, send: page, more: has_more}\n"
    found = cautions(load_all(write_home(tmp_path, connections__a=SHOP + pages)).connections)
    assert len(found["shop"]) == 1
    assert "name `total` under `pagination`" in found["shop"][0]


def test_two_that_create_one_kind(tmp_path: Path) -> None:
    when = WRITES.replace("customers}", "customers, create_when: {stage: active}}")
    home = write_home(
        tmp_path,
        connections__a=SHOP + WRITES,
        connections__b=SHOP.replace("shop", "b") + when,
        connections__c=SHOP.replace("shop", "c"),
    )
    found = cautions(load_all(home).connections)
    assert list(found) == ["shop"]
    assert found["shop"][0].endswith("b.yaml creates records of kind customer too")


def test_the_grammars_files_are_beyond_doubt() -> None:
    assert cautions(load_all(Home(EXAMPLES)).connections) == {}
