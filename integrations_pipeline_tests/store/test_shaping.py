"""Shaping: one canonical row per record or match, only what changed is written, references wait, nothing is doubled."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from psycopg import sql

from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.store.shape_statement import shape_statement
from integrations_pipeline.store.shaping import (
    ShapeChunk,
    ShapeCounters,
    ShapedRow,
    Shaping,
    changed_rows,
    new_ids,
    pending_rows,
    shape_chunk,
    shape_done,
    shape_until,
)
from integrations_pipeline_tests.store.parts import CUSTOMER, chunk, counted, rejection, row, run

FIELDS = ("email", "name", "worth", "visits", "joined", "extra", "manager")
JOINED = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
LINKS = """
SELECT external_id, canonical_id, base, pending, deleted_at IS NOT NULL FROM integrations.link
WHERE connection = %s ORDER BY 1
"""


def shaped(key: str, version: str = "1", *, base: Any = None, manager: str = "", **values: Any) -> ShapedRow:
    """A mapped record; what isn't given is null. ``manager`` refers to another contact."""
    full = dict.fromkeys(FIELDS) | values
    plain = {n: str(v) if isinstance(v, Decimal | datetime | date) else v for n, v in full.items()}
    plain |= {"manager": manager} if manager else {}
    references = {"manager": ("contacts", manager)} if manager else {}
    return ShapedRow(key, full, base or plain, references, version)


def shape(lease, *upserts, deletes=(), rejected=(), match=(("email",),)):
    """Shapes rows whose raw form is made beside them, as quarantine reads it."""
    done = ShapeChunk(CUSTOMER, FIELDS, match, list(upserts), list(deletes), list(rejected))
    return counted(shape_chunk(lease, done).as_dict())


def land_raw(lease, *keys):
    lease.commit_chunk(chunk(*[row(key) for key in keys]))


def customers(look):
    return look(
        "SELECT email, name, worth, deleted_at IS NOT NULL, version FROM canonical.customer ORDER BY email, name"
    )


def linked(look, connection="crm"):
    return {one[0]: one[1:] for one in look(LINKS, connection)}


def test_new_records_with_every_type(connect, look):
    values = {"email": "a@x", "name": "A\u00e9", "worth": Decimal("12.50"), "visits": 2**62, "joined": JOINED}
    values["extra"] = {"tags": [1, None]}
    with run(connect) as lease:
        assert shape(lease, shaped("1", **values), shaped("2", name="B", extra=[], worth=7)) == {"created": 2}
    found = look(
        "SELECT email, name, worth, visits, joined, extra, version, edit_stamp IS NOT NULL"
        " FROM canonical.customer ORDER BY name"
    )
    assert found == [
        ("a@x", "A\u00e9", Decimal("12.50"), 2**62, JOINED, {"tags": [1, None]}, 1, True),
        (None, "B", Decimal(7), None, None, [], 1, True),
    ]
    assert linked(look)["1"][1]["worth"] == "12.50"
    assert look("SELECT count(*) FROM integrations.decision") == [(0,)]  # the link tells when, and by which run
    assert look("SELECT external_id FROM integrations.link WHERE run_id IS NOT NULL ORDER BY 1") == [("1",), ("2",)]
    assert look("SELECT count(*) FROM integrations.link l JOIN canonical.customer c ON c.id = l.canonical_id") == [(2,)]


def test_only_what_changed_is_written_so_edits_made_here_stay(connect, look):
    with run(connect) as lease:
        shape(lease, shaped("1", email="a@x", name="A", worth=1))
        look("UPDATE canonical.customer SET name = 'edited here' RETURNING 1")
        update = shaped("1", "2", email="b@x", name="A", worth=1)
        assert shape(lease, update) == {"updated": 1}
        assert customers(look) == [("b@x", "edited here", 1, False, 3)]
        assert linked(look)["1"][1]["email"] == "b@x"
        assert shape(lease, update) == {"unchanged": 1}
        assert shape(lease, shaped("1", email="b@x", name="A", worth=1)) == {"unchanged": 1}
    assert customers(look)[0][-1] == 3
    detail = look("SELECT detail FROM integrations.decision WHERE decision = 'updated'")
    assert detail == [({"email": ["a@x", "b@x"]},)]


