"""What visitors type into addresses and forms of the pages: names of connections are names, never files."""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations_pipeline_tests.gateway.shop import Shop, shop
from integrations_pipeline_tests.gateway.test_pages import Site, fill, site

__all__ = ["shop", "site"]
PLANTED = "PLANTED-0815"


@pytest.fixture
def elsewhere(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are no connections of the home, though one could be."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    good = (shop.door.home / "connections" / "acme.yaml").read_text()
    for name in ("other.yaml", "other"):
        (folder / name).write_text(good)
    (folder / "keys").write_text(f"[default]\nkey = {PLANTED}: x\n: a: b\n")
    (folder / "keys.yaml").write_text(f"connection: acme\napi: {PLANTED}\n{PLANTED}: 1\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("named", ["other.yaml", "other", "keys", "keys.yaml", "ABSOLUTE", "../elsewhere/other.yaml"])
def test_no_page_opens_a_file_outside_connections(site: Site, elsewhere: Path, named: str) -> None:
    fill(site.shop)
    named = str(elsewhere / "other.yaml") if named == "ABSOLUTE" else named
    before = (elsewhere / "other.yaml").read_text()
    visit = site.visit()
    visit.get("/quarantine")
    shown = [visit.post("/quarantine/retry", {"connection": named, "stream": "contacts"})]
    shown += [visit.get(f"/mapping/{named}/contacts"), visit.get(f"/why/{named}/contacts/ann")]
    shown += [visit.get(f"/{page}?connection={named}") for page in ("quarantine", "conflicts", "outbox")]
    assert {one.status for one in shown[:3]} <= {404, 409}, [one.text for one in shown]
    assert not any(PLANTED in one.text or "ann@example.com" in one.text for one in shown)
    visit.get("/quarantine")
    fields = {"block": "to: customer\nfields: {}\n", "do": "save", "known": "0"}
    assert visit.post(f"/mapping/{named}/contacts", fields).status in (404, 409)
    assert (elsewhere / "other.yaml").read_text() == before


def test_a_file_of_a_connections_name_elsewhere_hides_nothing(
    site: Site, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory of the gateway may hold anything."""
    monkeypatch.delenv("ACME_SIGNING")  # its single letter would be hidden in every word
    fill(site.shop)
    (elsewhere / "acme").write_text("no connection")
    assert site.visit().get("/why/acme/contacts/ann").status == 200


def test_a_broken_file_is_still_said_to_be_broken(site: Site) -> None:
    site.shop.door.write("bent", "connection: bent\napi: 3\n")
    found = site.visit().get("/mapping/bent/contacts")
    assert (found.status, "connections/bent.yaml" in found.text) == (409, True)


@pytest.mark.parametrize(
    "path",
    ["/why/acme/contacts/x%00y", "/why?stream=acme/contacts&id=%00", "/quarantine?stream=%00", "/outbox?connection=%00",
     "/conflicts?connection=%00", "/dead-letters?connection=%00", "/mapping/%00/x", "/data/customer?name=%00",
     "/data/%00", "/changes/%00"],
)  # fmt: skip
def test_a_nul_in_an_address_is_refused(site: Site, path: str) -> None:
    assert site.visit().get(path).status == 400


def test_a_nul_in_a_form_is_refused(site: Site) -> None:
    visit = site.visit()
    visit.get("/quarantine")
    assert visit.post("/quarantine/retry", {"connection": "ac\0me", "stream": "contacts"}).status == 400
    visit.get("/login")
    assert visit.post("/login", {"token": "\0"}).status == 400
