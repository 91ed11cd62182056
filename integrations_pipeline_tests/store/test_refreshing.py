"""The end of a full refresh: what it hasn't seen gets a tombstone, unless that is implausibly much."""

from __future__ import annotations

from uuid import uuid4

import pytest

from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.store.state import StateChange
from integrations_pipeline_tests.store.parts import chunk, land, rejection, row, run, stored

DONE = StateChange(bookmark=None, watermark="2024", refresh_id=None)


def rows(*numbers):
    return [row(f"k{number}") for number in numbers]


def begin(lease, refresh_id, *good, **more):
    state = StateChange(refresh_id=refresh_id, bookmark={"page": 2})
    return lease.commit_chunk(chunk(*good, refresh_id=refresh_id, states=[state], **more))


def test_only_live_rows_that_were_not_seen_get_a_tombstone(connect, look):
    land(connect, chunk(*rows(*range(30)), row("gone", deleted=True)))
    refresh = uuid4()
    with run(connect, mode="full") as lease:
        begin(lease, refresh, *rows(*range(20)))
        others = {
            "skipped": [("k20", "draft")],
            "rejected": [rejection("k21")],
            "superseded": [("k22", "1")],
        }
        begin(lease, refresh, *rows(*range(15, 20)), **others)
        assert lease.complete_refresh(refresh, 40, DONE).tombstoned == 7
        state = lease.state()
        lease.finish_run("succeeded")
    assert (state.bookmark, state.watermark, state.refresh_id) == (None, "2024", None)
    assert {key for key, one in stored(look).items() if one[2]} == {f"k{n}" for n in range(23, 30)} | {"gone"}
    assert look("SELECT count(*) FROM integrations.seen") == [(0,)]
    assert look("SELECT count(*) FROM integrations.decision WHERE reason = 'not in the full refresh'") == [(7,)]
    assert look("SELECT tombstoned FROM integrations.run_log WHERE mode = 'full'") == [(7,)]
    assert land(connect, chunk(*rows(25))) == [{"updated": 1}]  # it was only missing


def test_an_implausible_refresh_deletes_nothing_and_leaves_the_state(connect, look):
    land(connect, chunk(*rows(*range(100))))
    refresh = uuid4()
    with run(connect) as lease:
        begin(lease, refresh, *rows(*range(79)))
        with pytest.raises(ContractError, match="lacks 21 of 100 records, more than 20%"):
            lease.complete_refresh(refresh, 20, DONE)
        assert lease.state().refresh_id == refresh and lease.state().bookmark == {"page": 2}
        assert not any(one[2] for one in stored(look).values())
        begin(lease, refresh, *rows(79))
        assert lease.complete_refresh(refresh, 20, DONE).tombstoned == 20


def test_a_share_of_a_handful_proves_nothing_unless_it_is_all(connect):
    land(connect, chunk(*rows(*range(19))))
    refresh = uuid4()
    with run(connect) as lease:
        begin(lease, refresh)
        with pytest.raises(ContractError, match="lacks 19 of 19 records"):
            lease.complete_refresh(refresh, 20, DONE)
        begin(lease, refresh, *rows(0))
        assert lease.complete_refresh(refresh, 20, DONE).tombstoned == 18
        assert lease.complete_refresh(uuid4(), 20, DONE).tombstoned == 1  # the last one may go


def test_who_says_so_may_empty_a_list(connect):
    land(connect, chunk(*rows(*range(19))))
    with run(connect) as lease:
        assert lease.complete_refresh(uuid4(), 100, DONE).tombstoned == 19


def test_the_keys_of_an_abandoned_refresh_are_forgotten(connect, look):
    land(connect, chunk(*rows(*range(10))))
    first, second = uuid4(), uuid4()
    with run(connect) as lease:
        begin(lease, first, *rows(*range(10)))
        begin(lease, second, *rows(*range(5)))
        assert look("SELECT DISTINCT refresh_id FROM integrations.seen") == [(second,)]
        assert lease.complete_refresh(second, 100, DONE).tombstoned == 5


def test_a_bad_row_whose_record_is_gone_is_closed(connect, look):
    land(connect, chunk(rejected=[rejection("bad"), rejection("still"), rejection(None)]))
    refresh = uuid4()
    with run(connect) as lease:
        begin(lease, refresh, rejected=[rejection("still")])
        lease.complete_refresh(refresh, 20, DONE)
    assert look("SELECT external_id, status FROM integrations.quarantine ORDER BY 1") == [
        ("bad", "healed"), ("still", "open"), (None, "healed")
    ]  # fmt: skip


def test_another_streams_refresh_is_its_own(connect, look):
    refresh = uuid4()
    with run(connect) as lease, run(connect, connection="shop") as other:
        begin(lease, refresh, *rows(1))
        begin(other, refresh, *rows(1, 2))
        assert other.complete_refresh(refresh, 20, DONE).tombstoned == 0
    assert look("SELECT connection FROM integrations.seen") == [("crm",)]
