"""One writer per stream: a lease is exclusive, dies with its process, and fences a holder that was overtaken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from integrations_pipeline.spec.errors import DestinationError, LeaseHeld
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.state import StateChange, StreamState
from integrations_pipeline_tests.store.parts import NOW, chunk, land, row, run, stored

HOLDER = """
import sys, time, uuid, psycopg
from integrations_pipeline.store.lease import take_lease
connect = lambda: psycopg.connect(sys.argv[1], autocommit=True)
with take_lease(connect, "crm", "contacts", uuid.uuid4()) as lease:
    lease.start_run("full", __import__("datetime").datetime.now(__import__("datetime").UTC))
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_session_is_told_when_to_come_back(connect):
    with run(connect), pytest.raises(LeaseHeld) as refused, run(connect):
        pass
    assert timedelta(0) < refused.value.resume_at - datetime.now(UTC) <= timedelta(minutes=1)
    assert refused.value.where == "crm/contacts"


def test_other_streams_and_connections_are_free(connect):
    with run(connect), run(connect, stream="notes"), run(connect, connection="shop"):
        pass


def test_the_lease_is_free_at_once_after_its_block(connect):
    epochs = []
    for _ in range(5):
        with run(connect) as lease:
            epochs.append(lease.epoch)
    assert epochs == [1, 2, 3, 4, 5]


def test_kill_9_of_the_holder_frees_the_lease_and_its_run_is_buried(connect, database_url, look):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, database_url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeld), run(connect):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    while time.monotonic() - started < 60:
        try:
            with run(connect) as lease:
                assert lease.epoch == 2
                break
        except LeaseHeld:
            time.sleep(0.02)
    else:
        pytest.fail("the lease of a killed holder is still held")
    assert look(
        "SELECT status, mode, error ->> 'message' FROM integrations.run_log ORDER BY started_at DESC LIMIT 1"
    ) == [("failed", "full", "the process ended without a word")]


def test_an_overtaken_holder_writes_nothing(connect, look):
    """Paused, its lock lost (as behind a pooler), another holder came and went: each verb of the old one is refused."""
    with run(connect) as old:
        old.commit_chunk(chunk(row("a")))
        old.session.execute("SELECT pg_advisory_unlock_all()")
        with run(connect) as new:
            new.commit_chunk(chunk(row("b")))
        verbs = (
            lambda: old.commit_chunk(chunk(row("c"), row("a", 9), states=[StateChange(bookmark={"page": 9})])),
            lambda: old.apply_state(StateChange(watermark="2030")),
            lambda: old.complete_refresh(uuid4(), 100, StateChange()),
            lambda: old.start_run("full", NOW),
            lambda: old.finish_run("succeeded"),
        )
        for verb in verbs:
            with pytest.raises(LeaseHeld, match="taken over"):
                verb()
    assert set(stored(look)) == {"a", "b"} and stored(look)["a"][1] == 1
    assert look("SELECT bookmark, watermark, last_success FROM integrations.stream_state") == [(None, None, None)]


def test_what_an_overtaken_holder_did_beside_is_undone(connect, look):
    """Beside the lease's session the fence is looked at when the work is done."""
    with run(connect) as old, old.beside() as beside:
        old.session.execute("SELECT pg_advisory_unlock_all()")
        with run(connect):
            pass
        insert = "INSERT INTO raw.crm__contacts VALUES ('late', '{}', '', '1', now())"
        with pytest.raises(LeaseHeld, match="taken over"):
            beside.write(lambda session: session.execute(insert))
    assert stored(look) == {}


def test_a_commit_under_way_ends_before_the_lease_can_be_taken_over(connect, look):
    """The fence holds the row, so that whoever takes over waits and then sees all of the chunk."""
    with run(connect) as old:
        old.session.execute("SELECT pg_advisory_unlock_all()")
        entered, seen = threading.Event(), []

        def slow(session):
            session.execute("INSERT INTO raw.crm__contacts VALUES ('slow', '{}', '', '1', now())")
            entered.set()
            time.sleep(0.3)

        writer = threading.Thread(target=lambda: old.write(slow))
        writer.start()
        entered.wait()
        with run(connect):
            seen = look("SELECT external_id FROM raw.crm__contacts")
        writer.join()
    assert seen == [("slow",)]


def test_a_lost_database_is_said_as_such_and_leaves_nothing_half_written(connect, look):
    with pytest.raises(DestinationError, match="the database refused"), run(connect) as lease:
        look("SELECT pg_terminate_backend(%s, 60000)", lease.session.info.backend_pid)
        lease.commit_chunk(chunk(row("a")))
    assert stored(look) == {}
    assert land(connect, chunk(row("a"))) == [{"created": 1}]


def test_state_is_kept_per_stream_and_parent(connect):
    with run(connect, stream="notes") as lease:
        assert lease.state() == StreamState(lease_epoch=1)
        assert lease.state("p1") == StreamState(parent_key="p1")
        big = 2**70
        lease.apply_state(StateChange("p1", bookmark={"after": big}, round={"id": "r", "done": True}))
        lease.apply_state(StateChange("p2", watermark="2024", round={"id": "r", "done": False}))
        lease.apply_state(StateChange("p1", watermark=None))
        assert lease.state("p1").bookmark == {"after": big}
        assert lease.state("p2").watermark == "2024" and lease.state("p2").lease_epoch == 0
        lease.apply_state(StateChange("p1", bookmark=None))
        assert lease.state("p1").bookmark is None and lease.state("p1").round == {"id": "r", "done": True}


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_a_run_ends_in_the_log_and_in_the_streams_memory(connect, look, mode):
    with run(connect, mode=mode) as lease:
        lease.commit_chunk(chunk(row("a"), requests=2, pages=2, waited_seconds=0.5))
        lease.finish_run("succeeded", requests=1, waited_seconds=0.25, shaped={"created": 1})
        state = lease.state()
    assert look("SELECT mode, status, requests, pages, waited_seconds, shaped FROM integrations.run_log") == [
        (mode, "succeeded", 3, 2, 0.75, {"created": 1})
    ]
    assert state.last_success is not None


def test_failures_in_a_row_are_counted_and_a_deferral_is_none(connect):
    error = {"class": "data", "message": "no"}
    later = datetime(2030, 1, 1, tzinfo=UTC)
    with run(connect) as lease:
        lease.finish_run("failed", error=error)
        lease.finish_run("failed", error=error)
        assert (lease.state().error_count, lease.state().last_error) == (2, error)
        lease.finish_run("deferred", error={"class": "rate_limited"}, resume_at=later)
        assert (lease.state().error_count, lease.state().resume_at) == (2, later)
        lease.finish_run("succeeded")
        after = lease.state()
    assert (after.error_count, after.last_error, after.resume_at) == (0, None, None)


def test_a_run_begun_again_in_another_mode_keeps_its_counters(connect, look):
    with run(connect) as lease:
        lease.commit_chunk(chunk(row("a")))
        lease.start_run("full", NOW)
    assert look("SELECT mode, status, created FROM integrations.run_log") == [("full", "running", 1)]


def test_a_failed_block_gives_the_lease_back(connect):
    with pytest.raises(RuntimeError), take_lease(connect, "crm", "contacts", uuid4()):
        raise RuntimeError
    with run(connect):
        pass
