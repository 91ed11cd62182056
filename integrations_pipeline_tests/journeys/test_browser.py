"""Dagster's UI in a real browser: what people see after `integrations up`, and a run launched by a click."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from integrations_pipeline_tests.journeys.test_up import Up, keep, root, until

__all__ = ["root"]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1500,1000",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_SECONDS = 180

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: Debian's packages chromium and chromium-driver"
)


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    profile = tempfile.mkdtemp(prefix="integrations-browser-")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    found = webdriver.Chrome(options, Service(DRIVER))
    yield found
    found.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def up(root: Path) -> Iterator[Up]:
    keep(root, "demo_calendar", "demo_rates", "demo_shop")
    found = Up(root)
    yield found
    found.stop()


class Visitor:
    """Somebody who looks at the UI."""

    def __init__(self, browser: WebDriver, up: Up):
        self.browser, self.up = browser, up

    def sees(self, *words: str) -> None:
        """Waits until all the words stand on the page."""
        waiting = WebDriverWait(self.browser, PATIENCE_SECONDS)
        for word in words:
            waiting.until(
                lambda page, word=word: word in page.find_element(By.TAG_NAME, "body").text, f"{word!r} isn't shown"
            )

    def visits(self, path: str, *words: str) -> None:
        self.browser.get(f"http://127.0.0.1:{self.up.port}/{path}")
        self.sees(*words)

    def clicks(self, text: str) -> None:
        button = WebDriverWait(self.browser, PATIENCE_SECONDS).until(
            lambda page: next(
                (b for b in page.find_elements(By.TAG_NAME, "button") if b.text.strip() == text and b.is_enabled()),
                None,
            )
        )
        self.browser.execute_script("arguments[0].click()", button)


def launched_by_hand(up: Up) -> list[str]:
    """The runs that neither a schedule nor a sensor asked for."""
    by_itself = {"dagster/schedule_name", "dagster/sensor_name"}
    return [run["runId"] for run in up.runs() if not by_itself & {tag["key"] for tag in run["tags"]}]


def test_people_see_the_demo_and_launch_a_run(browser: WebDriver, up: Up) -> None:
    until(lambda: {"demo_shop/products", "demo_rates/rates", "demo_calendar/events"} <= up.materialized())
    visitor = Visitor(browser, up)
    visitor.visits("asset-groups", "demo_calendar", "demo_rates", "demo_shop", "canonical")
    visitor.visits("assets/demo_shop/products?view=lineage", "variants", "canonical")
    visitor.visits("assets/demo_shop/products", "updated_at", "Shopify", "Materialize")
    visitor.visits("assets/demo_shop/products?view=checks", "counts_balance", "rows_rejected")

    visitor.visits("assets/demo_rates/rates?view=events", "fetched")
    visitor.clicks("Materialize")
    run = until(lambda: launched_by_hand(up))[0]
    until(lambda: up.status(run) == "SUCCESS")
    visitor.visits(f"runs/{run}", "Success", "demo_rates")
    visitor.visits("assets/demo_rates/rates?view=events", "fetched", "created")
