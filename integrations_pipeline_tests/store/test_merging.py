"""Merging field by field: what both sides changed is settled by the declared policy, and nothing goes out twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.conditions import parse_condition
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.values import version_text
from integrations_pipeline.store.agreed import Writeback
from integrations_pipeline.store.agreeing import ElsewhereError, settle, unlink
from integrations_pipeline.store.changes import Finding
from integrations_pipeline.store.conflicts import open_conflicts, resolve
from integrations_pipeline.store.shaping import ShapeChunk, shape_chunk
from integrations_pipeline_tests.store.parts import CUSTOMER, counted, run
from integrations_pipeline_tests.store.test_shaping import FIELDS, land_raw, shaped

POLICIES = ("remote_wins", "local_wins", "newest_wins", "review")
ONE = Decimal(1)
LONG_AGO, TO_COME = "2020-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"
READY = "UPDATE integrations.stream_state SET watermark = '1', shaped_below = '1' RETURNING 1"


def writing(policy: str = "remote_wins", when_deleted: str | None = None, **policies: str) -> Writeback:
    """All plain fields are written, with one policy unless named."""
    named = dict.fromkeys(("email", "name", "worth", "visits", "joined", "extra"), policy) | policies
    return Writeback(named, when_deleted or policy, {}, creates=True, updates=True, deletes=True)


def shape(lease, writeback, *upserts, deletes=(), match=()):
    done = ShapeChunk(CUSTOMER, FIELDS, match, list(upserts), list(deletes), writeback=writeback)
    return counted(shape_chunk(lease, done).as_dict())


def find(connect, writeback, connection="crm", create_when=None):
    """One look at the edits; how many were queued."""
    with connect() as session, session.transaction():
        condition = parse_condition(create_when) if create_when else None
        found = Finding(session, connection, "contacts", CUSTOMER, writeback, condition, "declared").queue()
    return counted(vars(found))


def outbox(look, connection="crm"):
    return look(
        "SELECT external_id, operation, changes FROM integrations.outbox WHERE connection = %s AND status = 'queued'"
        " ORDER BY id",
        connection,
    )


def answered(connect, look, theirs: Any = None, connection="crm", version="9", external_id=None, found=None):
    """The source takes the oldest queued change, and answers as it is mapped."""
    columns = "id, connection, stream, kind, canonical_id, external_id, operation, changes, run_id"
    (row,) = look(
        f"UPDATE integrations.outbox SET status = 'done' WHERE id = (SELECT min(id) FROM integrations.outbox"
        f" WHERE connection = %s AND status = 'queued') RETURNING {columns}",
        connection,
    )
    written = SimpleNamespace(**dict(zip(columns.split(", "), row, strict=True)))
    with connect() as session, session.transaction():
        if written.operation == "delete":
            unlink(session, written)
        else:
            key = external_id or written.external_id
            settle(session, written, external_id=key, theirs=theirs, version=version, found=found)
    return written


def value(look, column="name"):
    return look(f"SELECT {column} FROM canonical.customer ORDER BY id")[0][0]


@pytest.fixture
def known(connect, look):
    """One contact, read and ready to be written."""
    with run(connect) as lease:
        land_raw(lease, "1")
        shape(lease, writing(), shaped("1", email="a@x", name="A", worth=ONE))
    look(READY)
    look("UPDATE canonical.customer SET edited_at = now() RETURNING 1")


def edit(look, **values: Any):
    for column, new in values.items():
        look(f"UPDATE canonical.customer SET {column} = %s RETURNING 1", new)


def delete(look):
    look("WITH gone AS (DELETE FROM canonical.customer) SELECT 1")


def test_nothing_goes_out_where_nothing_was_edited(connect, look, known):
    assert find(connect, writing()) == {}
    assert find(connect, writing()) == {}
    assert outbox(look) == []


def test_an_edit_goes_out_once_and_further_ones_change_what_waits(connect, look, known):
    edit(look, name="edited")
    assert find(connect, writing()) == {"updates": 1}
    assert find(connect, writing()) == {}
    assert outbox(look) == [("1", "update", {"name": "edited"})]
    edit(look, email="b@x", name="again")
    assert find(connect, writing()) == {"updates": 1}
    assert outbox(look) == [("1", "update", {"email": "b@x", "name": "again"})]


def test_an_edit_that_is_rolled_back_is_never_sent(connect, look, known):
    with connect() as session, pytest.raises(psycopg.errors.DivisionByZero), session.transaction():
        session.execute("UPDATE canonical.customer SET name = 'gone'")
        session.execute("SELECT 1 / 0")
    assert find(connect, writing()) == {}


def test_an_edit_still_open_while_it_is_looked_is_found_later(connect, look, known):
    with connect() as editor, editor.transaction():
        editor.execute("UPDATE canonical.customer SET name = 'late'")
        look("SELECT pg_current_xact_id()")
        assert find(connect, writing()) == {}
    assert find(connect, writing()) == {"updates": 1}


@pytest.mark.parametrize(
    ("column", "ours", "form"),
    [
        ("worth", "12.500", "12.5"), ("worth", "100", "100"), ("worth", None, None), ("visits", 2**62, 2**62),
        ("joined", datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2024-01-02T03:04:05.000006Z"),
        ("joined", datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00.000000Z"), ("extra", "[1, null]", [1, None]),
    ],
)  # fmt: skip
def test_values_go_out_in_the_form_of_a_base_and_their_echo_is_no_change(connect, look, known, column, ours, form):
    edit(look, **{column: ours})
    assert find(connect, writing()) == {"updates": 1}
    assert outbox(look) == [("1", "update", {column: form})]
    answered(connect, look)
    assert find(connect, writing()) == {}
    look("UPDATE canonical.customer SET edit_stamp = pg_current_xact_id() RETURNING 1")
    assert find(connect, writing()) == {}


@pytest.mark.parametrize("policy", POLICIES)
def test_different_fields_are_merged_whatever_the_policy(connect, look, known, policy):
    edit(look, name="ours")
    with run(connect) as lease:
        assert shape(lease, writing(policy), shaped("1", "2", email="theirs@x", name="A", worth=ONE)) == {"updated": 1}
    assert look("SELECT email, name FROM canonical.customer") == [("theirs@x", "ours")]
    assert find(connect, writing(policy)) == {"updates": 1}
    assert outbox(look) == [("1", "update", {"name": "ours"})]
    assert look("SELECT count(*) FROM integrations.conflict") == [(0,)]


@pytest.mark.parametrize(
    ("policy", "version", "kept", "sent"),
    [
        ("remote_wins", LONG_AGO, "theirs", []),
        ("local_wins", TO_COME, "ours", [("1", "update", {"name": "ours"})]),
        ("newest_wins", TO_COME, "theirs", []),
        ("newest_wins", LONG_AGO, "ours", [("1", "update", {"name": "ours"})]),
        ("newest_wins", "00000000000000000002", "theirs", []),
        ("review", TO_COME, "ours", []),
    ],
)
def test_the_same_field_goes_by_its_policy(connect, look, known, policy, version, kept, sent):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("1", version, email="a@x", name="theirs", worth=ONE))
    assert value(look) == kept
    find(connect, writing(policy))
    assert outbox(look) == sent
    ((detail,),) = look("SELECT detail FROM integrations.decision WHERE decision = 'merged'")
    assert detail["name"].items() >= {"base": "A", "ours": "ours", "theirs": "theirs", "policy": policy}.items()
    assert len(look("SELECT 1 FROM integrations.conflict WHERE status = 'open'")) == (policy == "review")


def test_both_to_the_same_is_no_conflict(connect, look, known):
    edit(look, name="same")
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "2", email="a@x", name="same", worth=ONE))
    assert find(connect, writing("review")) == {}
    assert look("SELECT count(*) FROM integrations.conflict") == [(0,)]


@pytest.fixture
def parked(connect, look, known):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "2", email="a@x", name="theirs", worth=ONE))
    with connect() as session:
        (found,) = open_conflicts(session)
    assert (found.field, found.base, found.ours, found.theirs) == ("name", "A", "ours", "theirs")
    assert find(connect, writing("review")) == {}
    return found.id


@pytest.mark.parametrize(
    ("side", "given", "kept", "sent"),
    [
        ("ours", None, "ours", [{"name": "ours"}]),
        ("theirs", None, "theirs", []),
        ("value", "both", "both", [{"name": "both"}]),
    ],
)
def test_a_person_decides(connect, look, parked, side, given, kept, sent):
    with connect() as session:
        resolve(session, parked, side, value=given, by="ann")
    find(connect, writing("review"))
    assert value(look) == kept
    assert [changes for _, _, changes in outbox(look)] == sent
    with connect() as session, pytest.raises(ConfigError, match="isn't open"):
        resolve(session, parked, side)


def test_a_streams_conflicts_are_listed_however_many_older_ones_another_has(connect, look, parked):
    look("INSERT INTO integrations.conflict (connection, stream, external_id, kind, canonical_id, field, reason)"
         " SELECT 'crm', 'later', '1', 'customer', gen_random_uuid(), 'name', 'new' RETURNING 1")  # fmt: skip
    with connect() as session:
        assert [one.stream for one in open_conflicts(session, "crm", "later", limit=1)] == ["later"]
        assert [one.stream for one in open_conflicts(session, "crm", limit=1)] == ["contacts"]


def test_a_value_that_the_column_cannot_hold_leaves_the_conflict_open(connect, look, known):
    edit(look, worth=5)
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "2", email="a@x", name="A", worth=Decimal(7)))
    with connect() as session:
        (found,) = open_conflicts(session)
        with pytest.raises(ConfigError, match="worth can't hold 'many'"):
            resolve(session, found.id, "value", value="many")
        assert len(open_conflicts(session)) == 1
        resolve(session, found.id, "theirs")
    assert value(look, "worth") == 7


def test_a_conflict_follows_both_sides_and_ends_when_they_agree(connect, look, parked):
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "3", email="a@x", name="theirs again", worth=ONE))
    with connect() as session:
        assert [one.theirs for one in open_conflicts(session)] == ["theirs again"]
    edit(look, name="theirs again")
    assert find(connect, writing("review")) == {}
    assert look("SELECT status FROM integrations.conflict") == [("settled",)]


def test_the_other_fields_of_a_parked_record_go_on(connect, look, parked):
    edit(look, email="new@x")
    assert find(connect, writing("review")) == {"updates": 1}
    assert outbox(look) == [("1", "update", {"email": "new@x"})]


def test_an_answer_in_another_form_is_agreed_and_never_comes_back(connect, look, known):
    edit(look, name="  Ann  ")
    find(connect, writing())
    answered(connect, look, {"email": "a@x", "name": "ann", "worth": "1"})
    assert find(connect, writing()) == {}
    with run(connect) as lease:  # the echo
        shape(lease, writing("review"), shaped("1", "9", email="a@x", name="ann", worth=ONE))
    assert value(look) == "  Ann  "
    assert find(connect, writing()) == {}
    assert look("SELECT count(*) FROM integrations.conflict") == [(0,)]
    edit(look, name="Bob")
    assert find(connect, writing()) == {"updates": 1}


def test_what_a_source_would_not_take_waits_for_a_person(connect, look, known):
    edit(look, name="Bob")
    find(connect, writing())
    answered(connect, look, {"email": "a@x", "name": "A", "worth": "1"})
    assert find(connect, writing()) == {}
    with connect() as session:
        (found,) = open_conflicts(session)
    assert (found.ours, found.theirs) == ("Bob", "A")
    assert "kept its own" in found.reason


def test_a_row_read_before_our_write_is_late(connect, look, known):
    edit(look, name="written")
    find(connect, writing())
    answered(connect, look, {"email": "a@x", "name": "written", "worth": "1"}, version="5")
    with run(connect) as lease:
        late = shaped("1", "4", email="a@x", name="read before", worth=ONE)
        assert shape(lease, writing(), late) == {"unchanged": 1}
        assert value(look) == "written"
        later = shaped("1", "6", email="a@x", name="written after", worth=ONE)
        assert shape(lease, writing(), later) == {"updated": 1}
    assert value(look) == "written after"


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_write_of_ours_brought_there_is_no_change_of_theirs(connect, look, known, policy):
    """Its answer was lost, and ours was edited again meanwhile."""
    edit(look, name="first")
    find(connect, writing(policy))
    look("UPDATE integrations.outbox SET tries = 1, status = 'unsure' RETURNING 1")
    edit(look, name="second")
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("1", TO_COME, email="a@x", name="first", worth=ONE))
    assert value(look) == "second"
    assert find(connect, writing(policy)) == {"updates": 1}
    assert look("SELECT count(*) FROM integrations.conflict") == [(0,)]


def test_an_answer_given_before_does_not_bring_a_deleted_record_back(connect, look, known):
    edit(look, name="written")
    find(connect, writing())
    with run(connect) as lease:
        shape(lease, writing(), deletes=["1"])
    answered(connect, look)
    assert look("SELECT deleted_at IS NOT NULL FROM integrations.link") == [(True,)]


def test_an_edit_while_a_write_is_under_way_goes_out_after_it(connect, look, known):
    edit(look, name="first")
    find(connect, writing())
    sending = "tries = 1, lease_id = %s, leased_until = now(), status = 'sending'"
    look(f"UPDATE integrations.outbox SET {sending} RETURNING 1", uuid4())
    assert find(connect, writing()) == {}
    edit(look, name="second")
    assert find(connect, writing()) == {"updates": 1}
    assert outbox(look) == [("1", "update", {"name": "second"})]


def test_what_was_refused_for_good_is_not_asked_again_until_it_is_edited(connect, look, known):
    edit(look, name="bad")
    find(connect, writing())
    look("UPDATE integrations.outbox SET tries = 1, status = 'dead', finished_at = now() RETURNING 1")
    look("UPDATE canonical.customer SET edit_stamp = pg_current_xact_id() RETURNING 1")
    assert find(connect, writing()) == {}
    edit(look, name="good")
    edit(look, name="bad")
    assert find(connect, writing()) == {"updates": 1}


@pytest.mark.parametrize("fixed", [{"name": "bad", "email": "a@x"}, {"name": "bad"}])
def test_what_was_settled_is_not_queued_again_because_another_transaction_is_open(connect, look, known, fixed):
    with connect() as other, other.transaction():
        other.execute("SELECT pg_current_xact_id()")
        edit(look, name="bad", extra=Jsonb({"left": "out"}))
        assert find(connect, writing()) == {"updates": 1}
        ended = "UPDATE integrations.outbox SET tries = 1, changes = %s, status = %s, outcome = %s, finished_at = now()"
        for status, outcome in (("dead", None), ("done", "nothing_to_send")):
            look(f"{ended} RETURNING 1", Jsonb(fixed), status, outcome)
            assert find(connect, writing()) == {}
        look("UPDATE integrations.link SET recheck = true RETURNING 1")
        assert find(connect, writing()) == {"updates": 1}


def test_a_second_live_link_to_one_record_does_not_stop_the_writing(connect, look, known):
    """As older versions could leave it."""
    with run(connect) as lease:
        shape(lease, writing(), shaped("2", email="b@x"), shaped("3", email="c@x"))
    look("UPDATE integrations.link SET canonical_id = (SELECT l.canonical_id FROM integrations.link l"
         " WHERE external_id = '1') WHERE external_id = '2' RETURNING 1")  # fmt: skip
    edit(look, name="edited")
    assert find(connect, writing()) == {"updates": 2, "creates": 1}
    assert sorted(one[0] or "" for one in outbox(look)) == ["", "1", "3"]


def test_a_waiting_reference_that_is_set_here_goes_out_and_stays(connect, look, known):
    referring = replace(writing("local_wins"), references={"manager": "contacts"}, policies={"manager": "local_wins"})
    with run(connect) as lease:
        shape(lease, referring, shaped("2", manager="9"))
        find(connect, referring)
        (boss,) = look("SELECT canonical_id::text FROM integrations.link WHERE external_id = '1'")[0]
        look("UPDATE canonical.customer SET manager = %s WHERE email IS NULL RETURNING 1", boss)
        assert find(connect, referring) == {"updates": 1}
        assert outbox(look) == [("2", "update", {"manager": "1"})]
        land_raw(lease, "2", "9")
        shape(lease, referring, shaped("9", name="late"), shaped("2", manager="9"))
        shape(lease, referring, shaped("2", manager="9"))
    assert look("SELECT manager FROM canonical.customer WHERE email IS NULL AND name IS NULL") == [(boss,)]


def test_what_a_person_gave_up_is_not_asked_again_until_it_is_edited(connect, look, known):
    edit(look, name="unwanted")
    find(connect, writing())
    look("UPDATE integrations.outbox SET status = 'discarded', finished_at = now() RETURNING 1")
    look("UPDATE integrations.merge_state SET merged_below = '0' RETURNING 1")
    assert find(connect, writing()) == {}
    edit(look, name="other")
    edit(look, name="unwanted")
    assert find(connect, writing()) == {"updates": 1}


def test_a_record_from_elsewhere_is_created_where_it_belongs_and_only_there(connect, look, known):
    with run(connect, connection="shop") as lease:
        land_raw(lease, "s")
        shape(lease, writing(), shaped("s", email="s@x", name="Sue", visits=3), shaped("t", name="Tim", visits=1))
    look(READY)
    assert find(connect, writing(), create_when={"visits": [3]}) == {"creates": 1}
    assert [(key, operation, changes["name"]) for key, operation, changes in outbox(look)] == [(None, "create", "Sue")]
    assert find(connect, writing(), create_when={"visits": [3]}) == {}
    answered(connect, look, external_id="new")
    assert find(connect, writing(), create_when={"visits": [3]}) == {}
    with run(connect) as lease:  # the echo
        everything = shaped("new", email="s@x", name="Sue", visits=3)
        shape(lease, writing(), everything)
    assert look("SELECT count(*) FROM canonical.customer") == [(3,)]
    assert find(connect, writing(), create_when={"visits": [3]}) == {}


def test_nothing_is_created_before_the_source_was_read_to_its_end(connect, look, known):
    look("UPDATE integrations.stream_state SET watermark = NULL RETURNING 1")
    edit(look, name="edited")
    assert find(connect, writing()) == {}
    look(READY)
    assert find(connect, writing()) == {"updates": 1}


def test_an_event_that_overtakes_its_own_create_makes_one_record(connect, look, known):
    look("INSERT INTO canonical.customer (name) VALUES ('Eve') RETURNING 1")
    assert find(connect, writing()) == {"creates": 1}
    with run(connect) as lease:
        shape(lease, writing(), shaped("e", name="Eve"))
    answered(connect, look, external_id="e")
    assert look("SELECT name, count(*) FROM canonical.customer WHERE deleted_at IS NULL GROUP BY 1 ORDER BY 1") == [
        ("A", 1), ("Eve", 1)
    ]  # fmt: skip
    find(connect, writing())
    assert outbox(look) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_created_there_and_is_matched_before_its_answer_takes_no_edit_back(connect, look, known, policy):
    look("INSERT INTO canonical.customer (name, email) VALUES ('Eve', 'e@x') RETURNING 1")
    assert find(connect, writing(policy)) == {"creates": 1}
    look("UPDATE integrations.outbox SET status = 'unsure' RETURNING 1")
    look("UPDATE canonical.customer SET name = 'Eva' WHERE name = 'Eve' RETURNING 1")
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("e", TO_COME, email="e@x", name="Eve"), match=[["email"]])
    assert look("SELECT name FROM canonical.customer ORDER BY name") == [("A",), ("Eva",)]
    assert look("SELECT 1 FROM integrations.conflict") == []
    look("UPDATE integrations.outbox SET status = 'queued' RETURNING 1")
    answered(connect, look, external_id="e")
    find(connect, writing(policy))
    assert outbox(look) == [("e", "update", {"name": "Eva"})]


def test_an_answer_older_than_what_was_read_settles_no_conflict(connect, look, known):
    edit(look, name="ours")
    find(connect, writing("review"))
    look("UPDATE integrations.outbox SET status = 'unsure' RETURNING 1")
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "5", email="a@x", name="theirs", worth=ONE))
    look("UPDATE integrations.outbox SET status = 'queued' RETURNING 1")
    answered(connect, look, theirs={"email": "a@x", "name": "ours", "worth": "1"}, version="3")
    find(connect, writing("review"))
    assert outbox(look) == [] and value(look) == "ours"
    conflicts = "SELECT field, ours, theirs FROM integrations.conflict WHERE status = 'open'"
    assert look(conflicts) == [("name", "ours", "theirs")]


def test_an_answer_older_than_a_read_that_was_matched_meanwhile_settles_no_conflict(connect, look, known):
    look("INSERT INTO canonical.customer (name, email) VALUES ('Eve', 'e@x') RETURNING 1")
    find(connect, writing("review"))
    look("UPDATE integrations.outbox SET status = 'unsure' RETURNING 1")
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("e", "5", email="e@x", name="Eva"), match=[["email"]])
    look("UPDATE integrations.outbox SET status = 'queued' RETURNING 1")
    answered(connect, look, theirs={"email": "e@x", "name": "Eve"}, version="3", external_id="e")
    find(connect, writing("review"))
    assert outbox(look) == []
    assert look("SELECT field, theirs FROM integrations.conflict WHERE status = 'open'") == [("name", "Eva")]


def test_what_refers_to_the_record_that_is_joined_refers_to_the_one_that_stays(connect, look, known):
    look("INSERT INTO canonical.customer (name) VALUES ('Eve') RETURNING 1")
    find(connect, writing())
    with run(connect) as lease:
        shape(lease, writing(), shaped("e", name="Eve"))
        shape(lease, writing(), shaped("f", name="Fay", manager="e"))
    (was,) = look("SELECT manager FROM canonical.customer WHERE name = 'Fay'")[0]
    look("INSERT INTO integrations.outbox (connection, stream, kind, canonical_id, operation, changes, edited_at,"
         " next_try_at, reason) VALUES ('crm', 'contacts', 'customer', gen_random_uuid(), 'update', '{}', now(),"
         " now() + interval '1 hour', %s) RETURNING 1", Jsonb({"waits_for": was}))  # fmt: skip
    answered(connect, look, external_id="e")
    found = "SELECT c.manager = b.id::text, b.deleted_at FROM canonical.customer c, canonical.customer b"
    assert look(f"{found} WHERE c.name = 'Fay' AND b.id::text = c.manager") == [(True, None)]
    assert look("SELECT manager <> %s FROM canonical.customer WHERE name = 'Fay'", was) == [(True,)]
    assert look("SELECT count(*) FROM integrations.outbox WHERE next_try_at IS NOT NULL") == [(0,)]


@pytest.mark.parametrize(
    ("policy", "version", "kept", "sent", "parked"),
    [("remote_wins", "9", "there", False, 0), ("local_wins", "9", "Eve", True, 0),
     ("newest_wins", TO_COME, "there", False, 0),
     ("newest_wins", LONG_AGO, "Eve", True, 0), ("newest_wins", "2024-05-01#1", "there", False, 0),
     ("review", "9", "Eve", False, 1)],
)  # fmt: skip
def test_what_is_found_later_and_differs_goes_by_its_policy(connect, look, known, policy, version, kept, sent, parked):
    """A create whose answer was lost: what the source holds needn't be another form of what was sent."""
    look("INSERT INTO canonical.customer (name, extra) VALUES ('Eve', '{}') RETURNING 1")
    find(connect, writing(policy))
    theirs = {"name": "there", "extra": {}, "visits": 3}
    answered(connect, look, theirs, version=version, external_id="e", found=writing(policy))
    assert look("SELECT name, visits FROM canonical.customer WHERE email IS NULL") == [(kept, 3)]
    look("UPDATE integrations.link SET recheck = true RETURNING 1")
    find(connect, writing(policy))
    assert outbox(look) == ([("e", "update", {"name": "Eve"})] if sent else [])
    assert look("SELECT count(*) FROM integrations.conflict WHERE status = 'open'") == [(parked,)]


