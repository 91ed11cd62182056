"""What a source sends differently is told once, kept with first and last seen, and ends or is accepted."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.drift import accept_findings
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

FINDINGS = "SELECT kind, path, severity, status FROM integrations.drift ORDER BY id"


def accepted(bench: Bench) -> int:
    with Store(bench.database_url) as store:
        return accept_findings("acme", "things", store, uuid4())


def nested(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{**row, "properties": {"city": "Lyon", **more}} for row in made(count)]


def test_a_profile_is_kept_with_the_rows_and_a_finding_is_told_once(bench: Bench) -> None:
    bench.things(paged(nested(30)))
    profile = bench.rows("SELECT path, rows, filled, types FROM integrations.profile ORDER BY path")
    assert profile == [
        ("id", 30, 30, {"text": 30}),
        ("properties", 30, 30, {"object": 30}),
        ("properties.city", 30, 30, {"text": 30}),
    ]
    assert bench.rows(FINDINGS) == []
    for _ in range(2):
        bench.things(paged(nested(30, zone="a")))
    assert bench.rows(FINDINGS) == [("new_field", "properties.zone", "warning", "open")]
    assert bench.rows("SELECT rows, samples, last_seen > first_seen FROM integrations.drift") == [(60, ["a"], True)]
    bench.things(paged(nested(60)))
    assert bench.rows("SELECT status, reason, closed_at IS NOT NULL FROM integrations.drift") == [
        ("ended", "it is gone", True)
    ]


@pytest.mark.parametrize(
    ("more", "kind"),
    [({"zone": "a"}, "new_field"), ({"city": 7}, "changed_type"), ({"city": None}, "vanished_field")],
)
def test_what_is_accepted_is_no_news_any_more(bench: Bench, more: dict[str, Any], kind: str) -> None:
    bench.things(paged(nested(30)))
    bench.things(paged(nested(30, **more)))
    assert [row[0] for row in bench.rows(FINDINGS)] == [kind]
    assert accepted(bench) == 1
    for _ in range(2):
        bench.things(paged(nested(30, **more)))
    assert [(row[0], row[3]) for row in bench.rows(FINDINGS)] == [(kind, "accepted")]


def test_a_new_value_of_a_listed_field_is_told_though_its_row_is_rejected(bench: Bench) -> None:
    fields = {"stage": {"type": "string", "values": ["lead"]}}
    bench.things(paged(made(30, stage="lead")), fields=fields)
    rows = made(30, stage="lead")
    rows[3]["stage"] = "churned"
    bench.things(paged(rows), fields=fields)
    assert bench.rows(FINDINGS) == [("new_value", "stage", "warning", "open")]
    bench.things(fields={"stage": {"type": "string", "values": ["lead", "churned"]}})
    assert bench.rows("SELECT status, reason FROM integrations.drift") == [("ended", "the file names it")]
    assert len(bench.live()) == 30


def test_what_was_not_committed_was_not_learned(bench: Bench) -> None:
    fields = {"n": {"type": "integer"}}
    bench.things(paged(made(30, n=1)), fields=fields)
    stopped = bench.things(paged(made(30, n="x", extra=1), 30), fields=fields)
    assert stopped.status == "failed"
    assert bench.rows(FINDINGS) == []


def test_rows_that_say_only_that_a_record_is_gone_show_nothing(bench: Bench) -> None:
    marked: dict[str, Any] = {"deletes": {"when": "gone"}}
    bench.things(paged(made(30, n=1)), **marked)
    bench.things(paged(made(30, gone=True)), **marked)
    assert bench.rows("SELECT count(*) FROM raw.acme__things WHERE deleted_at IS NOT NULL") == [(30,)]
    assert bench.rows(FINDINGS) == []
