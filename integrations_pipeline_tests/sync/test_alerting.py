"""Who is told what, once: severities, quiet hours, reminders, destinations that are away, and two that look at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.loading import Loaded
from integrations_pipeline.store.alerts import open_alerts, undelivered
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import alerting
from integrations_pipeline.sync.alerting import Message, Round, alert

STREAMS = {"things": {"request": "GET /things", "records": ".", "primary_key": "id"}}
API = {"url": "https://api.example.com", "pagination": {"type": "single_page"}}
BREAK = """
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
VALUES ('inbox', %s, %s, '{"message": "no such parcel"}', 5)
"""
MEND = "UPDATE integrations.dead_letter SET status = 'discarded', closed_at = now() WHERE connection = %s"
SET_ASIDE = """
INSERT INTO integrations.quarantine (connection, stream, stage, external_id, hash, payload, reasons)
VALUES ('acme', 'things', 'boundary', '1', 'x', '{}', '[]')
"""
NIGHT, DAY = datetime(2024, 5, 1, 23, tzinfo=UTC), datetime(2024, 5, 2, 9, tzinfo=UTC)


class At(SystemClock):
    """Of which quiet hours are judged."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class Ears:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Message]] = []
        self.away: str | None = None
        self.tried = 0

    def tell(self, url: str, message: Message) -> str | None:
        self.tried += 1
        if self.away is None:
            self.heard.append((url, message))
        return self.away

    def titles(self) -> list[str]:
        found = [message.title for _, message in self.heard]
        self.heard.clear()
        return found


class Team:
    """Connections with their alerts, a database, and ears."""

    def __init__(self, store: Store) -> None:
        self.store, self.ears = store, Ears()
        self.connections = {"acme": self.connection("acme", [{"env": "CHAT"}])}
        self.broken: dict[str, ConfigError] = {}

    def connection(self, name: str, alerts: list[dict[str, Any]]) -> Connection:
        return Connection.model_validate({"connection": name, "api": API, "streams": STREAMS, "alerts": alerts})

    def look(self, moment: datetime = DAY) -> Round:
        return alert(Loaded(self.connections, {}, self.broken), self.store, self.ears, clock=At(moment))

    def ask(self, query: str, *values: Any) -> None:
        with psycopg.connect(self.store.url, autocommit=True) as session:
            session.execute(query, values)

    def breaks(self, name: str = "acme", number: int = 1) -> None:
        self.ask(BREAK, number, name)

    def waits(self) -> None:
        """As if all that is to be tried or told again were due."""
        self.ask("UPDATE integrations.alert_notice SET next_try_at = now(), told_at = told_at - interval '1 day'")