def test_what_is_found_later_in_another_form_is_the_same(connect, look, known):
    look("INSERT INTO canonical.customer (name) VALUES (' Eve ') RETURNING 1")
    find(connect, writing("review"))
    answered(connect, look, {"name": "eve"}, external_id="e", found=writing("review"))
    look("UPDATE integrations.link SET recheck = true RETURNING 1")
    find(connect, writing("review"))
    assert outbox(look) == [] == look("SELECT field FROM integrations.conflict")


def test_a_create_beside_a_record_that_was_matched_meanwhile_is_for_a_person(connect, look, known):
    look("INSERT INTO canonical.customer (email) VALUES ('eve@x') RETURNING 1")
    find(connect, writing())
    with run(connect) as lease:
        shape(lease, writing(), shaped("e", email="eve@x"), match=[["email"]])
    with pytest.raises(ElsewhereError, match="f, beside e"):
        answered(connect, look, external_id="f")


def test_an_answer_that_is_anothers_record_is_refused(connect, look, known):
    with run(connect, connection="shop") as lease:
        shape(lease, writing(), shaped("s", email="a@x"), match=[["email"]])
    look("INSERT INTO canonical.customer (name) VALUES ('Eve') RETURNING 1")
    find(connect, writing())
    with pytest.raises(ElsewhereError):
        answered(connect, look, external_id="1")


