"""The outbox: one change of a record at a time, in order, the same at each try, and every way out of a lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.store import outbox
from integrations_pipeline.store.disconnecting import drop
from integrations_pipeline.store.outbox import Change, Payload
from integrations_pipeline.store.outboxed import change_groups, outbox_change

Connect = Callable[[], psycopg.Connection[Any]]
WHY = {"class": "data", "message": "no", "where": "crm", "who": "somebody", "next": "look"}
RUN = uuid4()
SOON = timedelta(seconds=-1)
"""A hold that has run out already: the process was killed."""
ANNA, BERT = UUID(int=1), UUID(int=2)


@pytest.fixture
def session(connect: Connect) -> Iterator[psycopg.Connection[Any]]:
    with connect() as session:
        yield session


def queue(session: psycopg.Connection[Any], record: UUID, operation: str = "update", **more: Any) -> int:
    """As merge does it: what waits untried is brought up to date."""
    row = session.execute(
        """INSERT INTO integrations.outbox AS o
               (connection, stream, kind, canonical_id, external_id, operation, changes, edited_at)
           VALUES (%s, %s, 'customer', %s, %s, %s, %s, now())
           ON CONFLICT (connection, stream, canonical_id) WHERE status = 'queued' AND tries = 0
           DO UPDATE SET changes = excluded.changes, operation = excluded.operation RETURNING id""",
        [more.get("connection", "crm"), more.get("stream", "contacts"), record,
         None if operation == "create" else str(record.int), operation, more.get("changes", '{"name": "A"}')],
    ).fetchone()  # fmt: skip
    assert row is not None
    return int(row[0])


def lease(session: psycopg.Connection[Any], connection: str = "crm", **more: Any) -> list[Change]:
    return outbox.lease(session, connection, run_id=RUN, **more)


def one(session: psycopg.Connection[Any], **more: Any) -> Change:
    (found,) = lease(session, **more)
    return found


def sent(session: psycopg.Connection[Any], change: Change) -> Change:
    """Its request has left."""
    at = outbox.fix(session, change, Payload(change.operation, change.external_id, change.changes, change.before))
    return replace(change, first_sent_at=at)


def statuses(session: psycopg.Connection[Any]) -> dict[int, str]:
    return dict(session.execute("SELECT id, status FROM integrations.outbox ORDER BY id").fetchall())


def due(session: psycopg.Connection[Any]) -> None:
    session.execute("UPDATE integrations.outbox SET next_try_at = now() WHERE next_try_at IS NOT NULL")


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def test_changes_of_one_record_go_one_after_the_other_and_others_meanwhile(
    session: psycopg.Connection[Any], connect: Connect
) -> None:
    first = queue(session, ANNA)
    held = one(session)
    second, other = queue(session, ANNA, changes='{"name": "B"}'), queue(session, BERT)
    assert (held.id, held.tries, held.unsure) == (first, 1, False)
    with connect() as elsewhere:
        assert [change.id for change in lease(elsewhere)] == [other]
        assert lease(elsewhere) == []
    outbox.mark_answered(session, held, {"id": "1", "n": 1.10}, "1", "sent")
    assert [change.id for change in lease(session)] == [second]


def test_edits_coalesce_until_the_first_try_and_the_next_one_waits_behind(session: psycopg.Connection[Any]) -> None:
    assert queue(session, ANNA) == queue(session, ANNA, changes='{"name": "B"}')
    held = one(session)
    assert held.changes == {"name": "B"}
    behind = queue(session, ANNA, changes='{"name": "C"}')
    assert behind != held.id and queue(session, ANNA, changes='{"name": "D"}') == behind


def test_what_is_sent_and_when_first_is_committed_before_the_request(
    session: psycopg.Connection[Any], connect: Connect
) -> None:
    queue(session, ANNA, "create")
    held = one(session)
    at = outbox.fix(session, held, Payload("update", "7", {"name": "Z", "n": "1.1"}, {"name": "A"}))
    with connect() as elsewhere:
        found = outbox_change(elsewhere, held.id)
    assert found is not None and found.first_sent_at == at
    assert (found.operation, found.external_id, found.before) == ("update", "7", '{"name": "A"}')


def test_a_process_that_died_before_its_request_left_did_nothing(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA, "create")
    one(session, hold=SOON)
    again = one(session)
    assert (again.unsure, again.first_sent_at, again.tries) == (False, None, 2)


def test_a_process_that_died_while_sending_leaves_an_unsure_change_with_its_key(
    session: psycopg.Connection[Any],
) -> None:
    queue(session, ANNA, "create")
    held = sent(session, one(session))
    session.execute("UPDATE integrations.outbox SET leased_until = now() - interval '1 s'")
    assert lease(session, lags={"contacts": 60.0}) == []  # the source shows what it was sent only after a while
    (waits,) = session.execute("SELECT next_try_at - now() > interval '50 s' FROM integrations.outbox").fetchone() or ()
    assert waits
    due(session)
    again = one(session)
    assert (again.unsure, again.idempotency_key, again.first_sent_at) == (
        True,
        held.idempotency_key,
        held.first_sent_at,
    )


def test_a_process_that_lost_its_lease_can_mark_nothing(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    slow = one(session, hold=SOON)
    quick = one(session)
    with pytest.raises(LeaseHeld):
        outbox.fix(session, slow, Payload("update", "1", {}, None))
    for mark in (
        lambda: outbox.mark_answered(session, slow, None, None, "sent"),
        lambda: outbox.mark_dead(session, slow, WHY),
        lambda: outbox.put_off(session, slow, WHY, None),
    ):
        with pytest.raises(LeaseHeld):
            mark()
    assert session.execute("SELECT count(*) FROM integrations.dead_letter").fetchone() == (0,)
    outbox.mark_done(session, quick, "nothing_to_send")
    assert list(statuses(session).values()) == ["done"]


def test_a_long_push_keeps_what_it_holds(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    held = one(session, hold=SOON)
    assert held.lease is not None
    outbox.extend(session, [held.lease])
    assert lease(session) == []


def test_what_was_put_off_is_as_if_it_had_not_been_leased(session: psycopg.Connection[Any]) -> None:
    first = queue(session, ANNA)
    held = one(session)
    sent(session, held)  # the turn came, and the source told to wait
    outbox.put_off(session, held, {**WHY, "class": "rate_limited"}, later())
    assert lease(session) == []
    assert queue(session, ANNA, changes='{"name": "B"}') == first  # so that further edits still change it
    due(session)
    again = one(session)
    assert (again.tries, again.first_sent_at, again.changes) == (1, None, {"name": "B"})


def test_what_comes_back_while_a_later_change_waits_goes_before_it(session: psycopg.Connection[Any]) -> None:
    first = queue(session, ANNA)
    held = one(session)
    second = queue(session, ANNA, changes='{"name": "B"}')
    outbox.put_off(session, held, WHY, None)
    again = one(session)
    assert (again.id, again.tries) == (first, 2)
    outbox.mark_done(session, again, "nothing_to_send")
    assert one(session).id == second


def test_a_change_that_met_another_one_is_another_thing_to_send(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    held = sent(session, one(session))
    outbox.merge_again(session, held, WHY, None)
    again = one(session)
    assert (again.merges, again.first_sent_at, again.unsure) == (1, None, False)
    assert again.idempotency_key != held.idempotency_key


def test_a_dead_change_is_a_letter_and_holds_nothing_up(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    dead = sent(session, one(session))
    second = queue(session, ANNA, changes='{"name": "B"}')
    outbox.mark_dead(session, dead, WHY)
    letters = session.execute(
        "SELECT origin, origin_id, connection, reason, tries, status FROM integrations.dead_letter"
    )
    assert letters.fetchall() == [("outbox", dead.id, "crm", WHY, 1, "open")]
    assert one(session).id == second
    assert outbox.retry(session, [dead.id, second]) == [dead.id]
    assert lease(session) == []  # the later one is being sent: order holds also now
    session.execute("DELETE FROM integrations.outbox WHERE id = %s", [second])
    again = one(session)
    assert (again.id, again.first_sent_at) == (dead.id, None) and again.idempotency_key != dead.idempotency_key
    assert session.execute("SELECT status FROM integrations.dead_letter").fetchall() == [("replayed",)]


def test_a_parked_change_holds_up_its_own_record_only_until_a_person_decides(session: psycopg.Connection[Any]) -> None:
    parked = queue(session, ANNA, "create")
    outbox.mark_parked(session, sent(session, one(session)), WHY)
    queue(session, ANNA, "create")
    other = queue(session, BERT)
    assert one(session).id == other
    assert lease(session) == []
    assert outbox.retry(session, [parked]) == []  # it can't be sent again blindly
    assert outbox.not_there(session, parked)
    again = one(session)
    assert (again.id, again.unsure, again.first_sent_at) == (parked, False, None)


def test_what_a_person_found_there_is_leased_for_that(session: psycopg.Connection[Any]) -> None:
    parked = queue(session, ANNA, "create")
    outbox.mark_parked(session, sent(session, one(session)), WHY)
    held = outbox.claim(session, parked, RUN)
    assert held is not None and held.unsure
    outbox.mark_answered(session, held, None, "77", "resolved")
    assert statuses(session) == {parked: "answered"}
    assert outbox.claim(session, parked, RUN) is None


def test_discarding_ends_what_is_not_done_nor_being_sent(session: psycopg.Connection[Any]) -> None:
    dead, held = queue(session, ANNA), queue(session, BERT)
    outbox.mark_dead(session, one(session), WHY)
    one(session)
    assert outbox.discard(session, [dead, held], {"class": "discarded", "message": "why"}) == [dead]
    assert statuses(session) == {dead: "discarded", held: "sending"}
    assert session.execute("SELECT status FROM integrations.dead_letter").fetchall() == [("discarded",)]
    decided = "SELECT stage, decision, reason, detail ->> 'outbox' FROM integrations.decision"
    assert session.execute(decided).fetchall() == [("push", "discarded", "why", str(dead))]


def test_one_request_carries_changes_alike_and_never_one_of_unknown_outcome(session: psycopg.Connection[Any]) -> None:
    unsure = queue(session, UUID(int=9))
    outbox.mark_unsure(session, sent(session, one(session)), WHY, datetime.now(UTC))
    ids = [queue(session, UUID(int=10 + n)) for n in range(5)]
    queue(session, UUID(int=20), "create")
    queue(session, UUID(int=21), stream="companies")
    sizes = {("contacts", "update"): 3}
    assert [change.id for change in lease(session, sizes=sizes)] == [unsure]
    assert [change.id for change in lease(session, sizes=sizes)] == ids[:3]
    assert [change.id for change in lease(session, sizes=sizes)] == ids[3:]
    assert [len(lease(session, sizes=sizes)) for _ in range(3)] == [1, 1, 0]


def test_an_answer_waits_to_land_as_the_source_gave_it(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    outbox.mark_answered(session, one(session), {"id": "1", "big": 2**60, "odd": "a\0b"}, "1", "sent")
    (waiting,) = outbox.answered(session, "crm", "contacts", 10)
    assert waiting.answer == {"id": "1", "big": 2**60, "odd": "a\\u0000b"} and waiting.answered_at is not None
    outbox.mark_landed(session, [waiting.id])
    found = outbox_change(session, waiting.id)
    assert found is not None and (found.status, found.outcome) == ("done", "sent")
    assert outbox.answered(session, "crm", "contacts", 10) == []


def test_what_waits_for_a_record_is_due_once_that_was_created(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    outbox.put_off(session, one(session), {**WHY, "waits_for": str(BERT)}, later())
    queue(session, BERT, "create")
    outbox.mark_answered(session, one(session), None, "2", "sent")
    assert one(session).canonical_id == ANNA


def test_a_source_that_answers_others_is_alive(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    lost = sent(session, one(session))
    assert not outbox.is_alive(session, lost)
    queue(session, BERT)
    outbox.mark_answered(session, one(session), None, "2", "sent")
    assert outbox.is_alive(session, lost)


def test_people_see_what_is_not_over_by_its_reason(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    outbox.mark_done(session, one(session), "nothing_to_send")
    queue(session, ANNA)
    outbox.mark_dead(session, one(session), WHY)
    queue(session, BERT)
    groups = [(group.status, group.why, group.changes) for group in change_groups(session, "crm", None)]
    assert groups == [("dead", "no", 1), ("queued", "", 1)]
    assert [group.why for group in change_groups(session, None, "done")] == ["nothing_to_send"]


def test_what_ended_long_ago_is_taken_away(session: psycopg.Connection[Any]) -> None:
    for record in (ANNA, BERT):
        queue(session, record)
        outbox.mark_done(session, one(session), "sent")
    session.execute("UPDATE integrations.outbox SET finished_at = now() - interval '31 days' WHERE canonical_id = %s",
                    [ANNA])  # fmt: skip
    assert outbox.prune(session) == 1
    assert len(statuses(session)) == 1


def test_a_connection_whose_data_is_dropped_sends_nothing_more(session: psycopg.Connection[Any]) -> None:
    queue(session, ANNA)
    kept = queue(session, ANNA, connection="shop")
    drop(session, "crm", keep_data=False)
    assert statuses(session) == {kept: "queued"}