def test_an_update_to_what_is_already_there_leaves_the_row_alone(connect, look):
    with run(connect) as lease:
        shape(lease, shaped("1", email="a@x", name="A"))
        look("UPDATE canonical.customer SET name = 'B' RETURNING 1")
        assert shape(lease, shaped("1", email="a@x", name="B")) == {"updated": 1}
    assert customers(look) == [("a@x", "B", None, False, 2)]
    assert linked(look)["1"][1]["name"] == "B"


def test_a_match_joins_two_systems_and_fills_without_emptying(connect, look):
    with run(connect) as crm:
        shape(crm, shaped("1", email="a@x", name="A", worth=5), shaped("2", email="b@x"))
    with run(connect, connection="shop") as shop:
        assert shape(shop, shaped("s", email="a@x", name="Other"), shaped("t", email="new@x")) == {
            "created": 1,
            "updated": 1,
        }
    assert customers(look) == [
        ("a@x", "Other", 5, False, 2), ("b@x", None, None, False, 1), ("new@x", None, None, False, 1)
    ]  # fmt: skip
    assert linked(look, "shop")["s"][0] == linked(look)["1"][0]
    assert look("SELECT reason, detail FROM integrations.decision WHERE decision = 'matched'") == [
        ("same email", {"name": ["A", "Other"]})
    ]


def test_alternatives_are_tried_in_order_and_null_or_empty_never_matches(connect, look):
    ways = (("email",), ("name", "joined"))
    with run(connect) as crm:
        shape(
            crm,
            shaped("1", email="a@x", name="A"),
            shaped("2", name="B", joined=JOINED),
            shaped("3", email="", name="C"),
        )
    with run(connect, connection="shop") as shop:
        rows = (
            shaped("by_name", email="unknown@x", name="B", joined=JOINED),
            shaped("by_mail", email="a@x", name="B"),
            shaped("half", name="C"),
            shaped("empty", email="", name="D"),
        )
        assert shape(shop, *rows, match=ways) == {"created": 2, "updated": 2}
    links, others = linked(look), linked(look, "shop")
    assert others["by_name"][0] == links["2"][0] and others["by_mail"][0] == links["1"][0]
    assert look("SELECT external_id, reason FROM integrations.decision WHERE decision = 'matched' ORDER BY 1") == [
        ("by_mail", "same email"), ("by_name", "same name and joined")
    ]  # fmt: skip


@pytest.mark.parametrize("chunks", [1, 2])
def test_one_stream_never_links_two_of_its_records_to_one_row(connect, look, chunks):
    with run(connect) as crm:
        shape(crm, shaped("1", email="a@x"))
    with run(connect, connection="shop") as shop:
        rows = [shaped("s", email="a@x"), shaped("t", email="a@x")]
        for part in [rows] if chunks == 1 else [[one] for one in rows]:
            shape(shop, *part)
    others = linked(look, "shop")
    assert others["s"][0] == linked(look)["1"][0] != others["t"][0]
    assert len(customers(look)) == 2


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_record_that_is_back_gets_a_row_of_its_own_where_another_has_the_old_one(connect, look, chunks):
    with run(connect, connection="shop") as shop:
        shape(shop, shaped("s", email="a@x"))
    with run(connect) as crm:
        shape(crm, shaped("1", email="a@x", name="A"))
        shape(crm, deletes=["1"])
        rows = [shaped("1", email="a@x", name="back"), shaped("2", email="a@x", name="anew")]
        for part in [rows] if chunks == 1 else [[rows[1]], [rows[0]]]:
            shape(crm, *part)
        found = linked(look)
        keeps, other = ("1", "2") if chunks == 1 else ("2", "1")
        assert (found["1"][3], found["2"][3]) == (False, False)
        assert found[keeps][0] == linked(look, "shop")["s"][0] != found[other][0]
        assert sorted(one[1] for one in customers(look)) == ["anew", "back"]
        assert shape(crm, *rows) == {"unchanged": 2}
        shape(crm, deletes=["1", "2"])
        assert shape(crm, *rows) == {"updated": 2}
    assert {key: one[0] for key, one in linked(look).items()} == {key: one[0] for key, one in found.items()}
    told = look("SELECT external_id, reason FROM integrations.decision WHERE decision = 'created'")
    assert told == ([] if chunks == 1 else [("1", "it is back, and another record has the one it had")])