@pytest.mark.parametrize("policy", POLICIES)
def test_the_echo_of_our_write_brings_no_record_back_that_was_deleted_here_since(connect, look, known, policy):
    """Its answer was lost."""
    edit(look, name="ours")
    find(connect, writing(policy))
    look("UPDATE integrations.outbox SET status = 'unsure', tries = 1 RETURNING 1")
    delete(look)
    assert find(connect, writing(policy)) == {"deletes": 1}
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("1", TO_COME, email="a@x", name="ours", worth=ONE))
    assert look("SELECT deleted_at IS NOT NULL FROM canonical.customer") == [(True,)]
    assert look("SELECT count(*) FROM integrations.conflict") == [(0,)]
    assert look("SELECT count(*) FROM integrations.decision WHERE stage = 'merge'") == [(0,)]


def test_a_deletion_here_goes_out_and_is_not_brought_back(connect, look, known):
    delete(look)
    assert find(connect, writing()) == {"deletes": 1}
    answered(connect, look)
    assert find(connect, writing()) == {}
    assert look("SELECT deleted_at IS NOT NULL FROM integrations.link") == [(True,)]


def test_a_deletion_taken_back_after_it_was_sent_makes_the_record_anew(connect, look, known):
    delete(look)
    find(connect, writing())
    answered(connect, look)
    assert find(connect, writing()) == {}
    look("UPDATE canonical.customer SET deleted_at = NULL RETURNING 1")
    assert find(connect, writing()) == {"creates": 1}
    answered(connect, look, external_id="new")
    edit(look, name="again")
    assert find(connect, writing()) == {"updates": 1}


