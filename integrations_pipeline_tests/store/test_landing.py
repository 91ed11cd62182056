"""A chunk lands whole: rows judged against what is stored, bad ones kept, counters that balance, state beside them."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from integrations_pipeline.spec.errors import Failed
from integrations_pipeline.store.landing import Counters
from integrations_pipeline.store.state import StateChange
from integrations_pipeline_tests.store.parts import NOW, chunk, counted, land, rejection, row, run, stored

DECISIONS = "SELECT external_id, decision, reason, detail FROM integrations.decision ORDER BY ctid"


def decisions(look):
    return [one[:2] for one in look(DECISIONS)]


def test_created_updated_unchanged(connect, look):
    assert land(connect, chunk(row("a", name="A"), row("b", name="B"))) == [{"created": 2}]
    changed = chunk(row("a", 2, name="AA", age=3), row("b", name="B"), row("c", 1))
    assert land(connect, changed) == [{"created": 1, "updated": 1, "unchanged": 1}]
    assert stored(look) == {
        "a": ({"name": "AA", "age": 3}, 2, False),
        "b": ({"name": "B"}, 1, False),
        "c": ({}, 1, False),
    }
    assert look(DECISIONS + " OFFSET 2") == [
        ("a", "updated", None, {"name": ["A", "AA"], "age": [None, 3]}),
        ("c", "created", None, None),
    ]


def test_a_field_that_vanished_is_in_the_decision(connect, look):
    land(connect, chunk(row("a", old=1, same=[1])))
    land(connect, chunk(row("a", 2, same=[1])))
    assert look(DECISIONS)[-1] == ("a", "updated", None, {"old": [1, None]})


def test_unchanged_rows_cost_no_write(connect, look):
    rows = [row(f"k{number}", name="x" * 100) for number in range(2000)]
    land(connect, chunk(*rows))
    written = """SELECT (SELECT array_agg(ROW (ctid, xmin, xmax)::text ORDER BY ctid) FROM raw.crm__contacts),
                        (SELECT count(*) FROM integrations.decision)"""
    before = look(written)
    assert land(connect, chunk(*rows)) == [{"unchanged": 2000}]
    assert look(written) == before  # not even a lock was set


def test_an_older_version_never_overwrites(connect, look):
    land(connect, chunk(row("a", 5, name="new")))
    assert land(connect, chunk(row("a", 4, name="old"))) == [{"superseded": 1}]
    assert stored(look)["a"] == ({"name": "new"}, 5, False)
    superseded = look(DECISIONS)[-1]
    assert superseded[1:3] == ("superseded", "a newer version is stored")
    came, held = superseded[3]["version"]
    assert came < held == look("SELECT version FROM raw.crm__contacts")[0][0]


def test_an_equal_version_read_later_is_newer_unless_the_list_is_descending(connect, look):
    first, second = row("a", 5, name="first"), row("a", 5, name="second")
    assert land(connect, chunk(first), chunk(second)) == [{"created": 1}, {"updated": 1}]
    assert land(connect, chunk(first, desc=True)) == [{"updated": 1}]  # of another run: read later
    third, fourth = row("b", 5, name="third"), row("b", 5, name="fourth")
    assert land(connect, chunk(third, desc=True), chunk(fourth, desc=True)) == [{"created": 1}, {"superseded": 1}]
    assert stored(look)["b"][0] == {"name": "third"}


def test_a_repeat_within_the_run_is_superseded_and_in_the_next_run_unchanged(connect, look):
    assert land(connect, chunk(row("a")), chunk(row("a"))) == [{"created": 1}, {"superseded": 1}]
    assert look(DECISIONS)[-1][1:3] == ("superseded", "a repeat within the run")
    assert land(connect, chunk(row("a"))) == [{"unchanged": 1}]


def test_tombstones(connect, look):
    land(connect, chunk(row("a", 1, name="A")))
    gone = row("a", 3, deleted=True)
    assert land(connect, chunk(gone)) == [{"deleted": 1}]
    assert stored(look)["a"] == ({}, 3, True)
    assert land(connect, chunk(gone)) == [{"unchanged": 1}]
    assert land(connect, chunk(row("a", 2, name="late"))) == [{"superseded": 1}]
    stamp = look("SELECT stamp::text FROM raw.crm__contacts")
    assert land(connect, chunk(row("a", 6, deleted=True, by="other"))) == [{"unchanged": 1}]
    assert land(connect, chunk(row("a", 5, name="between"))) == [{"superseded": 1}]  # the newer tombstone was kept
    assert look("SELECT stamp::text FROM raw.crm__contacts") == stamp  # and nothing is shaped anew for it
    assert land(connect, chunk(row("a", 7, name="back"))) == [{"updated": 1}]
    assert stored(look)["a"] == ({"name": "back"}, 7, False)
    assert look(DECISIONS)[-1][1:3] == ("updated", "it is back")


def test_a_tombstone_of_a_key_never_seen_keeps_late_rows_out(connect, look):
    assert land(connect, chunk(row("a", 5, deleted=True))) == [{"deleted": 1}]
    assert land(connect, chunk(row("a", 4, name="late"))) == [{"superseded": 1}]
    assert stored(look)["a"][2] is True


def test_rows_left_out_are_counted_and_decided_once(connect, look):
    left_out = {
        "skipped": [("s", "draft: true"), (None, "draft: true")],
        "superseded": [("a", "1")],
        "rejected": [rejection("r"), rejection(None, '{"no": "key"}')],
    }
    for _ in range(3):
        done = land(connect, chunk(row("a", 2), **left_out))[0]
        assert {k: done[k] for k in ("skipped", "superseded", "quarantined")} == {
            "skipped": 2, "superseded": 1, "quarantined": 2
        }  # fmt: skip
    names = decisions(look)
    assert names.count(("s", "skipped")) == names.count(("r", "quarantined")) == names.count((None, "quarantined")) == 1
    open_rows = look("SELECT external_id, attempts, status, stage FROM integrations.quarantine ORDER BY 1")
    assert open_rows == [("r", 3, "open", "boundary"), (None, 3, "open", "boundary")]


def test_a_bad_row_that_changes_is_a_new_decision_on_the_same_open_row(connect, look):
    land(connect, chunk(rejected=[rejection("r", '{"v": 1}', "first")]))
    land(connect, chunk(rejected=[rejection("r", '{"v": 2}', "second"), rejection("r", '{"v": 3}', "third")]))
    assert look("SELECT attempts, payload, reasons -> 0 ->> 'message' FROM integrations.quarantine") == [
        (3, {"v": 3}, "third")
    ]
    assert [one[2] for one in look(DECISIONS)] == ["first", "third"]


def test_a_good_row_heals_its_key_and_a_superseded_one_does_not(connect, look):
    status = "SELECT status FROM integrations.quarantine ORDER BY id"
    land(connect, chunk(row("r", 5)), chunk(rejected=[rejection("r")]))
    land(connect, chunk(row("r", 4, name="older")))
    assert look(status) == [("open",)]
    land(connect, chunk(row("r", 6, name="well"), row("other")))
    assert look(status) == [("healed",)]
    land(connect, chunk(rejected=[rejection("r")]))
    land(connect, chunk(skipped=[("r", "draft: true")]))
    assert look(status) == [("healed",), ("healed",)]


def test_a_key_good_and_bad_in_one_chunk_stays_in_quarantine(connect, look):
    land(connect, chunk(row("r"), rejected=[rejection("r")]))
    land(connect, chunk(row("r"), rejected=[rejection("r")]))
    assert look("SELECT status FROM integrations.quarantine WHERE status = 'open'") == [("open",)]


UNSTORABLE = {
    "nul": ("nul", b'{"id": "nul", "text": "a\\u0000b"}'),
    "surrogate": ("surrogate", b'{"id": "surrogate", "text": "\\ud800"}'),
    "no_json": ("no_json", b'{"id": nonsense}'),
    "bad_utf8": ("bad_utf8", b'{"id": "\xff"}'),
    "huge_number": ("huge_number", b'{"n": 1e999999}'),
    "long_key": ("k" * 3000, b'{"id": "long"}'),
    "nul_key": ("a\0b", b'{"id": "x"}'),
    "surrogate_key": ("a\ud800", b'{"id": "x"}'),
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_one_row_that_postgres_refuses_costs_one_row(connect, look, name):
    key, payload = UNSTORABLE[name]
    rows = [row(f"k{number}") for number in range(50)]
    bad = (key, payload, b"h" * 16, f"{1:020d}", False)
    seen = uuid4()
    assert land(connect, chunk(*rows[:20], bad, *rows[20:], refresh_id=seen)) == [{"created": 50, "quarantined": 1}]
    assert len(stored(look)) == 50
    assert look(
        "SELECT reasons -> 0 ->> 'rule', length(reasons -> 0 ->> 'message') > 5 FROM integrations.quarantine"
    ) == [("unstorable", True)]


def test_all_rows_refused_and_some_rejected(connect, look):
    bad = [(f"b{n}", b'{"t": "\\u0000"}', bytes([n]) * 16, "1", False) for n in range(33)]
    assert land(connect, chunk(*bad, rejected=[rejection("r", '{"s": "\\ud800\\u0000"}', "a\0b\ud800")])) == [
        {"quarantined": 34}
    ]
    assert stored(look) == {}
    assert look("SELECT count(*), count(DISTINCT external_id) FROM integrations.quarantine") == [(34, 34)]


def test_the_state_moves_with_the_rows_or_not_at_all(connect, look):
    moved = StateChange(bookmark={"page": 2}, watermark="2024-01-01")
    with run(connect) as lease:
        lease.commit_chunk(chunk(row("a"), states=[moved, StateChange("p", bookmark={"page": 1})]))
        broken = replace(chunk(row("b"), states=[StateChange(bookmark={"page": 3})]), fetched=7)
        with pytest.raises(Failed, match="add up"):
            lease.commit_chunk(broken)
        state = lease.state()
        assert (state.bookmark, state.watermark) == ({"page": 2}, "2024-01-01")
        assert lease.state("p").bookmark == {"page": 1}
        assert lease.commit_chunk(chunk(row("b"))).created == 1  # the session goes on after a refused chunk
    assert set(stored(look)) == {"a", "b"}


def test_the_runs_counters_are_those_of_its_chunks(connect, look):
    with run(connect) as lease:
        total = lease.commit_chunk(chunk(row("a"), row("b"), pages=1, requests=2, waited_seconds=1.5))
        total = total + lease.commit_chunk(chunk(row("a"), skipped=[("s", "x")], rejected=[rejection("r")], pages=3))
        total = total + lease.commit_chunk(chunk(row("b", 2, n=1), row("c", deleted=True)))
    assert total == Counters(fetched=7, created=2, updated=1, deleted=1, skipped=1, quarantined=1, superseded=1)
    assert look(
        "SELECT fetched, created, updated, deleted, skipped, quarantined, superseded, pages, requests, waited_seconds"
        " FROM integrations.run_log"
    ) == [(7, 2, 1, 1, 1, 1, 1, 4, 2, 1.5)]


def test_a_chunk_before_its_run_is_in_the_log_is_refused(connect):
    from integrations_pipeline.store.lease import take_lease

    with take_lease(connect, "crm", "contacts", uuid4()) as lease, pytest.raises(Failed, match="start_run"):
        lease.commit_chunk(chunk(row("a")))


def test_an_empty_chunk_moves_only_the_state(connect):
    with run(connect) as lease:
        assert lease.commit_chunk(chunk(states=[StateChange(watermark="w")], pages=1)) == Counters()
        assert lease.state().watermark == "w"


def test_rows_below_a_parent(connect, look):
    notes = {"stream": "notes"}
    parents = "SELECT external_id, parent_key, deleted_at IS NOT NULL FROM raw.crm__notes ORDER BY 1"

    def below(parent, *keys, **more):
        return chunk(*[row(k) for k in keys], parent_keys=dict.fromkeys(keys, parent), **more)

    land(connect, below("p1", "a", "b"), below("p2", "c"), **notes)
    done = land(connect, below("p1", "a", "x", replaced_parents=["p1"]), **notes)
    assert done == [{"created": 1, "unchanged": 1}]
    assert look(parents) == [("a", "p1", False), ("b", "p1", True), ("c", "p2", False), ("x", "p1", False)]
    assert look("SELECT tombstoned FROM integrations.run_log ORDER BY tombstoned") == [(0,), (1,)]
    moved = below("p2", "a", "c", replaced_parents=["p2"])
    assert land(connect, moved, below("p1", replaced_parents=["p1"]), **notes)[0] == {"unchanged": 2}
    assert look(parents) == [("a", "p2", False), ("b", "p1", True), ("c", "p2", False), ("x", "p1", True)]


def test_threads_that_share_a_lease_take_turns(connect):
    """The next chunk is planned while the last one is committed."""
    from concurrent.futures import ThreadPoolExecutor

    with run(connect) as lease, ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(lease.commit_chunk, chunk(*[row(f"{n}-{k}") for k in range(200)])) for n in range(8)]
        states = [pool.submit(lease.state) for _ in range(50)]
        assert sum(job.result().created for job in jobs) == 1600
        assert {job.result().lease_epoch for job in states} == {1}


def test_counted_names_are_those_of_the_contract():
    assert counted(Counters(1, 2, 3, 4, 5, 6, 7, 8, 9).as_dict()) == {
        "created": 2, "updated": 3, "unchanged": 4, "deleted": 5, "skipped": 6, "quarantined": 7, "superseded": 8
    }  # fmt: skip
    assert NOW.tzinfo is not None