def test_two_records_of_one_row_that_come_back_together_are_two_rows(connect, look):
    with run(connect) as crm:
        shape(crm, shaped("1", email="a@x"), shaped("2", email="a@x"))
        shape(crm, deletes=["1", "2"])
        look("UPDATE integrations.link SET canonical_id = (SELECT id FROM canonical.customer LIMIT 1) RETURNING 1")
        shape(crm, shaped("1", email="a@x"), shaped("2", email="a@x"))
    assert len({one[0] for one in linked(look).values() if not one[3]}) == 2


def test_records_of_one_stream_that_share_a_key_are_two_rows(connect, look):
    with run(connect) as lease:
        assert shape(lease, shaped("1", email="a@x"), shaped("2", email="a@x")) == {"created": 2}
    assert len({one[0] for one in linked(look).values()}) == 2


def test_an_ambiguous_match_is_never_guessed_and_heals_when_it_is_clear(connect, look):
    with run(connect) as crm:
        shape(crm, shaped("1", email="a@x"), shaped("2", email="a@x"))
    with run(connect, connection="shop") as shop:
        land_raw(shop, "s")
        assert shape(shop, shaped("s", email="a@x"), shaped("t", email="t@x")) == {"created": 1, "quarantined": 1}
        found = look("SELECT external_id, stage, status, payload, reasons -> 0 FROM integrations.quarantine")
        assert found[0][:4] == ("s", "mapping", "open", {"id": "s"})
        assert (found[0][4]["rule"], found[0][4]["field"]) == ("ambiguous_match", "email")
        assert "s" not in linked(look, "shop")
        look("UPDATE canonical.customer SET deleted_at = now() WHERE id = %s RETURNING 1", linked(look)["2"][0])
        assert shape(shop, shaped("s", email="a@x")) == {"updated": 1}
    assert linked(look, "shop")["s"][0] == linked(look)["1"][0]
    assert look("SELECT status FROM integrations.quarantine") == [("healed",)]


def test_deletes_take_the_row_only_with_its_last_record_and_revive_it(connect, look):
    with run(connect) as crm, run(connect, connection="shop") as shop:
        shape(crm, shaped("1", email="a@x", name="A"))
        shape(shop, shaped("s", email="a@x", name="A"))
        assert shape(crm, deletes=["1", "never"]) == {"deleted": 1, "unchanged": 1}
        assert customers(look)[0][3] is False
        assert shape(shop, deletes=["s"]) == {"deleted": 1}
        assert customers(look)[0][3] is True
        assert shape(shop, deletes=["s"]) == {"unchanged": 1}
        assert shape(crm, shaped("1", email="a@x", name="again")) == {"updated": 1}
    assert [one[:4] for one in customers(look)] == [("a@x", "again", None, False)]
    assert linked(look)["1"][3] is False and linked(look, "shop")["s"][3] is True
    reasons = look(
        "SELECT connection, decision, reason FROM integrations.decision WHERE decision = 'deleted' ORDER BY ctid"
    )
    assert reasons == [("crm", "deleted", "unlinked only: another record holds it"), ("shop", "deleted", None)]
    assert look("SELECT reason FROM integrations.decision WHERE decision = 'updated'") == [("it is back",)]