def test_a_page_read_before_our_deletion_brings_nothing_back(connect, look, known):
    delete(look)
    find(connect, writing())
    answered(connect, look)
    look("UPDATE integrations.outbox SET status = 'answered' RETURNING 1")
    with run(connect) as lease:
        land_raw(lease, "1")
        assert shape(lease, writing(), shaped("1", name="edited there")) == {"unchanged": 1}
        assert look("SELECT deleted_at IS NOT NULL FROM canonical.customer") == [(True,)]
        look("UPDATE raw.crm__contacts SET fetched_at = now() RETURNING 1")  # restored there, and read since
        assert shape(lease, writing(), shaped("1", name="edited there")) == {"updated": 1}
    assert look("SELECT deleted_at IS NULL FROM canonical.customer") == [(True,)]


@pytest.mark.parametrize(
    ("policy", "version", "alive", "sent"),
    [
        ("remote_wins", LONG_AGO, True, []),
        ("local_wins", TO_COME, False, ["delete"]),
        ("newest_wins", TO_COME, True, []),
        ("newest_wins", LONG_AGO, False, ["delete"]),
        ("review", TO_COME, False, []),
    ],
)
def test_deleted_here_and_changed_there(connect, look, known, policy, version, alive, sent):
    delete(look)
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("1", version, email="a@x", name="theirs", worth=ONE))
    find(connect, writing(policy))
    assert look("SELECT deleted_at IS NULL FROM canonical.customer") == [(alive,)]
    assert [operation for _, operation, _ in outbox(look)] == sent
    assert len(look("SELECT 1 FROM integrations.conflict WHERE status = 'open'")) == (policy == "review")


