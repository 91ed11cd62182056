"""What a source says of a write is trusted for what it really holds, and for no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.sync.provider import FINDABLE, LOST, STREAM, Desk, Provider

MAP = {"to": "person", "match": ["email"], "fields": {"name": "name", "email": "email"}}
UNVERSIONED = {**{key: value for key, value in STREAM.items() if key != "version"}, "map": MAP,
               "fields": {"id": {"type": "string", "required": True}}}  # fmt: skip
PARTIAL = Reply({"id": "p1", "success": True})


def side(database_url: str, source: Source, provider: Provider, name: str) -> Desk:
    """One of two connections on the same store."""
    found = Desk(database_url, source, provider)
    found.name, found.stream = name, UNVERSIONED
    found.write |= {"fields": ["name", "email"]}
    return found


@contextmanager
def two_sides(database_url: str, *sides: Provider) -> Iterator[tuple[Desk, Desk]]:
    """Both hold Anna, matched to one canonical row."""
    for provider in sides:
        provider.add(name="Anna", email="anna@a.example")
    with Source(sides[0]) as first, Source(sides[1]) as second:
        both = side(database_url, first, sides[0], "crm"), side(database_url, second, sides[1], "pay")
        for _ in range(2):
            for one in both:
                one.sync()
                one.push()
        for one in both:
            one.source.seen.clear()
        yield both


def answer_updates(provider: Provider, reply: Reply) -> None:
    provider.after = lambda seen: reply if seen.method == "PATCH" else None


def test_a_partial_answer_empties_nothing_here_nor_elsewhere(database_url: str) -> None:
    crm, pay = Provider(), Provider()
    answer_updates(crm, PARTIAL)
    with two_sides(database_url, crm, pay) as (first, second):
        first.edit("Anna", email="new@a.example")
        assert first.push().changes == {"sent": 1}
        assert first.rows("SELECT name, email FROM canonical.person") == [("Anna", "new@a.example")]
        assert first.rows("SELECT payload ->> 'name' FROM raw.crm__people") == [("Anna",)]
        assert second.push().changes == {"sent": 1}
        for _ in range(2):
            first.sync()
            second.sync()
            assert not first.push().changes and not second.push().changes
        for provider in (crm, pay):
            assert (provider.people["p1"]["name"], provider.people["p1"]["email"]) == ("Anna", "new@a.example")
        assert first.rows("SELECT payload ->> 'email' FROM raw.crm__people") == [("new@a.example",)]


def test_a_search_that_shows_a_part_of_the_record_settles_a_lost_create(database_url: str) -> None:
    provider = Provider()
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.stream = UNVERSIONED
        desk.write |= FINDABLE | {"fields": ["name", "email"]}
        desk.sync()
        provider.after = lambda seen: LOST if seen.method == "POST" else None
        desk.insert("Cleo", email="cleo@a.example")
        desk.push()
        provider.after = lambda seen: Reply({"items": [{"id": "p1"}]}) if seen.path == "/find" else None
        desk.due()
        assert desk.push().changes == {"read_back": 1}
        desk.sync()
        assert not desk.push().changes
        assert desk.rows("SELECT name, email FROM canonical.person") == [("Cleo", "cleo@a.example")]


@pytest.mark.parametrize("answer", [Reply(status=204), PARTIAL], ids=["no record", "a part"])
def test_two_sources_that_normalise_and_answer_without_a_record_play_no_ping_pong(
    database_url: str, answer: Reply
) -> None:
    crm, pay = Provider(), Provider()
    crm.normalise = lambda fields: {**fields, "name": fields["name"].upper()} if "name" in fields else fields
    pay.normalise = lambda fields: {**fields, "name": fields["name"][::-1]} if "name" in fields else fields
    answer_updates(crm, answer)
    answer_updates(pay, answer)
    with two_sides(database_url, crm, pay) as both:
        both[0].edit("Anna", name="Bob")
        for _ in range(3):
            for one in both:
                one.push()
                one.sync()
        assert [len(one.sent()) for one in both] == [1, 1]
        assert both[0].rows("SELECT name FROM canonical.person") == [("Bob",)]
        pay.edit("p1", name="Renamed there")
        for one in (both[1], both[0], both[1]):
            one.sync()
            one.push()
        assert both[0].rows("SELECT name FROM canonical.person") == [("Renamed there",)]
        assert [crm.people["p1"]["name"], pay.people["p1"]["name"]] == ["RENAMED THERE", "Renamed there"]


def test_what_the_source_did_not_take_is_seen_though_its_answer_said_nothing(database_url: str) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.normalise = lambda fields: {}
    answer_updates(provider, Reply(status=204))
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.edit("Anna", email="new@a.example")
        desk.push()
        desk.sync()
        assert not desk.push().changes
        assert desk.rows("SELECT email FROM canonical.person") == [("anna@a.example",)]


@pytest.mark.parametrize("takes", [True, False])
def test_a_page_read_before_a_write_whose_answer_said_nothing_takes_nothing_back(
    database_url: str, takes: bool
) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.normalise = lambda fields: fields if takes else {}
    answer_updates(provider, Reply(status=204))
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.push()
        provider.edit("p1", name="Annabel")

        def written_meanwhile(seen: Seen) -> Reply | None:
            if seen.method != "GET" or len(desk.sent()):
                return None
            page = [dict(one) for one in provider.people.values()]
            desk.edit("Anna", email="new@a.example")
            assert desk.push().changes == {"sent": 1}
            return Reply({"items": page})

        provider.instead = written_meanwhile
        desk.sync()
        assert desk.rows("SELECT name, email FROM canonical.person") == [("Annabel", "new@a.example")]
        for _ in range(2):
            desk.sync()
            assert not desk.push().changes
        there = (provider.people["p1"]["name"], provider.people["p1"]["email"])
        assert there == ("Annabel", "new@a.example" if takes else "anna@a.example")
        assert desk.rows("SELECT name, email FROM canonical.person") == [there]


@pytest.mark.parametrize("takes", [True, False])
def test_of_two_writes_in_a_row_that_were_answered_by_nothing_the_first_read_tells(
    database_url: str, takes: bool
) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.normalise = lambda fields: {name: value.upper() for name, value in fields.items()} if takes else {}
    answer_updates(provider, Reply(status=204))
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.push()
        provider.edit("p1", name="Annabel")

        def written_meanwhile(seen: Seen) -> Reply | None:
            if seen.method != "GET" or desk.sent():
                return None
            page = [dict(one) for one in provider.people.values()]
            for email in ("first@a.example", "second@a.example"):
                desk.edit("Anna", email=email)
                assert desk.push().changes == {"sent": 1}
            return Reply({"items": page})

        provider.instead = written_meanwhile
        desk.sync()
        assert desk.rows("SELECT email FROM canonical.person") == [("second@a.example",)]
        for _ in range(2):
            desk.sync()
            assert not desk.push().changes
        email = "second@a.example" if takes else "anna@a.example"
        assert desk.rows("SELECT email FROM canonical.person") == [(email,)]
        assert desk.rows("SELECT unread_at FROM integrations.link") == [(None,)]


def test_what_waits_to_be_read_waits_no_more_once_the_stream_is_not_written(database_url: str) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    answer_updates(provider, Reply(status=204))
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.edit("Anna", email="new@a.example")
        assert desk.push().changes == {"sent": 1}
        desk.write = None  # type: ignore[assignment]
        stamps = []
        for _ in range(3):
            desk.sync()
            stamps += desk.rows("SELECT stamp::text FROM raw.crm__people")
        assert stamps[1] == stamps[2]


def test_a_list_that_shows_a_write_though_it_was_asked_for_before_tells_the_sources_form(database_url: str) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.normalise = lambda fields: {name: value.upper() for name, value in fields.items()}
    answer_updates(provider, Reply(status=204))
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.push()

        def written_meanwhile(seen: Seen) -> Reply | None:
            if seen.method == "GET" and not desk.sent():
                desk.edit("Anna", email="new@a.example")
                assert desk.push().changes == {"sent": 1}
            return None

        provider.instead = written_meanwhile
        desk.sync()
        assert desk.rows("SELECT email FROM canonical.person") == [("new@a.example",)]
        provider.edit("p1", email="edited@a.example")
        desk.sync()
        assert not desk.push().changes
        assert desk.rows("SELECT email FROM canonical.person") == [("edited@a.example",)]


class InPages(Desk):
    """Of one record each."""

    def connection(self) -> Connection:
        pagination = {"type": "page_number", "send": "page", "total": "total", "size": {"send": "per", "value": 1}}
        return Connection.model_validate(
            {
                "connection": self.name,
                "api": {"url": self.source.url, "auth": {"type": "none"}, "pagination": pagination},
                "streams": {"people": {**self.stream, "write": self.write}},
            }
        )


def next_second() -> None:
    """Versions that are made of times are in whole seconds."""
    time.sleep(1.02 - time.time() % 1)


def test_an_earlier_page_of_a_chunk_is_no_newer_than_it_was_read(database_url: str) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    provider.add(name="Zoe", email="zoe@z.example")
    with Source(provider) as source:
        desk = InPages(database_url, source, provider)
        desk.stream = UNVERSIONED
        desk.write |= {"fields": ["name", "email"]}

        def pages(seen: Seen) -> Reply | None:
            if seen.method != "GET" or seen.path != "/people":
                return None
            at = int(seen.one("page") or 1) - 1
            page = [dict(one) for one in provider.people.values()][at : at + 1]
            if at == 0 and page[0]["name"] == "Annabel":
                next_second()
                desk.edit("Anna", email="new@a.example")
                assert desk.push().changes == {"sent": 1}
                next_second()
            return Reply({"items": page, "total": 2})

        provider.instead = pages
        desk.sync()
        desk.push()
        provider.edit("p1", name="Annabel")
        desk.sync()
        assert desk.rows("SELECT name, email FROM canonical.person ORDER BY 1")[0] == ("Annabel", "new@a.example")


def test_an_edit_there_counts_though_the_answer_named_no_version_and_its_clock_is_behind(database_url: str) -> None:
    provider = Provider()

    def clock() -> str:
        return (datetime.now(UTC) - timedelta(minutes=5)).isoformat()

    def unversioned() -> Reply:
        return Reply({key: value for key, value in provider.people["p1"].items() if key != "at"})

    provider.add(name="Anna", email="anna@a.example", at=clock())
    provider.normalise = lambda fields: {**fields, "at": clock()}
    provider.after = lambda seen: unversioned() if seen.method == "PATCH" else None
    declared: dict[str, Any] = {**UNVERSIONED["fields"], "at": {"type": "timestamp"}}
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.stream = {**UNVERSIONED, "cursor": {"field": "at"}, "fields": declared}
        desk.write |= {"fields": ["name", "email"]}
        desk.sync()
        desk.edit("Anna", email="new@a.example")
        assert desk.push().changes == {"sent": 1}
        provider.edit("p1", name="Renamed there", at=clock())
        desk.sync()
        assert desk.rows("SELECT name, email FROM canonical.person") == [("Renamed there", "new@a.example")]
        assert not desk.push().changes
