"""The gateway's pages in a real browser: what a person sees and clicks, with the server's own styles and no script."""

from __future__ import annotations

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from integrations_pipeline_tests.gateway.conftest import until
from integrations_pipeline_tests.gateway.crm import Crm, crm
from integrations_pipeline_tests.gateway.shop import Shop, shop
from integrations_pipeline_tests.gateway.test_pages import CONFLICT, contact, opened, written
from integrations_pipeline_tests.journeys.test_browser import CHROMIUM, DRIVER, PATIENCE_SECONDS, browser

__all__ = ["browser", "crm", "shop"]
TOKEN = "a-token-for-tests-0123456789"

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: Debian's packages chromium and chromium-driver"
)


class Person:
    """Somebody who clicks."""

    def __init__(self, browser: WebDriver, port: int):
        self.browser, self.origin = browser, f"http://127.0.0.1:{port}"

    def visits(self, path: str) -> None:
        self.browser.get(self.origin + path)

    def sees(self, *words: str) -> None:
        stale = [StaleElementReferenceException]  # the page before was just being left
        waiting = WebDriverWait(self.browser, PATIENCE_SECONDS, ignored_exceptions=stale)
        for word in words:
            waiting.until(
                lambda page, word=word: word in page.find_element(By.TAG_NAME, "body").text, f"{word!r} isn't shown"
            )

    def clicks(self, text: str) -> None:
        """A link or button by its text, or by what a screen reader says."""
        path = f"//*[self::a or self::button][normalize-space()={text!r} or @aria-label={text!r}]"
        self.browser.find_element(By.XPATH, path).click()

    def types(self, name: str, text: str) -> None:
        field = self.browser.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)


def test_a_person_logs_in_and_decides_what_waits(browser: WebDriver, shop: Shop) -> None:
    file = written(shop)
    with shop.store.borrow() as session:
        session.execute(CONFLICT, ("name", "ann"))
    with opened(shop, TOKEN) as site:
        person = Person(browser, site.port)
        person.visits("/")
        person.sees("Log in")
        person.types("token", TOKEN)
        person.clicks("Log in")
        person.sees("Status", "needs attention: 1", "acme", "fresh")
        badge = browser.find_element(By.CSS_SELECTOR, ".pill.good").value_of_css_property("background-color")
        assert badge not in ("rgba(0, 0, 0, 0)", "transparent"), "the policy lets the page's own styles in"

        person.visits("/conflicts")
        person.sees("as last agreed", "<b>ours</b>", "theirs")
        person.clicks("Take theirs")
        person.sees("Theirs was taken over", "No conflict is open")

        person.visits("/mapping/acme/contacts")
        area = browser.find_element(By.NAME, "block")
        text = area.get_attribute("value") or ""
        area.clear()
        area.send_keys(text.replace("name: name ", "name: {first: [nick, name]} "))
        person.clicks("Preview")
        person.sees("1 would change", "0 would fail", "before → after")
        person.clicks("Save to connections/acme.yaml")
        person.sees("Saved")
        assert "name: {first: [nick, name]}" in file.read_text() and "# as they sign" in file.read_text()

        strict = file.read_text().replace(
            "primary_key: id", "primary_key: id\n    fields: {updated: {type: timestamp}}"
        )
        file.write_text(strict)
        shop.tables["contacts"]["dan"] = contact("dan", updated="soon")
        shop.poll("contacts")
        person.visits("/quarantine")
        person.sees("dan", "updated")
        file.write_text(strict.replace("type: timestamp", "type: string"))
        person.clicks("Retry dan")
        person.sees("1 came in, 0 still in quarantine")
        person.clicks("Log out")
        person.sees("Log in")


def test_a_person_settles_what_was_parked_on_its_way_out(browser: WebDriver, crm: Crm) -> None:
    crm.parked("Cleo")
    dead = crm.dead("Dora")
    person = Person(browser, crm.port)
    person.visits("/")
    person.sees("needs attention: 1")
    person.clicks("1")
    person.sees("Outbox", "1 parked", "cleo@example.com", "Dora is on no list")
    person.types("external_id", "p2")
    person.clicks("It is there")
    person.sees("It is there: what the source holds is agreed on")
    person.clicks(f"Try again: change {dead}")
    person.sees("It is sent again")
    until(lambda: crm.status(dead) == "done")
    assert crm.names() == ["Anna", "Cleo", "Dora"]