@pytest.mark.parametrize(
    ("policy", "alive", "sent"),
    [("remote_wins", False, []), ("local_wins", True, ["create"]), ("review", True, [])],
)
def test_changed_here_and_deleted_there(connect, look, known, policy, alive, sent):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing(policy), deletes=["1"])
    find(connect, writing(policy))
    assert look("SELECT deleted_at IS NULL FROM canonical.customer") == [(alive,)]
    assert [operation for _, operation, _ in outbox(look)] == sent


@pytest.mark.parametrize("policy", ["local_wins", "review"])
def test_back_there_after_it_was_kept_here_both_sides_changes_count(connect, look, known, policy):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing(policy), deletes=["1"])
        shape(lease, writing(policy), shaped("1", "2", email="new@x", name="A", worth=ONE))
    find(connect, writing(policy))
    assert look("SELECT email, name FROM canonical.customer") == [("new@x", "ours")]
    assert outbox(look) == [("1", "update", {"name": "ours"})]
    assert look("SELECT 1 FROM integrations.conflict WHERE status = 'open'") == []


def test_back_there_with_another_value_than_was_edited_here_is_for_a_person(connect, look, known):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing("review"), deletes=["1"])
        shape(lease, writing("review"), shaped("1", "2", email="a@x", name="theirs", worth=ONE))
    find(connect, writing("review"))
    assert value(look) == "ours" and outbox(look) == []
    assert look("SELECT field, ours, theirs FROM integrations.conflict WHERE status = 'open'") == [
        ("name", "ours", "theirs")
    ]


