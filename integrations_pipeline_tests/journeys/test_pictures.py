"""Each picture of README and docs, taken in a real browser of a demo that has a day behind it.

With SCREENSHOTS set to a folder it is kept there (`make pictures`); without, this proves that each can be taken: the
pages are there, whole, and say what they should.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline_tests.house.tree import ROOT
from integrations_pipeline_tests.journeys.test_browser import (
    CHROMIUM,
    DRIVER,
    PATIENCE_SECONDS,
    browser,
)
from integrations_pipeline_tests.journeys.test_up import Up, root, until

__all__ = ["browser", "root"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs a browser: Debian's packages chromium and chromium-driver"
    ),
]
RECORDS = 400
BAD_ORDERS = [{"total_price": "-12.50"}, {"currency": "Euro"}, {"created_at": "0000-00-00"}]
ROUNDS = ((7, 12), (3, 31), (12, 22), (5, 44), (9, 18))
"""Products made and changed at the source before each of the syncs that the plots show."""

SHOP = ("demo_shop/products", "demo_shop/variants", "canonical/product")
OUTBOX = {"repositoryName": "__repository__", "repositoryLocationName": "integrations", "sensorName": "outbox"}
SENSOR = "query($s: SensorSelector!) {sensorOrError(sensorSelector: $s) {... on Sensor {sensorState {id}}}}"
STOP = "mutation($i: String!) {stopSensor(id: $i) {__typename}}"
START = "mutation($s: SensorSelector!) {startSensor(sensorSelector: $s) {__typename}}"

A_DAY = """
INSERT INTO integrations.run_log (run_id, connection, stream, mode, status, started_at, finished_at, fetched, updated)
SELECT gen_random_uuid(), s.connection, s.stream, 'incremental', 'succeeded', at, at + interval '2 seconds', n, n
FROM (SELECT connection, min(stream) AS stream FROM integrations.stream_state GROUP BY connection) AS s,
    generate_series(now() - interval '23 hours', now() - interval '1 hour', interval '1 hour') AS at,
    LATERAL (SELECT round(140 + 90 * sin(extract(hour FROM at) / 3.8 + length(s.connection)))::int AS n) AS counted
RETURNING 1
"""
"""For the sparklines of the status page alone: as if the demo had been polled each hour since yesterday."""


class Demo(Up):
    """A running demo, and the control door of its sources."""

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    def source(self, path: str, **body: Any) -> Any:
        address = re.search(r"simulator: .* on (http://\S+)", self.said())
        assert address is not None
        request = urllib.request.Request(f"{address[1]}/_simulator/{path}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def sync(self, *keys: str) -> str:
        run: str = until(lambda: self.launch(*keys))
        until(lambda: self.status(run) == "SUCCESS")
        return run

    def write(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(EmbeddedServer(self.root / ".integrations").url(), autocommit=True) as session:
            return session.execute(query, values).fetchall()  # type: ignore[arg-type]

    def is_quiet(self) -> bool:
        """All was read once, and nothing is on its way."""
        nodes = {
            "/".join(node["assetKey"]["path"]) for node in self.ask("{assetNodes {assetKey {path}}}")["assetNodes"]
        }
        busy = [run for run in self.runs() if run["status"] not in ("SUCCESS", "FAILURE", "CANCELED")]
        waiting = (
            "SELECT 1 FROM integrations.outbox WHERE status IN ('queued', 'sending', 'unsure', 'answered') LIMIT 1"
        )
        return nodes <= self.materialized() and not busy and not self.rows(waiting)


@pytest.fixture
def demo(root: Path) -> Iterator[Demo]:
    """After some hours' work: changes, bad rows, and a field that both sides changed."""
    file = root / "connections" / "demo_crm.yaml"
    skip = "    skip: {properties.email: {present: false}}"
    assert skip in file.read_text()
    file.write_text(file.read_text().replace(skip, f"    write: {{conflict: {{company: review}}}}\n{skip}"))
    found = Demo(root, records=RECORDS)
    until(found.is_quiet)
    for made, changed in ROUNDS:
        found.source("demo_shop/products/insert", count=made)
        found.source("demo_shop/products/update", count=changed)
        found.sync(*SHOP)
    found.source("demo_shop/orders/insert", records=BAD_ORDERS)
    found.sync("demo_shop/orders")
    both_change(found, "con_0000002", ours="Delta Kaya GmbH", theirs="Delta Kaya Group")
    yield found
    found.stop()


def both_change(demo: Demo, key: str, *, ours: str, theirs: str) -> None:
    """The company of a contact, here and at the source, before either side knows of the other's."""
    of = "connection = 'demo_crm' AND stream = 'contacts' AND external_id = %s"
    ((canonical,),) = demo.write(f"SELECT canonical_id FROM integrations.link WHERE {of}", key)
    ((kept,),) = demo.write("SELECT payload -> 'properties' FROM raw.demo_crm__contacts WHERE external_id = %s", key)
    known = {name: value for name, value in kept.items() if name != "lastmodifieddate"}
    state = demo.ask(SENSOR, s=OUTBOX)["sensorOrError"]["sensorState"]["id"]
    demo.ask(STOP, i=state)
    demo.source("demo_crm/faults", faults=["lose webhook"])
    demo.source("demo_crm/contacts/update", keys=[key], values={"properties": {**known, "company": theirs}})
    demo.write("UPDATE canonical.customer SET company = %s WHERE id = %s RETURNING 1", ours, canonical)
    demo.sync("demo_crm/contacts")
    demo.source("demo_crm/faults", faults=[])
    demo.ask(START, s=OUTBOX)
    until(lambda: demo.rows("SELECT 1 FROM integrations.conflict WHERE status = 'open'"))


