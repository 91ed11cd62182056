"""`on_change`: each change of a canonical record, posted to a real receiver: signed, in order, again after failures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.limits import DELIVERY_TRIES
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.deliver import deliver
from integrations_pipeline_tests.gateway.conftest import until
from integrations_pipeline_tests.simulator.test_webhooks import Receiver, receiving
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, made, paged

KEY = b"a-key-of-the-test-with-32-bytes!"
TOLD = {"url": {"env": "TEAM_URL"}, "secret": {"env": "TEAM_SECRET"}}
FIELDS = {"name": {"type": "string"}, "amount": {"type": "decimal"}}
MAP = {"to": "thing", "fields": {"name": "name", "amount": "amount"}}


def kind(*told: dict[str, Any]) -> Kind:
    return Kind.model_validate({"kind": "thing", "fields": FIELDS, "on_change": list(told)})


@pytest.fixture
def team(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose kind tells of its changes; TEAM_URL is to be set to a receiver's."""
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + base64.b64encode(KEY).decode())
    monkeypatch.setenv("TEAM_URL", "http://127.0.0.1:9/nobody")
    bench.streams = {"things": {**THINGS, "map": MAP, "deletes": {"snapshot": "1d"}}}
    bench.kinds = {"thing": kind(TOLD)}
    return bench


def delivered(team: Bench, receiver: Receiver | None = None) -> Counter[str]:
    if receiver is not None:
        os.environ["TEAM_URL"] = receiver.url
    with Store(team.database_url) as store:
        return deliver(store, team.kinds)


def due_now(team: Bench) -> None:
    team.rows("UPDATE integrations.delivery SET next_try_at = now() WHERE next_try_at IS NOT NULL RETURNING 1")


def names(receiver: Receiver) -> list[tuple[str, str | None, str | None]]:
    """Change, name before and name after of what was taken."""
    data = [one["data"] for one in receiver.documents()]
    return [(one["change"], (one["before"] or {}).get("name"), one["after"]["name"]) for one in data]


def test_each_change_is_posted_with_before_and_after_signed_by_the_standard(team: Bench) -> None:
    with receiving() as receiver:
        team.sync(paged([{"id": "1", "name": "a", "amount": "10.10"}]))
        team.sync(paged([{"id": "1", "name": "b", "amount": "12345678901234567890.5"}]))
        team.sync(paged([{"id": "1", "name": "b", "amount": "12345678901234567890.5"}]))
        team.rows("UPDATE canonical.thing SET name = 'c' RETURNING 1")
        team.sync(paged([{"id": "2", "name": "d", "amount": None}]), full=True)
        assert delivered(team, receiver) == {"delivered": 5}
        assert delivered(team, receiver) == {}
        first = [one for one in names(receiver) if one[2] != "d"]
        assert first == [("created", None, "a"), ("updated", "a", "b"), ("updated", "b", "c"), ("deleted", "c", "c")]
        assert ("created", None, "d") in names(receiver)
        ids = set()
        for came, _ in receiver.came:
            (message_id,), (stamp,) = came.header("webhook-id"), came.header("webhook-timestamp")
            signed = f"{message_id}.{stamp}.".encode() + came.body
            proof = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
            assert came.header("webhook-signature") == [f"v1,{proof}"]
            assert abs(int(stamp) - datetime.now(UTC).timestamp()) < 300
            ids.add(message_id)
        assert len(ids) == 5
        updated, body = next((one.document, one.body) for one, _ in receiver.came if b"thing.updated" in one.body)
        calls = team.rows(
            "SELECT url, status, outcome, sent_bytes > 0 FROM integrations.http_log WHERE connection = ''"
        )
        assert calls == [("env TEAM_URL", 202, "ok", True)] * 5, "the address is a secret: only its place is logged"
        assert updated["type"] == "thing.updated"
        assert b"12345678901234567890.5" in body
    rows = team.rows("SELECT id FROM canonical.thing WHERE name = 'c'")
    assert updated["data"]["id"] == str(rows[0][0])


def test_a_kind_without_on_change_has_no_trigger_and_an_edit_of_it_counts_from_then_on(team: Bench) -> None:
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'on_change%'"
    told, team.kinds = team.kinds, {"thing": kind()}
    team.sync(paged(made(3, name="a")))
    assert team.rows(triggers) == [(0,)]
    team.kinds = told
    team.sync(paged(made(3, name="b")))
    other = {"url": {"env": "OTHER_URL"}, "secret": {"env": "TEAM_SECRET"}}
    team.kinds = {"thing": kind(TOLD, other)}
    team.sync(paged(made(3, name="c")))
    assert team.rows(triggers) == [(2,)]
    team.kinds = {"thing": kind()}
    team.sync(paged(made(3, name="d")))
    assert team.rows(triggers) == [(0,)]
    counted = team.rows("SELECT target, change, count(*) FROM integrations.delivery GROUP BY 1, 2 ORDER BY 1")
    assert counted == [("env OTHER_URL", "updated", 3), ("env TEAM_URL", "updated", 6)]