@pytest.fixture
def team(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    for name in ("CHAT", "ON_CALL"):
        monkeypatch.setenv(name, f"json://{name.lower()}.example.com")
    with Store(database_url) as store:
        yield Team(store)


def test_once_when_it_breaks_once_when_it_heals(team: Team) -> None:
    assert team.look() == Round(open=0, told=0, failed=0)
    team.breaks()
    assert team.look() == Round(open=1, told=1, failed=0)
    team.breaks(number=2)
    assert team.look().told == 0, "another of the kind is no news"
    ((url, message),) = team.ears.heard
    assert url == "json://chat.example.com"
    assert (message.title, message.kind) == ("broken: acme: dead_letter", "failure")
    assert "no such parcel" in message.body and "integrations inbox list acme" in message.body
    team.ears.heard.clear()
    team.ask(MEND, "acme")
    assert team.look() == Round(open=0, told=1, failed=0)
    assert team.look().told == 0
    assert team.ears.titles() == ["healed: acme: dead_letter"]
    team.breaks(number=3)
    team.look()
    assert team.ears.titles() == ["broken: acme: dead_letter"], "the same again is news"


def test_a_reminder_while_it_lasts(team: Team) -> None:
    team.breaks()
    team.look()
    team.waits()
    for _ in range(2):
        team.look()
    assert team.ears.titles() == ["broken: acme: dead_letter", "still broken: acme: dead_letter"]


def test_who_hears_errors_only(team: Team) -> None:
    team.connections["acme"] = team.connection("acme", [{"env": "CHAT"}, {"env": "ON_CALL", "from": "error"}])
    team.ask(SET_ASIDE)
    team.ask("INSERT INTO integrations.stream_state (connection, stream) VALUES ('acme', 'things')")
    team.look()
    assert [url for url, _ in team.ears.heard] == ["json://chat.example.com"]
    assert team.ears.titles() == ["broken: acme/things: quarantine"]
    team.breaks()
    team.look()
    assert sorted(url for url, _ in team.ears.heard) == ["json://chat.example.com", "json://on_call.example.com"]
    team.ears.heard.clear()
    team.ask("DELETE FROM integrations.quarantine")
    team.look()
    assert [url for url, _ in team.ears.heard] == ["json://chat.example.com"], (
        "who didn't hear of it hears no end of it"
    )


def test_quiet_hours(team: Team) -> None:
    team.connections["acme"] = team.connection("acme", [{"env": "CHAT", "quiet": "22:00-06:00 UTC"}])
    team.breaks()
    team.look(NIGHT)
    assert team.ears.titles() == []
    team.ask(MEND, "acme")
    team.look(NIGHT)
    team.look(DAY)
    assert team.ears.titles() == [], "what healed in the night was never told"
    team.breaks(number=2)
    team.look(NIGHT)
    team.look(DAY)
    assert team.ears.titles() == ["broken: acme: dead_letter"]


def test_a_destination_that_is_away_hears_it_later_and_is_not_asked_for_each(team: Team) -> None:
    team.connections["bolt"] = team.connection("bolt", [{"env": "CHAT"}])
    team.breaks("acme")
    team.breaks("bolt", 2)
    team.ears.away = "the destination answered 503"
    assert (team.look().failed, team.ears.tried) == (2, 1)
    assert (team.look().failed, team.ears.tried) == (0, 1), "it is left alone for a while"
    with team.store.borrow() as session:
        (gone,) = undelivered(session, ["CHAT"])
    assert (gone.destination, gone.messages, gone.reason) == ("CHAT", 2, "the destination answered 503")
    team.ears.away = None
    team.waits()
    assert team.look().told == 2
    assert team.ears.titles() == ["broken: acme: dead_letter", "broken: bolt: dead_letter"]
    with team.store.borrow() as session:
        assert undelivered(session, ["CHAT"]) == []


def test_a_variable_that_is_not_set_is_told(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAT")
    team.breaks()
    assert team.look().failed == 1
    with team.store.borrow() as session:
        (gone,) = undelivered(session, ["CHAT"])
    assert gone.reason == "the environment variable CHAT is not set"


def test_many_that_look_at_once_tell_it_once(team: Team) -> None:
    names = [f"c{number}" for number in range(10)]
    team.connections = {name: team.connection(name, [{"env": "CHAT"}, {"env": "ON_CALL"}]) for name in names}
    for number, name in enumerate(names):
        team.breaks(name, number)
    gate = threading.Barrier(4)

    def one() -> None:
        gate.wait()
        team.look()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = [(url, message.title) for url, message in team.ears.heard]
    assert len(heard) == len(set(heard)) == 20


def test_a_claim_whose_process_died_is_taken_over(team: Team) -> None:
    team.breaks()
    team.look()
    team.ears.heard.clear()
    team.ask(
        "UPDATE integrations.alert_notice SET told = NULL, told_at = NULL, claimed_until = now() + interval '1 minute'"
    )
    assert team.look().told == 0, "somebody is telling it"
    team.ask("UPDATE integrations.alert_notice SET claimed_until = now()")
    assert team.look().told == 1


def test_a_slow_destination_is_left_in_time_and_hears_the_rest_at_the_next_look(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = many(team, 3)
    monkeypatch.setattr(alerting, "over", lambda clock, seconds: lambda: len(team.ears.heard) >= 2)
    assert team.look() == Round(open=3, told=2, failed=0)
    first = team.ears.titles()
    assert team.look().told == 1, "what wasn't sent is claimed by nobody"
    assert first + team.ears.titles() == [f"broken: {name}: dead_letter" for name in names]


def test_a_message_that_another_took_over_meanwhile_is_not_sent_too(team: Team) -> None:
    """The first one takes longer than a claim lasts, and another process looks."""
    names, tell, away = many(team, 3), team.ears.tell, []

    def slow(url: str, message: Message) -> str | None:
        if not away:
            away.append(message)
            team.ask("UPDATE integrations.alert_notice SET claimed_until = now()")
            team.look()
        return tell(url, message)

    team.ears.tell = slow  # type: ignore[method-assign]
    team.look()
    told = team.ears.titles()
    assert sorted(told) == [f"broken: {name}: dead_letter" for name in (names[0], *names)], "only that one twice"


def many(team: Team, count: int) -> list[str]:
    """Connections with one destination, each broken."""
    names = [f"c{number}" for number in range(count)]
    team.connections = {name: team.connection(name, [{"env": "CHAT"}]) for name in names}
    for number, name in enumerate(names):
        team.breaks(name, number)
    return names


def test_a_destination_that_our_own_program_fails_at_silences_no_other(team: Team) -> None:
    team.connections["acme"] = team.connection("acme", [{"env": "CHAT"}, {"env": "ON_CALL"}])
    tell = team.ears.tell

    def fails(url: str, message: Message) -> str | None:
        if "chat" in url:
            raise ValueError(f"{url} is odd")
        return tell(url, message)

    team.ears.tell = fails  # type: ignore[method-assign]
    team.breaks()
    assert team.look() == Round(open=1, told=1, failed=1)
    with team.store.borrow() as session:
        (gone,) = undelivered(session, ["CHAT", "ON_CALL"])
    assert (gone.destination, gone.reason) == ("CHAT", "sending to it failed within our own program: ValueError")


def test_what_breaks_at_once_in_a_connection_is_one_message(team: Team) -> None:
    team.breaks()
    team.ask(SET_ASIDE)
    team.ask("INSERT INTO integrations.stream_state (connection, stream) VALUES ('acme', 'things')")
    team.look()
    ((_, message),) = team.ears.heard
    assert (message.title, message.kind) == ("broken: acme: 2 alerts", "failure")
    assert "acme: dead_letter (error)" in message.body and "acme/things: quarantine (warning)" in message.body


def test_links_lead_to_the_ui_where_it_is_known(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATIONS_UI_URL", "https://dagster.example.com/")
    team.breaks()
    team.look()
    assert "see: https://dagster.example.com/assets/acme" in team.ears.heard[0][1].body


DOWN = "INSERT INTO integrations.breaker (connection, opened_at, failures, reason) VALUES ('acme', now() - %s, 12, 'x')"
READ = "INSERT INTO integrations.stream_state (connection, stream, last_success) VALUES ('acme', 'things', now() - %s)"


def stale_while_down(team: Team, minutes: int) -> None:
    """Stale after a quarter of an hour, told as down after half an hour."""
    values = {"connection": "acme", "api": API, "streams": STREAMS, "alerts": [{"env": "CHAT"}]}
    team.connections["acme"] = Connection.model_validate({**values, "expect": {"fresh_within": "15m"}})
    team.ask(DOWN, timedelta(minutes=minutes))
    team.ask(READ, timedelta(minutes=minutes + 1))


def test_stale_because_it_is_down_is_told_as_down_alone(team: Team) -> None:
    stale_while_down(team, 19)
    team.look()
    assert team.ears.titles() == [], "it may be back before anybody need know"
    team.ask("UPDATE integrations.breaker SET opened_at = now() - interval '31 minutes'")
    team.look()
    assert team.ears.titles() == ["broken: acme: downtime"]


def test_what_is_still_stale_after_a_short_downtime_is_told(team: Team) -> None:
    stale_while_down(team, 19)
    team.look()
    assert team.ears.titles() == []
    team.ask("DELETE FROM integrations.breaker")
    team.look()
    assert team.ears.titles() == ["broken: acme/things: freshness"]


def test_a_disconnected_connection_has_no_alerts(team: Team) -> None:
    team.breaks()
    team.look()
    team.ask("INSERT INTO integrations.stream_state (connection, stream, active) VALUES ('acme', 'things', false)")
    team.look()
    with team.store.borrow() as session:
        assert open_alerts(session, ["acme"]) == []
