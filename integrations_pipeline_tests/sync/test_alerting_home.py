"""What belongs to no connection that could be looked at: broken files, changes that reached nobody. All destinations
are told, each once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations_pipeline.spec.hearing import still_told
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.alerting import alert
from integrations_pipeline_tests.sync.test_alerting import BREAK, DAY, MEND, At, Ears, Team

FILE = """connection: NAME
alerts: ALERTS
api: {url: "https://api.example.com", pagination: {type: single_page}}
streams: {things: {request: GET /things, records: ., primary_key: id}}
"""
NO_YAML = "tags: [never, closed\n"
UNDELIVERED = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
VALUES ('delivery', 1, '', '{"message": "410 of https://hooks.example.com"}', 10)
"""


class Office(Team):
    """A home of files with their alerts, a database, and ears."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store, self.ears, self.home = store, Ears(), home
        (home / "connections").mkdir()

    def write(self, name: str, alerts: str, more: str = "") -> None:
        text = FILE.replace("NAME", name).replace("ALERTS", alerts)
        (self.home / "connections" / f"{name}.yaml").write_text(text + more)

    def looks(self) -> list[tuple[str, str]]:
        """Destination and title of each message."""
        alert(load_all(Home(self.home)), self.store, self.ears, clock=At(DAY))
        found = [(url.split("//")[1].split(".")[0], message.title) for url, message in self.ears.heard]
        self.ears.heard.clear()
        return sorted(found)


@pytest.fixture
def office(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for name in ("CHAT", "ON_CALL", "OTHER"):
        monkeypatch.setenv(name, f"json://{name.lower()}.example.com")
    with Store(database_url) as store:
        yield Office(store, tmp_path)


def test_a_file_that_breaks_is_told_to_all_and_once_when_it_loads_again(office: Office) -> None:
    office.write("acme", "[{env: CHAT}]")
    office.write("bolt", "[{env: ON_CALL, from: error}, {env: CHAT}]")
    assert office.looks() == []
    office.write("acme", "[{env: CHAT}]", "evry: 5m\n")
    broken = "broken: connections/acme.yaml: broken_file"
    alert(load_all(Home(office.home)), office.store, office.ears, clock=At(DAY))
    body = office.ears.heard[0][1].body
    assert "connections/acme.yaml:5: evry:" in body and "who must act: whoever edits the connection" in body
    assert "next: mend the file, then run `integrations check`" in body
    assert sorted(url for url, _ in office.ears.heard) == ["json://chat.example.com", "json://on_call.example.com"]
    assert office.ears.titles() == [broken, broken]
    assert office.looks() == []
    office.write("acme", "[{env: CHAT}]")
    healed = "healed: connections/acme.yaml: broken_file"
    assert office.looks() == [("chat", healed), ("on_call", healed)]
    assert office.looks() == []


@pytest.mark.parametrize("more", ["evry: 5m\n", NO_YAML])
def test_the_only_file_is_told_where_it_says_itself(office: Office, more: str) -> None:
    office.write("acme", "\n  - {env: CHAT}\n  - {env: OTHER, form: error}", more)
    assert office.looks() == [("chat", "broken: connections/acme.yaml: broken_file")]


def test_what_is_open_in_a_connection_stays_open_while_its_file_is_broken(office: Office) -> None:
    office.write("acme", "[{env: CHAT}]")
    office.ask(BREAK, 1, "acme")
    assert office.looks() == [("chat", "broken: acme: dead_letter")]
    office.write("acme", "[{env: CHAT}]", NO_YAML)
    assert office.looks() == [("chat", "broken: connections/acme.yaml: broken_file")]
    office.ask(MEND, "acme")
    assert office.looks() == []
    office.write("acme", "[{env: CHAT}]")
    assert office.looks() == [
        ("chat", "healed: acme: dead_letter"),
        ("chat", "healed: connections/acme.yaml: broken_file"),
    ]


def test_each_broken_file_is_news_and_one_that_is_deleted_is_over(office: Office) -> None:
    office.write("acme", "[{env: CHAT}]")
    office.write("bolt", "[]", NO_YAML)
    assert office.looks() == [("chat", "broken: connections/bolt.yaml: broken_file")]
    (office.home / "models").mkdir()
    (office.home / "models" / "sale.yaml").write_text("kind: sale\n")
    assert office.looks() == [("chat", "broken: models/sale.yaml: broken_file")]
    (office.home / "connections" / "bolt.yaml").unlink()
    assert office.looks() == [("chat", "healed: connections/bolt.yaml: broken_file")]


def test_a_change_that_reached_nobody_is_told_to_each_destination_once(office: Office) -> None:
    office.write("acme", "[{env: CHAT}]")
    office.write("bolt", "[{env: CHAT}, {env: ON_CALL, from: error}]")
    office.ask(UNDELIVERED)
    broken, healed = "broken: the whole home: dead_letter", "healed: the whole home: dead_letter"
    assert office.looks() == [("chat", broken), ("on_call", broken)]
    office.ask(MEND, "")
    assert office.looks() == [("chat", healed), ("on_call", healed)]


def test_one_connection_looked_at_leaves_the_homes_alerts_as_they_are(office: Office) -> None:
    office.write("acme", "[{env: CHAT}]")
    office.ask(UNDELIVERED)
    assert office.looks() == [("chat", "broken: the whole home: dead_letter")]
    office.ask(MEND, "")
    only = load_all(Home(office.home))
    assert alert(only, office.store, office.ears, whole=False, clock=At(DAY)).told == 0
    assert office.looks() == [("chat", "healed: the whole home: dead_letter")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connection: a\nalerts: [{env: X}]\nevry: 5m\n", ["X"]),
        ("connection: a\nalerts:\n  - {env: X}\n# and\n  - env: Y\n    from: error\nother: [\n", ["X", "Y"]),
        ("connection: a\nalerts: [\n  {env: X},\n]\nother: [\n", ["X"]),
        ('{"connection": "a", "alerts": [{"env": "X"}], "evry": 1}', ["X"]),
        ("alerts: [{env: X}, {env: Y, from: nobody}, 3]\n", ["X"]),
        ("alerts: [{env: X\nother: 1\n", []),
        ("alerts: soon\n", []),
        ("- a\n- b\n", []),
        ("", []),
    ],
)
def test_whom_a_broken_file_still_tells(text: str, told: list[str]) -> None:
    assert [one.env for one in still_told(text)] == told