def test_a_change_that_is_rolled_back_is_not_told_and_a_widened_kind_goes_on(team: Bench) -> None:
    team.sync(paged(made(2, name="a")))
    with psycopg.connect(team.database_url) as session:
        session.execute("UPDATE canonical.thing SET name = 'never'")
        session.rollback()
        session.execute("UPDATE canonical.thing SET name = 'b'")
        session.execute("ALTER TABLE canonical.thing ADD COLUMN more text")
        session.execute("UPDATE canonical.thing SET name = 'c'")
    found = team.rows("SELECT after ->> 'name', after ? 'more' FROM integrations.delivery ORDER BY id")
    assert found == [("a", False)] * 2 + [("b", False)] * 2 + [("c", True)] * 2


def test_later_changes_wait_behind_one_that_failed_and_other_records_go_on(team: Bench) -> None:
    team.sync(paged([{"id": "1", "name": "a"}]))
    team.sync(paged([{"id": "1", "name": "b"}]))
    with receiving(500, 202) as receiver:
        assert delivered(team, receiver) == {"later": 1}
        team.sync(paged([{"id": "1", "name": "b"}, {"id": "2", "name": "other"}]))
        assert delivered(team, receiver) == {"delivered": 1}
        assert names(receiver) == [("created", None, "other")]
        due_now(team)
        assert delivered(team, receiver) == {"delivered": 2}
        assert names(receiver)[1:] == [("created", None, "a"), ("updated", "a", "b")]
        tried = [one.header("webhook-id")[0] for one, _ in receiver.came]
        assert tried[0] == tried[2] and len(set(tried)) == 3


def test_after_the_last_try_it_is_dead_with_a_letter_and_the_next_one_goes_on(team: Bench) -> None:
    team.sync(paged([{"id": "1", "name": "a"}]))
    team.sync(paged([{"id": "1", "name": "b"}]))
    with receiving(*[503] * DELIVERY_TRIES, 202) as receiver:
        for number in range(DELIVERY_TRIES):
            assert delivered(team, receiver) == (
                {"later": 1} if number < DELIVERY_TRIES - 1 else {"dead": 1, "delivered": 1}
            )
            due_now(team)
        assert names(receiver) == [("updated", "a", "b")]
    letters = team.rows("SELECT origin, tries, reason ->> 'message', status FROM integrations.dead_letter")
    assert letters == [("delivery", DELIVERY_TRIES, "env TEAM_URL answered 503", "open")]


def test_an_address_that_is_missing_is_told_without_its_secret(team: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    team.sync(paged(made(1, name="a")))
    monkeypatch.delenv("TEAM_URL")
    assert delivered(team) == {"later": 1}
    ((reason,),) = team.rows("SELECT reason FROM integrations.delivery")
    assert "TEAM_URL is not set" in reason
    monkeypatch.setenv("TEAM_URL", "http://team:planted-pass-71@127.0.0.1:9/planted-path-72")
    due_now(team)
    assert delivered(team) == {"later": 1}
    ((reason,),) = team.rows("SELECT reason FROM integrations.delivery")
    assert reason == "the source at 127.0.0.1:9 can't be reached"


QUEUED = "SELECT 1 FROM integrations.delivery WHERE status = 'queued'"
SENDER = """
import sys
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.deliver import deliver
with Store(sys.argv[1]) as store:
    deliver(store, {"thing": Kind.model_validate(decode(sys.argv[2].encode()))})
"""


def test_a_kill_in_the_middle_loses_nothing_and_keeps_the_order(team: Bench, tmp_path: Path) -> None:
    count = 200
    for name in ("a", "b"):
        team.sync(paged(made(count, name=name), size=count))
    with receiving() as receiver:
        os.environ["TEAM_URL"] = receiver.url
        text = team.kinds["thing"].model_dump_json(exclude_none=True)
        child = subprocess.Popen([sys.executable, "-c", SENDER, team.database_url, text])
        until(lambda: len(receiver.came) >= 25 or child.poll() is not None)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert 25 <= len(receiver.came) < 2 * count
        assert team.rows(QUEUED)
        until(lambda: not delivered(team, receiver) and not team.rows(QUEUED))
        order: dict[str, list[str]] = {}
        seen = set()
        for came, _ in receiver.came:
            if came.header("webhook-id")[0] not in seen:
                seen.add(came.header("webhook-id")[0])
                data = came.document["data"]
                order.setdefault(data["id"], []).append(data["after"]["name"])
        assert len(order) == count
        assert all(one == ["a", "b"] for one in order.values())