def gone_there_and_kept_here(connect, look, policy="local_wins"):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing(policy), deletes=["1"])
    assert find(connect, writing(policy)) == {"creates": 1}


def comes_back(connect, policy="local_wins"):
    with run(connect) as lease:
        shape(lease, writing(policy), shaped("1", "2", email="a@x", name="A", worth=ONE))
    find(connect, writing(policy))


def test_back_there_before_it_is_made_anew_it_is_updated(connect, look, known):
    gone_there_and_kept_here(connect, look)
    comes_back(connect)
    assert outbox(look) == [("1", "update", {"name": "ours"})]


@pytest.mark.parametrize("status", ["unsure", "parked"])
def test_back_there_while_it_is_made_anew_a_person_is_asked_and_no_row_is_doubled(connect, look, known, status):
    gone_there_and_kept_here(connect, look)
    look("UPDATE integrations.outbox SET tries = 1, status = %s RETURNING 1", status)
    comes_back(connect)
    look("UPDATE integrations.outbox SET status = 'queued' WHERE operation = 'create' RETURNING 1")
    with pytest.raises(ElsewhereError):
        answered(connect, look, external_id="new")
    assert look("SELECT external_id, deleted_at FROM integrations.link") == [("1", None)]
    assert look("SELECT count(*) FROM canonical.customer WHERE deleted_at IS NULL") == [(1,)]