def test_references_are_looked_up_and_wait_for_their_record(connect, look):
    with run(connect) as lease:
        land_raw(lease, "1", "2", "3")
        assert shape(lease, shaped("1", name="boss"), shaped("2", name="x", manager="1")) == {"created": 2}
        assert look("SELECT name, manager FROM canonical.customer ORDER BY 1") == [("boss", None), ("x", None)]
        assert linked(look)["2"][2] == {"manager": {"stream": "contacts", "external_id": "1"}}
        waiting = [one for batch in pending_rows(lease, limit=1) for one in batch]
        assert [one.external_id for one in waiting] == ["2"]
        again = shaped("2", name="x", manager="1")
        assert shape(lease, again) == {"updated": 1}
        boss = str(linked(look)["1"][0])
        assert look("SELECT name, manager FROM canonical.customer ORDER BY 1") == [("boss", None), ("x", boss)]
        assert list(pending_rows(lease, limit=10)) == []
        assert shape(lease, shaped("3", manager="1"), shaped("2", name="x")) == {
            "created": 1,
            "updated": 1,
        }
        assert look("SELECT name, manager FROM canonical.customer ORDER BY 1") == [
            ("boss", None),
            ("x", None),
            (None, boss),
        ]
        assert shape(lease, shaped("2", name="x", manager="nul\0", base={"name": "x"})) == {"quarantined": 1}


def test_a_reference_that_still_waits_is_no_change(connect, look):
    with run(connect) as lease:
        shape(lease, shaped("2", name="x", manager="1"))
        assert shape(lease, shaped("2", name="x", manager="1")) == {"unchanged": 1}
    assert customers(look)[0][-1] == 1


def test_rejected_rows_wait_in_quarantine_and_heal(connect, look):
    with run(connect) as lease:
        assert shape(lease, shaped("ok", name="ok"), rejected=[rejection("bad"), rejection("gone")]) == {
            "created": 1, "quarantined": 2
        }  # fmt: skip
        assert shape(lease, rejected=[rejection("bad")]) == {"quarantined": 1}
        status = "SELECT external_id, status, attempts FROM integrations.quarantine ORDER BY 1"
        assert look(status) == [("bad", "open", 2), ("gone", "open", 1)]
        assert shape(lease, shaped("bad", name="well"), deletes=["gone"]) == {"created": 1, "unchanged": 1}
        assert {one[1] for one in look(status)} == {"healed"}
    with run(connect) as lease:  # a later run asks anew whether any are open
        shape(lease, rejected=[rejection("bad")])
    with run(connect) as lease:
        assert shape(lease, shaped("bad", name="well")) == {"unchanged": 1}
    assert look("SELECT count(*) FROM integrations.quarantine WHERE status = 'open'") == [(0,)]


@pytest.mark.parametrize("values", [{"name": "a\0b"}, {"visits": 2**63}, {"name": "\ud800"}, {"extra": {"x": "\0"}}])
def test_one_value_that_no_column_holds_costs_one_row(connect, look, values):
    with run(connect) as lease:
        rows = [shaped(f"k{number}", name=f"n{number}") for number in range(40)]
        land_raw(lease, "bad")
        bad = shaped("bad", base={"name": "x"}, **values)
        assert shape(lease, *rows[:13], bad, *rows[13:]) == {"created": 40, "quarantined": 1}
    assert look("SELECT external_id, stage, reasons -> 0 ->> 'rule' FROM integrations.quarantine") == [
        ("bad", "mapping", "unstorable")
    ]


def test_changed_rows_come_once_in_batches(connect, look):
    with run(connect) as lease:
        lease.commit_chunk(chunk(*[row(f"k{number:03d}", n=number) for number in range(250)]))
        first = shape_until(lease)
        batches = list(changed_rows(lease, since=None, below=first, limit=100))
        assert [len(batch) for batch in batches] == [100, 100, 50]
        assert len({one.external_id for batch in batches for one in batch}) == 250
        shape(lease, shaped("k000", name="x"), shaped("k001", name="x"))
        shape(lease, deletes=["k001"])
        shape_done(lease, below=first, mapping_hash="m")
        assert (lease.state().shaped_below, lease.state().mapping_hash) == (first, "m")
    with run(connect) as lease:
        lease.commit_chunk(
            chunk(row("k000", 2, n=-1), row("k001", 2, n=-1), row("k002", 2, deleted=True), row("k003", n=3))
        )
        batch = next(changed_rows(lease, since=first, below=shape_until(lease), limit=100))
        found = {one.external_id: one for one in batch}
    assert set(found) == {"k000", "k001", "k002"}
    assert found["k000"].payload == {"id": "k000", "n": -1}
    assert found["k002"].deleted and found["k002"].payload is None


