"""`why`: a record's life as the tables have it, compared with what the source and the people really did."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.why import Story, lately, why
from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.gateway.shop import Shop, at
from integrations_pipeline_tests.gateway.shop import shop as shop
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made
from integrations_pipeline_tests.sync.provider import BATCHED, KINDS, Desk, Provider

FIELDS = {"name": {"type": "string", "required": True}, "size": {"type": "integer"}}
MAP = {"to": "thing", "fields": {"name": {"from": "title", "apply": ["trim", "lower"]}, "size": "size"}}


def told(bench: Bench, key: str, stream: str = "things", **more: Any) -> Story:
    given = {"connection": "acme", "api": {"url": bench.source.url}, "streams": bench.streams, **more}
    with Store(bench.database_url) as store:
        return why(Connection.model_validate(given), stream, key, store, bench.kinds)


@pytest.fixture
def things(bench: Bench) -> Bench:
    """Three pages of four, each with its own request id; mapped."""
    bench.streams = {"things": {**THINGS, "map": MAP, "fields": {"size": {"type": "integer"}},
                                "skip": {"draft": True}, "deletes": {"snapshot": "1d"}}}  # fmt: skip
    bench.kinds = {"thing": Kind.model_validate({"kind": "thing", "fields": FIELDS})}
    bench.rows_held = [{**one, "title": f"  Big {one['id']} ", "size": 7} for one in made(12)]  # type: ignore[attr-defined]

    def answer(seen: Seen) -> Reply:
        at = int(seen.one("after", "0"))
        held = bench.rows_held  # type: ignore[attr-defined]
        after = {"next": str(at + 4)} if at + 4 < len(held) else {}
        return Reply({"items": held[at : at + 4], **after}, headers={"X-Request-Id": f"req_{len(bench.source.seen)}"})

    bench.source.answer = answer
    return bench


def texts(story: Story, what: str) -> list[str]:
    return [one.text for one in story.moments if one.what == what]


def test_a_record_is_followed_from_its_very_request_to_the_canonical_field(things: Bench) -> None:
    things.sync()
    things.rows_held[6] |= {"title": " LARGE ", "size": 8}  # type: ignore[attr-defined]
    things.sync()
    story = told(things, "k00006")
    assert (story.state, story.answer) == ("stored", "it is here")
    assert [one.detail["request_id"] for one in story.moments if one.what == "request"] == ["req_2", "req_5"]
    assert "→ 200 in" in texts(story, "request")[0] and "4 rows, request id req_2" in texts(story, "request")[0]
    assert texts(story, "decision") == [
        "created (raw)",
        "updated (raw); size: '7' → '8', title: '  Big k00006 ' → ' LARGE '",
        "updated (canonical); name: 'big k00006' → 'large', size: '7' → '8'",
    ]
    order = [one.what for one in story.moments]
    assert order == ["request", "decision", "link", "request", "decision", "decision"]
    assert [one.at for one in story.moments] == sorted(one.at for one in story.moments)
    runs = {one.run_id for one in story.moments}
    assert {(one,) for one in runs} == set(things.rows("SELECT run_id::text FROM integrations.run_log"))
    assert story.raw is not None and story.raw["payload"]["title"] == " LARGE "
    name = next(one for one in story.mapping if one["field"] == "name")
    assert name["sources"] == [{"path": "title", "value": " LARGE "}]
    assert [(one["rule"], one["before"], one["after"]) for one in name["steps"]][:2] == [
        ("trim", " LARGE ", "LARGE"), ("lower", "LARGE", "large"),
    ]  # fmt: skip
    assert story.canonical is not None and story.canonical["record"]["name"] == "large"


def test_of_an_object_that_changed_the_parts_are_told(things: Bench) -> None:
    held = things.rows_held  # type: ignore[attr-defined]
    held[2] |= {"more": {"at": {"city": "Ulm", "zip": "1"}, "kept": [1]}}
    things.sync()
    held[2] |= {"more": {"at": {"city": "Bonn", "zip": "1"}, "kept": [1], "new": 2}}
    things.sync()
    assert "updated (raw); more.at.city: 'Ulm' → 'Bonn', more.new: – → '2'" in texts(told(things, "k00002"), "decision")


def test_which_records_were_left_out_lately(things: Bench) -> None:
    given = {"connection": "acme", "api": {"url": things.source.url}, "streams": things.streams}
    connection = Connection.model_validate(given)
    held = things.rows_held  # type: ignore[attr-defined]
    held[1] |= {"draft": True}
    held[9] |= {"size": "huge"}
    things.sync()
    with Store(things.database_url) as store:
        found = {one["external_id"]: (one["decision"], one["reason"]) for one in lately(connection, "things", store)}
        assert found["k00001"] == ("skipped", "draft: true")
        assert found.keys() == {"k00001", "k00009"} and found["k00009"][0] == "quarantined"
        with pytest.raises(ConfigError, match="did you mean things"):
            lately(connection, "thing", store)


def test_why_a_record_isnt_here(things: Bench) -> None:
    held = things.rows_held  # type: ignore[attr-defined]
    held[1] |= {"draft": True}
    held[9] |= {"size": "huge"}
    things.sync()
    skipped = told(things, "k00001")
    assert skipped.state == "skipped" and skipped.answer.startswith("it was skipped at ")
    assert [one.detail["request_id"] for one in skipped.moments if one.what == "request"] == ["req_1"]
    bad = told(things, "k00009")
    assert bad.state == "quarantined" and "it is in quarantine (size:" in bad.answer
    assert [one.detail["request_id"] for one in bad.moments if one.what == "request"] == ["req_3"]
    assert "refused" not in bad.answer and bad.mapping
    never = told(things, "4711")
    assert (never.state, never.moments, never.raw) == ("unknown", [], None)
    assert "nothing was ever seen of it; the stream was last read 20" in never.answer
    assert "ids of this stream look like k0" in never.answer
    del held[4]
    things.sync(full=True)
    gone = told(things, "k00004")
    assert gone.state == "deleted" and gone.answer.endswith(": not in the full refresh")
    held[8] |= {"size": 9}
    things.sync()
    assert told(things, "k00009").state == "stored"
    assert any("ended: healed" in one for one in texts(told(things, "k00009"), "quarantine"))


def test_a_stream_never_read_and_a_stream_that_isnt(things: Bench) -> None:
    assert told(things, "k1").answer == "nothing was ever seen of it; the stream was never read"
    with pytest.raises(ConfigError, match="did you mean things"):
        told(things, "k1", "thing")


def test_a_webhook_is_part_of_the_life(shop: Shop) -> None:
    shop.send("contact.created", minutes=1, contact={"id": "a", "updated": at(1), "email": "a@x.example", "name": "A"})
    shop.receive()
    with shop.opened() as (connection, _, kinds):
        story = why(connection, "contacts", "a", shop.store, kinds)
    (event,) = texts(story, "event")
    assert "contact.created came" in event and event.endswith("applied")
    assert texts(story, "decision") == ["created (raw)"]


def test_a_write_back_is_told_with_the_providers_answer(database_url: str) -> None:
    provider = Provider()
    provider.add(name="Anna", email="anna@a.example")
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        desk.edit("Anna", email="anna@b.example")
        desk.push()
        desk.insert("Cleo", email="cleo@a.example")
        desk.push()
        with Store(database_url) as store:
            edited = why(desk.connection(), "people", "p1", store, KINDS)
            made_here = why(desk.connection(), "people", "p2", store, KINDS)
    changes = texts(edited, "change")
    assert changes[0].endswith("email: 'anna@a.example' → 'anna@b.example'")
    assert changes[1].endswith("sent first") and changes[2].endswith("answered: sent")
    assert any(one.startswith(f"PATCH {source.url}/people/p1 → 200") for one in texts(edited, "request"))
    assert any(one.startswith(f"POST {source.url}/people → 201") for one in texts(made_here, "request"))
    assert not any("POST" in one for one in texts(edited, "request"))


def test_a_batch_is_told_in_each_life_it_was_part_of_and_a_create_in_its_own_alone(database_url: str) -> None:
    provider = Provider()
    for name in ("Anna", "Bert"):
        provider.add(name=name)
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.write |= BATCHED
        desk.sync()
        desk.rows("UPDATE canonical.person SET email = 'new@a.example'")
        desk.insert("Cleo")
        desk.insert("Dora")
        assert desk.push().changes == {"sent": 4}
        with Store(database_url) as store:
            for key, path in (("p1", "batch"), ("p2", "batch"), ("p3", "people"), ("p4", "people")):
                story = why(desk.connection(), "people", key, store, KINDS)
                posts = [one for one in texts(story, "request") if one.startswith("POST")]
                assert len(posts) == 1 and posts[0].startswith(f"POST {source.url}/{path} → 20"), key


def test_no_secret_is_told(things: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "planted-secret-9d1")
    held = things.rows_held  # type: ignore[attr-defined]
    held[0] |= {"title": "see planted-secret-9d1", "api_key": "other-secret-7", "note": 'a token=abc" b'}
    things.sync()
    story = told(things, "k00000", secrets={"key": {"env": "ACME_KEY"}})
    text = json.dumps(story.as_dict())
    assert "planted-secret" not in text and "other-secret" not in text
    assert story.raw is not None and story.raw["payload"]["api_key"] == "***"