def test_deleted_there_by_us_brought_back_here_and_back_there_it_is_updated(connect, look, known):
    delete(look)
    find(connect, writing("local_wins"))
    answered(connect, look)
    look("UPDATE canonical.customer SET deleted_at = NULL, name = 'ours' RETURNING 1")
    assert find(connect, writing("local_wins")) == {"creates": 1}
    comes_back(connect)
    assert outbox(look) == [("1", "update", {"name": "ours"})]
    assert look("SELECT deleted_here, deleted_at FROM integrations.link") == [(False, None)]


def test_a_conflict_ends_with_its_record_there_though_another_connection_holds_it_and_opens_with_it_again(
    connect, look, parked
):
    writeback = writing("review", when_deleted="remote_wins")
    with run(connect, connection="shop") as lease:
        shape(lease, writing(), shaped("s", email="a@x", name="ours", worth=ONE), match=[["email"]])
    still_open = "SELECT field FROM integrations.conflict WHERE status = 'open' AND connection = 'crm'"
    with run(connect) as lease:
        shape(lease, writeback, deletes=["1"])
    find(connect, writeback)
    assert look(still_open) == []
    with run(connect) as lease:
        shape(lease, writeback, shaped("1", "3", email="a@x", name="theirs", worth=ONE))
    find(connect, writeback)
    assert look("SELECT name FROM canonical.customer") == [("ours",)]
    assert look(still_open) == [("name",)] and outbox(look) == []


def test_a_conflict_that_is_open_again_before_its_record_is_back_stays_one(connect, look, parked):
    with run(connect, connection="shop") as lease:
        shape(lease, writing(), shaped("s", email="a@x", name="ours", worth=ONE), match=[["email"]])
    writeback = writing("review", when_deleted="remote_wins")
    with run(connect) as lease:
        shape(lease, writeback, deletes=["1"])
    find(connect, writeback)
    look(
        "INSERT INTO integrations.conflict (connection, stream, external_id, kind, canonical_id, field, reason)"
        " SELECT connection, stream, external_id, kind, canonical_id, field, 'the answer came late'"
        " FROM integrations.conflict WHERE field = 'name' RETURNING 1"
    )
    with run(connect) as lease:
        shape(lease, writeback, shaped("1", "3", email="a@x", name="theirs", worth=ONE))
    assert look("SELECT field FROM integrations.conflict WHERE status = 'open'") == [("name",)]