class Photographer:
    """Opens pages as a visitor does, and keeps a picture of what stands there."""

    def __init__(self, browser: webdriver.Chrome, taken: set[str]):
        self.browser, self.taken = browser, taken

    def opens(self, address: str, *words: str, height: int = 1000) -> None:
        """Waits until all the words stand on the page, and nothing is being loaded any more."""
        self.browser.set_window_size(1500, height)
        self.browser.get(address)
        self.sees(*words)

    def sees(self, *words: str) -> None:
        waiting = WebDriverWait(self.browser, PATIENCE_SECONDS)
        for word in words:
            waiting.until(lambda _, word=word: word in self.text(), f"{word!r} isn't shown")
        waiting.until(lambda _: "Loading" not in self.text(), "it is still being loaded")

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def clicks(self, text: str) -> None:
        self.browser.execute_script("arguments[0].click()", self.found(text))

    def scrolls_to(self, text: str) -> None:
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", self.found(text))

    def found(self, text: str) -> Any:
        path = f"//*[normalize-space(text())={text!r}]"
        return WebDriverWait(self.browser, PATIENCE_SECONDS).until(
            lambda page: next((one for one in page.find_elements(By.XPATH, path) if one.is_displayed()), None)
        )

    def takes(self, name: str) -> None:
        """Refuses a page that says of itself that something went wrong."""
        wrong = [word for word in ("Unexpected GraphQL error", "PythonError", "Failed to load") if word in self.text()]
        assert not wrong, f"{name}: {wrong}"
        self.taken.add(name)
        if folder := os.environ.get("SCREENSHOTS"):
            time.sleep(2)  # fonts, icons and the graph's layout come after the words
            self.browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def dagster_pictures(camera: Photographer, demo: Demo, run: str) -> None:
    ui = f"http://127.0.0.1:{demo.port}"
    camera.opens(f"{ui}/asset-groups", *(file.stem for file in (demo.root / "connections").iterdir()), height=1130)
    camera.takes("graph")
    camera.opens(f"{ui}/assets/demo_shop/products?view=lineage", "variants", "canonical")
    camera.takes("lineage")
    camera.opens(f"{ui}/assets/demo_shop/products", "What the shop sells", "updated_at", "Shopify", "Passing")
    camera.takes("asset")
    camera.scrolls_to("breaker")
    camera.sees("mapping", "strip_html")
    camera.takes("tables")
    camera.clicks("Plots")
    camera.scrolls_to("created")
    camera.takes("plots")
    camera.opens(f"{ui}/assets/demo_shop/orders?view=checks", "counts_balance", "rows_rejected")
    camera.clicks("rows_rejected")
    camera.sees("in quarantine", "what was rejected")
    camera.takes("checks")
    camera.opens(f"{ui}/runs/{run}", "Success", "Finished execution of run", height=1200)
    camera.takes("run")


def gateway_pictures(camera: Photographer, demo: Demo) -> None:
    written = "SELECT external_id FROM integrations.outbox WHERE connection = 'demo_crm' AND stream = 'contacts'"
    ((key,),) = demo.rows(f"{written} AND outcome = 'sent' AND operation = 'update' ORDER BY external_id LIMIT 1")
    demo.write(A_DAY)
    camera.opens(f"{demo.gateway}/", "needs attention", "records per hour", height=1010)
    camera.takes("status")
    camera.opens(f"{demo.gateway}/why/demo_crm/contacts/{key}", "What happened", "written to the source", height=1150)
    camera.takes("why")
    camera.opens(f"{demo.gateway}/quarantine", "demo_shop/orders", "total_price", "Retry all")
    camera.takes("quarantine")
    camera.opens(f"{demo.gateway}/conflicts", "Delta Kaya GmbH", "Delta Kaya Group", height=700)
    camera.takes("conflicts")
    camera.opens(f"{demo.gateway}/mapping/demo_crm/contacts", "A stored record", height=1150)
    area = camera.browser.find_element(By.NAME, "block")
    text = area.get_attribute("value") or ""
    assert "company: properties.company" in text
    area.clear()
    area.send_keys(text.replace("company: properties.company", "company: {from: properties.company, apply: [upper]}"))
    camera.clicks("Preview")
    camera.sees("would change", "0 would fail", "before → after")
    camera.takes("mapping")


def test_every_picture_can_be_taken(browser: webdriver.Chrome, demo: Demo) -> None:
    demo.source("demo_shop/products/update", count=27)
    run = demo.sync(*SHOP)
    camera = Photographer(browser, set())
    gateway_pictures(camera, demo)
    dagster_pictures(camera, demo, run)
    assert camera.taken == {path.stem for path in (ROOT / "docs" / "pictures").glob("*.png")}
