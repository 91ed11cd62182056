"""Rows are shaped from memory as they land, and nobody can tell: the outcome is that of shaping them from raw."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.sync import run, shape
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import Bench, made, paged

WRITTEN = """
0 -0 -0.0 0e0 1 1.0 1.10 1e0 1E5 1e5 1.5E+3 1e15 1e16 1e22 1.5e-7 1e-20 -2.50e2 123456789012345 1234567890123456
0.1234567890123456 12345678901234.5 100000000000000000000 12345678901234567890.5 1e300 9223372036854775808 1e-300
0.10000000000000000000 1000000000000000.0 1.7976931348623157e308 5e-324
"""
VALUES = [
    *WRITTEN.split(),
    "null",
    "true",
    '"1E5"',
    '""',
    '" "',
    '"a\\u0000b"',
    '"\\ud83d\\ude00"',
    '{"b": 1E5, "a": [1e16, -0.0]}',
    '{"a": 1, "a": 2}',
    '[{"kind": 1e0, "is": 1E2}]',
    '"2024-01-02T03:04:05Z"',
    "1704164645.50",
]
FIELDS = ("text", "whole", "exact", "flag", "moment", "day", "any", "word", "item", "boss")
KIND = Kind.model_validate(
    {
        "kind": "thing",
        "fields": {
            "text": {"type": "string"},
            "whole": {"type": "integer"},
            "exact": {"type": "decimal"},
            "flag": {"type": "boolean"},
            "moment": {"type": "timestamp"},
            "day": {"type": "date"},
            "any": {"type": "json"},
            "word": {"type": "string"},
            "item": {"type": "decimal"},
            "boss": {"type": "string"},
            "mail": {"type": "string"},
        },
    }
)
SOURCES: dict[str, Any] = {
    "text": "v",
    "whole": {"from": "v", "apply": ["integer"]},
    "exact": "v",
    "flag": {"from": "v", "apply": ["boolean"]},
    "moment": {"from": "v", "apply": [{"timestamp": ["unix", "iso"]}]},
    "day": {"from": "v", "apply": [{"date": "unix_ms"}]},
    "any": "v",
    "word": {"from": "v", "values": {"1": "one", "1E5": "many"}, "else": "other"},
    "item": {"from": "v", "where": {"kind": 1}, "take": "is"},
    "boss": {"from": "v", "lookup": "things"},
}
# Ids differ from one way to the other: of references it is told whose they are, or that they changed.
OUTCOME = {
    "canonical": """
        SELECT l.external_id, to_jsonb(c) - '{id,updated_at,edited_at,edit_stamp,deleted_at,boss}'::text[],
            c.deleted_at IS NULL,
            (SELECT o.external_id FROM integrations.link o WHERE o.canonical_id::text = c.boss)
        FROM integrations.link l JOIN canonical.thing c ON c.id = l.canonical_id ORDER BY 1""",
    "links": """
        SELECT external_id, kind, base, remote_version IS NULL, pending, deleted_at IS NULL
        FROM integrations.link ORDER BY 1""",
    "quarantine": """
        SELECT external_id, stage, status, hash, payload::text, reasons, attempts
        FROM integrations.quarantine ORDER BY 1, 2, id""",
    "decisions": """
        SELECT external_id, stage, decision, reason, detail - 'boss', detail ? 'boss'
        FROM integrations.decision ORDER BY 1, at, 2, 3, 5""",
}


def emptied(bench: Bench) -> None:
    tables = ("link", "quarantine", "decision", "stream_state", "seen")
    names = ["raw.acme__things", "canonical.thing", *(f"integrations.{name}" for name in tables)]
    with psycopg.connect(bench.database_url, autocommit=True) as session:
        session.execute(f"TRUNCATE {', '.join(names)}".encode())


def outcome(bench: Bench) -> dict[str, Any]:
    return {name: bench.rows(query) for name, query in OUTCOME.items()}


def both_ways(bench: Bench, monkeypatch: pytest.MonkeyPatch, steps: Any) -> tuple[Any, Any]:
    """What the steps give with rows shaped as they land, and with all of them shaped from raw."""
    followed = [*steps(), outcome(bench)]
    emptied(bench)
    with monkeypatch.context() as patched:
        patched.setattr(run, "follow", lambda *_: None)
        return followed, [*steps(), outcome(bench)]


@pytest.mark.parametrize("target", FIELDS)
def test_hostile_values_come_out_as_from_raw(bench: Bench, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    items = ", ".join(f'{{"v": {value}, "id": "k{number:03}"}}' for number, value in enumerate(VALUES))
    body = f'{{"items": [{items}]}}'.encode()
    bench.kinds = {"thing": KIND}
    declared = {"to": "thing", "fields": {target: SOURCES[target]}}

    def steps() -> Any:
        yield bench.things(lambda _: Reply(body=body), full=True, map=declared).shaped

    followed, from_raw = both_ways(bench, monkeypatch, steps)
    assert followed == from_raw
    assert followed[0].created and followed[0].created + followed[0].quarantined == len(VALUES) - 1


def test_changes_deletes_references_and_matches_come_out_as_from_raw(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    bench.kinds = {"thing": KIND}
    fields = {"word": "name", "boss": {"from": "boss", "lookup": "things"}, "mail": {"from": "mail", "required": True}}
    more = {
        "map": {"to": "thing", "match": ["mail"], "fields": fields},
        "version": "n",
        "deletes": {"when": {"gone": True}, "snapshot": "1d", "at_most": "100%"},
    }

    def rows(version: int, *numbers: int, **fields: Any) -> list[dict[str, Any]]:
        """Each refers to the one after it, which lands later."""
        return [{**row, "n": version, "boss": f"k{int(row['id'][1:]) + 1:05}", "mail": row["id"], **fields}
                for row in made(20) if int(row["id"][1:]) in numbers]  # fmt: skip

    first = rows(1, *range(20), name="a")
    second = (
        rows(1, 0, 1, name="a")
        + rows(2, 2, 3, name="b")
        + rows(0, 4, name="older")
        + rows(2, 5, 6, gone=True)
        + rows(2, 7, mail=None)
        + rows(1, *range(8, 16), name="a")
    )
    third = rows(3, 5, name="back") + rows(3, 7, name="healed") + rows(1, *range(8, 16), name="a")

    def steps() -> Any:
        for number, given in enumerate((first, second, third)):
            yield bench.things(paged(given, 3), full=True, **more).shaped
            if number == 0:
                bench.rows("UPDATE canonical.thing SET word = 'edited here' WHERE mail = 'k00002' RETURNING 1")

    followed, from_raw = both_ways(bench, monkeypatch, steps)
    assert followed == from_raw
    assert followed[0].created == 20 and followed[1].deleted >= 2 and followed[2].updated >= 2


def test_unchanged_rows_are_not_shaped_and_new_ones_are_at_once(bench: Bench, small_chunks: None) -> None:
    bench.kinds = {"thing": KIND}
    declared = {"to": "thing", "fields": {"text": "name"}}
    held: list[int] = []

    def watched(seen: Seen) -> Any:
        held.append(bench.rows("SELECT count(*) FROM integrations.link")[0][0])
        return paged(made(60, name="a"), 3)(seen)

    assert bench.things(watched, map=declared).shaped.created == 60
    assert held == sorted(held) and held[-1] > 0, "shaped while the list was still read"
    assert not any(bench.things(map=declared).shaped.as_dict().values())


def test_what_could_not_be_shaped_on_the_way_is_shaped_from_raw(
    bench: Bench, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.kinds = {"thing": KIND}
    declared = {"to": "thing", "fields": {"text": "name"}}
    committed: list[int] = []

    def failing(*given: Any) -> Any:
        committed.append(1)
        if len(committed) == 2:
            raise RuntimeError("no reason")
        return real(*given)

    real = shape.shape_chunk
    monkeypatch.setattr(shape, "shape_chunk", failing)
    result = bench.things(paged(made(20, name="a"), 3), map=declared)
    assert (result.status, result.shaped.created) == ("succeeded", 20)
    assert bench.rows("SELECT count(*) FROM canonical.thing") == [(20,)]


def test_an_edited_mapping_and_what_a_crash_left_are_shaped_from_raw(bench: Bench, small_chunks: None) -> None:
    bench.kinds = {"thing": KIND}
    bench.things(paged(made(9, name="a")))
    named = {"to": "thing", "fields": {"text": "name"}}
    assert bench.things(paged(made(12, name="a")), map=named).shaped.created == 12
    bench.rows("UPDATE raw.acme__things SET stamp = pg_current_xact_id() WHERE external_id < 'k00003' RETURNING 1")
    assert bench.things(paged(made(15, name="a")), map=named).shaped.as_dict()["unchanged"] == 3
    moved = {"to": "thing", "fields": {"word": "name"}}
    assert bench.things(paged(made(18, name="a")), map=moved).shaped.as_dict()["updated"] == 15
    assert bench.rows("SELECT count(*) FROM canonical.thing WHERE word = 'a'") == [(18,)]