def test_gone_on_both_sides_and_back_there_the_source_counts(connect, look, known):
    """Whatever it had made of an earlier write of ours."""
    edit(look, name="ours")
    find(connect, writing())
    answered(connect, look, theirs={"email": "a@x", "name": "OURS", "worth": "1"})
    with run(connect) as lease:
        shape(lease, writing(), deletes=["1"])
        shape(lease, writing(), shaped("1", TO_COME, email="a@x", name="Carl", worth=ONE))
    assert value(look) == "Carl"
    find(connect, writing())
    assert outbox(look) == []


def test_a_conflict_stays_while_its_record_is_deleted_here_and_brought_back(connect, look, parked):
    delete(look)
    assert find(connect, writing("review")) == {"deletes": 1}
    look("UPDATE canonical.customer SET deleted_at = NULL RETURNING 1")
    find(connect, writing("review"))
    assert [change for change in outbox(look) if change[1] == "update"] == []
    assert look("SELECT field FROM integrations.conflict WHERE status = 'open'") == [("name",)]


def test_a_conflict_ends_once_its_record_is_gone_on_both_sides(connect, look, parked):
    delete(look)
    with run(connect) as lease:
        shape(lease, writing("review"), deletes=["1"])
    find(connect, writing("review"))
    assert look("SELECT 1 FROM integrations.conflict WHERE status = 'open'") == []


def test_newest_wins_between_a_deletion_there_and_an_edit_here(connect, look, known):
    edit(look, name="ours")
    look("UPDATE raw.crm__contacts SET version = %s RETURNING 1", version_text(datetime.now(UTC) + timedelta(hours=1)))
    with run(connect) as lease:
        shape(lease, writing("newest_wins"), deletes=["1"])
    assert look("SELECT deleted_at IS NULL FROM canonical.customer") == [(False,)]


@pytest.mark.parametrize(("side", "alive", "sent"), [("ours", True, ["create"]), ("theirs", False, [])])
def test_a_person_decides_about_a_record_deleted_there(connect, look, known, side, alive, sent):
    edit(look, name="ours")
    with run(connect) as lease:
        shape(lease, writing("review"), deletes=["1"])
    with connect() as session:
        (found,) = open_conflicts(session)
        resolve(session, found.id, side)
    find(connect, writing("review"))
    assert look("SELECT deleted_at IS NULL FROM canonical.customer") == [(alive,)]
    assert [operation for _, operation, _ in outbox(look)] == sent


@pytest.mark.parametrize(("side", "alive", "sent"), [("ours", False, ["delete"]), ("theirs", True, [])])
def test_a_person_decides_about_a_record_deleted_here(connect, look, known, side, alive, sent):
    delete(look)
    with run(connect) as lease:
        shape(lease, writing("review"), shaped("1", "2", email="a@x", name="theirs", worth=ONE))
    assert find(connect, writing("review")) == {}
    with connect() as session:
        (found,) = open_conflicts(session)
        resolve(session, found.id, side)
    find(connect, writing("review"))
    assert look("SELECT name, deleted_at IS NULL FROM canonical.customer") == [("theirs", alive)]
    assert [operation for _, operation, _ in outbox(look)] == sent


@pytest.mark.parametrize(
    ("policy", "kept", "sent", "parked"),
    [
        ("remote_wins", "Shop", [{"worth": "1"}], 0),
        ("local_wins", "A", [{"name": "A", "worth": "1"}], 0),
        ("newest_wins", "Shop", [{"worth": "1"}], 0),
        ("review", "A", [{"worth": "1"}], 1),
    ],
)
def test_a_match_goes_by_the_policies_and_fills_both_sides(connect, look, known, policy, kept, sent, parked):
    with run(connect, connection="shop") as lease:
        theirs = shaped("s", TO_COME, email="a@x", name="Shop", visits=3)
        assert shape(lease, writing(policy), theirs, match=[["email"]]) == {"updated": 1}
    look(READY)
    find(connect, writing(policy), "shop")
    assert look("SELECT name, worth, visits FROM canonical.customer") == [(kept, 1, 3)]
    assert [changes for _, _, changes in outbox(look, "shop")] == sent
    assert look("SELECT count(*) FROM integrations.conflict WHERE status = 'open'") == [(parked,)]


def test_a_record_that_may_be_one_of_several_is_not_created_there_meanwhile(connect, look, known):
    look("INSERT INTO canonical.customer (name, email) VALUES ('Twin', 'a@x') RETURNING 1")
    with run(connect, connection="shop") as lease:
        land_raw(lease, "s")
        shape(lease, writing(), shaped("s", email="a@x"), match=[["email"]])
    look(READY)
    assert find(connect, writing(), "shop") == {}


def test_an_edited_write_block_looks_at_every_record_again(connect, look, known):
    only_email = Writeback({"email": "remote_wins"}, "remote_wins", {}, creates=True, updates=True, deletes=True)
    edit(look, name="edited")
    assert find(connect, only_email) == {}
    with connect() as session, session.transaction():
        found = Finding(session, "crm", "contacts", CUSTOMER, writing(), None, "edited").queue()
    assert found.updates == 1