def test_rows_landed_are_shaped_though_other_transactions_are_open(connect):
    with connect() as other, other.transaction():
        other.execute("SELECT pg_current_xact_id()")
        with run(connect) as lease:
            lease.commit_chunk(chunk(row("a")))
            assert len(next(changed_rows(lease, since=None, below=shape_until(lease), limit=10))) == 1


def test_two_streams_that_bring_one_person_at_once_make_one_row(connect, look):
    barrier = threading.Barrier(2)

    def sync(connection):
        with run(connect, connection=connection) as lease:
            barrier.wait(60)
            for number in range(20):
                shape(lease, *[shaped(f"{number}-{k}", email=f"{number}-{k}@x") for k in range(20)])

    threads = [threading.Thread(target=sync, args=(name,)) for name in ("crm", "shop")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert look("SELECT count(*), count(DISTINCT email) FROM canonical.customer") == [(400, 400)]
    assert look("SELECT count(*) FROM integrations.link") == [(800,)]


def test_an_overtaken_holder_shapes_nothing(connect, look):
    with run(connect) as old:
        old.session.execute("SELECT pg_advisory_unlock_all()")
        with run(connect):
            pass
        with pytest.raises(LeaseHeld):
            shape(old, shaped("1", name="x"))
        with pytest.raises(LeaseHeld):
            shape_done(old, below="5", mapping_hash="m")
    assert customers(look) == []


def test_a_collision_with_an_edit_made_here_is_tried_again(connect, look):
    """The team's own transaction locks two rows in the other order: one of the two is undone, ours comes again."""
    with run(connect) as lease, connect() as team:
        shape(lease, shaped("1", name="a"), shaped("2", name="b"))
        team.execute("SET deadlock_timeout = '10s'")
        with team.transaction():
            team.execute("UPDATE canonical.customer SET worth = 1 WHERE name = 'b'")
            updates = [shaped("1", name="A"), shaped("2", name="B")]
            results: list[Any] = []
            ours = threading.Thread(target=lambda: results.append(shape(lease, *updates)))
            ours.start()
            while not look(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%WITH looked%%'"
            ):
                pass
            team.execute("UPDATE canonical.customer SET worth = 1 WHERE name = 'a'")
        ours.join()
    assert results == [{"updated": 2}]
    assert sorted(look("SELECT name, worth FROM canonical.customer")) == [("A", 1), ("B", 1)]


def test_counters_add_up_and_ids_grow():
    total = ShapeCounters(1, 2, 3, 4, 5) + ShapeCounters(1, 1, 1, 1, 1)
    assert total.as_dict() == {"created": 2, "updated": 3, "unchanged": 4, "deleted": 5, "quarantined": 6}
    ids = new_ids(1000)
    assert len(set(ids)) == 1000 and all(one[6] >> 4 == 7 and one[8] >> 6 == 2 and len(one) == 16 for one in ids)


def test_links_are_looked_up_by_their_whole_key_whatever_the_statistics(connect):
    """By the guesses for a table never analyzed, reading all of the stream's links for each row looks as cheap."""
    ways = [["email"]]
    with run(connect) as lease, lease.session.transaction():
        session = lease.session
        session.execute("ALTER TABLE integrations.link SET (autovacuum_enabled = off)")
        session.execute(
            "INSERT INTO integrations.link (connection, stream, external_id, kind, canonical_id, base)"
            " SELECT 'crm', 'contacts', n, 'customer', gen_random_uuid(), '{}' FROM generate_series(1, 5000) n"
        )
        work = Shaping(lease, session, ShapeChunk(CUSTOMER, FIELDS, ways))
        work.copy([shaped(f"k{number}", name="x") for number in range(2000)])
        statement = sql.SQL("EXPLAIN ") + shape_statement(work.canonical, FIELDS, ways)
        plan = [line for (line,) in session.execute(statement, {**lease.names, "kind": "customer"})]
    conditions = [line for line in plan if "Index Cond" in line]
    assert any("connection" in line and "external_id = s._key" in line for line in conditions), plan
    assert any("canonical_id = c.id" in line for line in conditions), plan
    assert any("email = s.email" in line for line in conditions), plan
