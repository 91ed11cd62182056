"""Retention: what is over and old goes, what is open or young stays, and no statement takes much at a time."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.store import pruning
from integrations_pipeline.store.pruning import RULES, prune

OLD, YOUNG = "now() - '1000 days'::interval", "now() - '1 day'::interval"
CALL = "(id, at, connection, method, url, attempt, waited_seconds, seconds, sent_bytes, received_bytes, outcome)"
DECISION = "(at, connection, stream, external_id, stage, decision, detail)"
RUN = "(run_id, connection, stream, mode, status, started_at)"
EVENT = "(connection, event_id, hash, payload, headers, status, received_at, finished_at)"
CHANGE = "(connection, stream, kind, canonical_id, operation, changes, edited_at, status, queued_at, finished_at)"
SENT = "(kind, record_id, target, change, after, status, changed_at, finished_at)"
BAD = "(connection, stream, stage, external_id, hash, payload, reasons, status, first_seen, closed_at)"
LETTER = "(origin, origin_id, connection, reason, tries, status, died_at, closed_at)"
CONFLICT = "(connection, stream, external_id, kind, canonical_id, field, reason, status, opened_at, closed_at)"
DRIFT = "(connection, stream, kind, path, severity, found, samples, rows, looked, calm, status, first_seen, closed_at)"
ALERT = "(connection, stream, condition, severity, what, who, next, since, opened_at, healed_at)"
ID = "gen_random_uuid()"

GONE = {
    "http_log": [(CALL, f"1, {OLD}, 'a', 'GET', 'u', 1, 0, 0, 0, 0, 'ok'")],
    "decision": [(DECISION, f"{OLD}, 'a', 's', 'k', 'raw', 'created', NULL")],
    "run_log": [(RUN, f"{ID}, 'a', 's', 'full', 'failed', {OLD}")],
    "inbox": [
        (EVENT, f"'a', '{state}', '', '{{}}', '{{}}', '{state}', {OLD}, {OLD}") for state in ("done", "discarded")
    ],
    "outbox": [
        (CHANGE, f"'a', 's', 'k', {ID}, 'update', '{{}}', {OLD}, '{state}', {OLD}, {OLD}")
        for state in ("done", "discarded")
    ],
    "delivery": [(SENT, f"'k', {ID}, 't', 'created', '{{}}', 'delivered', {OLD}, {OLD}")],
    "edit": [("(kind, record_id, operation, edited_at)", f"'k', {ID}, 'update', {OLD}")],
    "alert": [(ALERT, f"'a', 's', 'c', 'error', 'w', 'w', 'n', {OLD}, {OLD}, {OLD}")],
    "quarantine": [(BAD, f"'a', 's', 'boundary', 'k1', '', '{{}}', '[]', 'healed', {OLD}, {OLD}")],
    "dead_letter": [
        (LETTER, f"'inbox', 1, 'a', '{{}}', 5, '{state}', {OLD}, {OLD}") for state in ("replayed", "discarded")
    ],
    "conflict": [
        (CONFLICT, f"'a', 's', 'k', 'k', {ID}, 'f', 'r', '{state}', {OLD}, {OLD}") for state in ("resolved", "settled")
    ],
    "drift": [
        (DRIFT, f"'a', 's', 'new_field', 'p', 'error', '[]', '[]', 1, 1, 1, '{state}', {OLD}, {OLD}")
        for state in ("ended", "accepted")
    ],
    "seen": [("(connection, stream, refresh_id, external_id)", f"'a', 's', {ID}, 'k'")],
}
KEPT = {
    "http_log": [(CALL, f"2, {YOUNG}, 'a', 'GET', 'u', 1, 0, 0, 0, 0, 'ok'")],
    "decision": [
        (DECISION, f"{YOUNG}, 'a', 's', 'k', 'raw', 'created', NULL"),
        (DECISION, f"""{OLD}, 'a', 's', 'k', 'raw', 'deleted', '{{"deleted": "2020"}}'"""),
    ],
    "run_log": [
        (RUN, f"{ID}, 'a', 's', 'full', 'succeeded', {OLD} + '1 day'"),  # the latest of its mode
        (RUN, f"{ID}, 'a', 's', 'incremental', 'succeeded', {YOUNG}"),
        (RUN, f"{ID}, 'b', 's', 'incremental', 'running', {OLD}"),
    ],
    "inbox": [
        (EVENT, f"'a', 'e1', '', '{{}}', '{{}}', 'received', {OLD}, NULL"),
        (EVENT, f"'a', 'e2', '', '{{}}', '{{}}', 'dead', {OLD}, {OLD}"),
        (EVENT, f"'a', 'e3', '', '{{}}', '{{}}', 'done', {OLD}, {YOUNG}"),
    ],
    "outbox": [
        (CHANGE, f"'a', 's', 'k', {ID}, 'update', '{{}}', {OLD}, '{state}', {OLD}, {OLD}")
        for state in ("queued", "unsure", "answered", "parked", "dead")
    ],
    "delivery": [(SENT, f"'k', {ID}, 't', 'created', '{{}}', '{state}', {OLD}, {OLD}") for state in ("queued", "dead")],
    "edit": [("(kind, record_id, operation, edited_at)", f"'k', {ID}, 'update', {YOUNG}")],
    "alert": [(ALERT, f"'a', 's', 'c', 'error', 'w', 'w', 'n', {OLD}, {OLD}, NULL")],
    "quarantine": [
        (BAD, f"'a', 's', 'boundary', '{state}', '', '{{}}', '[]', '{state}', {OLD}, {OLD}")
        for state in ("open", "discarded")  # a discarded row isn't asked about again
    ],
    "dead_letter": [(LETTER, f"'inbox', 2, 'a', '{{}}', 5, 'open', {OLD}, NULL")],
    "conflict": [(CONFLICT, f"'a', 's', 'k', 'k', {ID}, 'f', 'r', 'open', {OLD}, NULL")],
    "drift": [(DRIFT, f"'a', 's', 'new_field', 'p', 'error', '[]', '[]', 1, 1, 1, 'open', {OLD}, NULL")],
    "seen": [("(connection, stream, refresh_id, external_id)", f"'b', 's', {ID}, 'k'")],  # b runs
}


@pytest.fixture
def session(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield session


def insert(session: psycopg.Connection[Any], rows: dict[str, list[tuple[str, str]]]) -> None:
    for table, values in rows.items():
        for columns, row in values:
            session.execute(f"INSERT INTO integrations.{table} {columns} VALUES ({row})")  # type: ignore[arg-type]


def held(session: psycopg.Connection[Any]) -> dict[str, list[str]]:
    return {
        rule.table: sorted(row[0] for row in session.execute(f"SELECT t::text FROM integrations.{rule.table} t"))  # type: ignore[arg-type]
        for rule in RULES
    }


def test_every_rule_takes_what_is_over_and_old_and_nothing_else(session: psycopg.Connection[Any]) -> None:
    assert set(GONE) == set(KEPT) == {rule.table for rule in RULES}
    insert(session, KEPT)
    kept = held(session)
    insert(session, GONE)
    assert prune(session) == {table: len(rows) for table, rows in GONE.items()}
    assert held(session) == kept
    assert not any(prune(session).values())


def test_a_table_that_fails_stops_no_other(session: psycopg.Connection[Any]) -> None:
    insert(session, KEPT)
    kept = {table: len(rows) for table, rows in held(session).items()}
    insert(session, GONE)
    session.execute("ALTER TABLE integrations.http_log RENAME COLUMN at TO noted")
    with pytest.raises(DestinationError, match=r"^http_log could not be pruned; of the others \d+ rows were: "):
        prune(session)
    left = {table: len(rows) for table, rows in held(session).items()}
    assert left == {**kept, "http_log": kept["http_log"] + len(GONE["http_log"])}


def test_a_refresh_under_way_keeps_its_keys(session: psycopg.Connection[Any]) -> None:
    refresh = uuid4()
    session.execute(
        "INSERT INTO integrations.stream_state (connection, stream, refresh_id) VALUES ('a', 's', %s)", [refresh]
    )
    session.execute("INSERT INTO integrations.seen VALUES ('a', 's', %s, 'k')", [refresh])
    assert prune(session)["seen"] == 0
    session.execute("UPDATE integrations.stream_state SET refresh_id = NULL")
    assert prune(session)["seen"] == 1


def test_it_works_in_bounded_pieces(session: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_ROWS", 10)
    monkeypatch.setattr(pruning, "PRUNE_BATCHES", 3)
    session.execute(
        f"INSERT INTO integrations.http_log {CALL} SELECT n, {OLD}, 'a', 'GET', 'u', 1, 0, 0, 0, 0, 'ok'"  # type: ignore[arg-type]
        " FROM generate_series(1, 45) AS n"
    )
    assert [prune(session)["http_log"] for _ in range(3)] == [30, 15, 0]
