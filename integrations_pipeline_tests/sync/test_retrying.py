"""Quarantine heals itself: rows at the source = raw + open quarantine, whatever was edited in between."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import LeaseHeld
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.reshape import reshape
from integrations_pipeline.sync.retrying import Retried, discard_rows, retry
from integrations_pipeline_tests.sync.conftest import THINGS, Bench, keys, paged

CUSTOMER = Kind.model_validate(
    {"kind": "customer", "fields": {"email": {"type": "string"}, "worth": {"type": "decimal"}}}
)
OPEN = "SELECT external_id FROM integrations.quarantine WHERE status = 'open'"


def connection_of(bench: Bench) -> Connection:
    api = {"url": bench.source.url, "pagination": {"type": "cursor", "read": "next", "send": "after"}}
    return Connection.model_validate({"connection": "acme", "api": api, "streams": bench.streams})


def retried(bench: Bench, *ids: int) -> Retried:
    with Store(bench.database_url) as store:
        return retry(connection_of(bench), "things", store, bench.kinds, uuid4(), ids or None)


def opened(bench: Bench) -> set[Any]:
    return {row[0] for row in bench.rows(OPEN)}


def number(value: Any, **more: Any) -> dict[str, Any]:
    return {"id": f"k{value}", "at": "2024-01-01T00:00:00Z", "n": value, **more}


FIELDS = {"id": {"type": "string", "required": True}, "n": {"type": "integer", "max": 5}}


def test_an_edit_of_fields_brings_rows_in_without_asking_the_source(bench: Bench) -> None:
    rows = [number(value) for value in range(10)]
    first = bench.things(paged(rows), fields=FIELDS)
    assert (first.counters.quarantined, first.healed) == (4, 0)
    assert opened(bench) == {"k6", "k7", "k8", "k9"}
    nothing = bench.things(lambda seen: {"items": []}, fields={**FIELDS, "n": {"type": "integer", "max": 8}})
    assert (nothing.counters.fetched, nothing.healed) == (0, 3)
    assert (bench.live(), opened(bench)) == (keys(rows) - {"k9"}, {"k9"})
    stored = bench.rows("SELECT payload FROM raw.acme__things WHERE external_id = 'k7'")
    assert stored == [(rows[7],)]
    ((reasons, attempts),) = bench.rows("SELECT reasons, attempts FROM integrations.quarantine WHERE status = 'open'")
    assert (reasons[0]["message"], attempts) == ("above 8", 1)


def test_an_edit_is_looked_at_once_and_also_where_the_source_is_away(bench: Bench) -> None:
    bench.things(paged([number(value) for value in range(10)]), fields=FIELDS)
    wider = {**FIELDS, "n": {"type": "integer", "max": 8}}
    away = bench.things(lambda seen: [], fields=wider)
    assert (away.status, away.healed) == ("failed", 3)
    again = bench.things(lambda seen: {"items": []}, fields=wider)
    assert (again.healed, opened(bench)) == (0, {"k9"})


def test_a_row_that_was_set_aside_never_overwrites_a_newer_one(bench: Bench) -> None:
    """k1 was read newest first; its older version came later, and was bad."""
    shape: dict[str, Any] = {"version": "at", "fields": {"n": {"type": "integer", "max": 5}}}
    bench.things(paged([number(1, at="2024-03-01T00:00:00Z")]), **shape)
    bench.things(paged([{**number(9, at="2024-02-01T00:00:00Z"), "id": "k1"}]), **shape)
    assert opened(bench) == {"k1"}
    healed = bench.things(lambda seen: {"items": []}, version="at").healed
    assert healed == 1
    assert bench.rows("SELECT payload ->> 'n' FROM raw.acme__things") == [("1",)]
    assert opened(bench) == set()


def test_a_row_without_a_version_counts_as_of_when_it_was_read(bench: Bench) -> None:
    bench.things(paged([number(1)]), fields=FIELDS)
    bench.things(paged([{**number(9), "id": "k1"}]), fields=FIELDS)
    bench.things(lambda seen: {"items": []})
    assert bench.rows("SELECT payload ->> 'n' FROM raw.acme__things") == [("9",)]
    bench.things(paged([number(1)]))
    assert bench.rows("SELECT payload ->> 'n' FROM raw.acme__things") == [("1",)]


@pytest.mark.parametrize(("order", "kept"), [("none", "9"), ("desc", "1")])
def test_of_equal_versions_the_later_row_is_newer_unless_the_list_comes_newest_first(
    bench: Bench, order: str, kept: str
) -> None:
    cursor = {"field": "at", "send": "since", "order": order}
    rows = [number(1), {**number(9), "id": "k1"}]
    for row in rows:
        bench.things(paged([row]), fields=FIELDS | {"at": {"type": "timestamp"}}, cursor=cursor)
    assert opened(bench) == {"k1"}
    bench.things(lambda seen: {"items": []}, cursor=cursor)
    assert bench.rows("SELECT payload ->> 'n' FROM raw.acme__things") == [(kept,)]
    assert opened(bench) == set()


def test_what_has_no_json_form_never_comes_in_as_a_text_that_looks_like_it(bench: Bench) -> None:
    bench.source.answer = lambda seen: {"items": []}
    rows = b'{"items": [{"id": "a", "n": NaN}, {"id": "b", "n": "x\\u0000y"}, {"id": "c", "n": 9}]}'
    from integrations_pipeline_tests.client.source import Reply

    bench.things(lambda seen: Reply(body=rows), fields=FIELDS)
    assert opened(bench) == {"a", "b", "c"}
    assert bench.things(lambda seen: {"items": []}).healed == 1
    assert (bench.live(), opened(bench)) == ({"c"}, {"a", "b"})
    bench.things(paged([number(1, id="a"), number(2, id="b")]))
    assert (bench.live(), opened(bench)) == ({"a", "b", "c"}, set())


def test_rows_that_a_new_skip_leaves_out_need_no_place(bench: Bench) -> None:
    bench.things(paged([number(value) for value in range(10)]), fields=FIELDS)
    bench.things(lambda seen: {"items": []}, fields=FIELDS, skip={"n": [6, 7]})
    assert opened(bench) == {"k8", "k9"}


def test_rows_without_a_key_get_one_by_an_edit(bench: Bench) -> None:
    bench.things(paged([{"code": str(n)} for n in range(3)]))
    assert bench.rows("SELECT count(*) FROM integrations.quarantine WHERE external_id IS NULL") == [(3,)]
    bench.things(lambda seen: {"items": []}, primary_key="code")
    assert (bench.live(), opened(bench)) == ({"0", "1", "2"}, set())


def test_rows_below_a_parent_land_below_it_and_go_with_it(bench: Bench) -> None:
    shops: dict[str, Any] = {"request": "GET /shops", "records": "items", "primary_key": "id"}
    lines: dict[str, Any] = {"parent": "shops", "records": "lines", "primary_key": "id"}
    bench.streams = {"shops": shops, "lines": {**lines, "fields": FIELDS}}
    shop = {"id": "s", "lines": [number(1), number(8), number(9)]}
    bench.sync(lambda seen: {"items": [shop]})
    assert opened(bench) == {"k8", "k9"}
    bench.sync(lambda seen: {"items": [{**shop, "lines": [number(1), number(8)]}]})
    assert opened(bench) == {"k8"}  # k9 is no longer in its parent
    bench.streams = {"shops": shops, "lines": lines}
    bench.sync(lambda seen: {"items": []})
    assert bench.rows("SELECT external_id, parent_key FROM raw.acme__lines ORDER BY 1") == [("k1", "s"), ("k8", "s")]
    bench.sync(lambda seen: {"items": [{**shop, "lines": [number(1)]}]})
    assert bench.live("lines") == {"k1"}


def test_some_rows_are_tried_by_id_and_shaped_at_once(bench: Bench) -> None:
    bench.kinds = {"customer": CUSTOMER}
    mapped = {"map": {"to": "customer", "fields": {"worth": "n"}}}
    bench.things(paged([number(8), number(9)]), fields=FIELDS, **mapped)
    ids = [row[0] for row in bench.rows("SELECT id FROM integrations.quarantine ORDER BY external_id")]
    assert retried(bench, *ids) == Retried(0, 2)
    bench.streams = {"things": {**THINGS, **mapped}}
    assert retried(bench, ids[0]) == Retried(1, 0)
    assert opened(bench) == {"k9"}
    assert bench.rows("SELECT worth::int FROM canonical.customer") == [(8,)]


def test_a_discarded_row_stays_discarded_until_another_one_comes(bench: Bench) -> None:
    bench.things(paged([number(1), number(9)]), fields=FIELDS)
    with Store(bench.database_url) as store:
        assert discard_rows("acme", "things", store, uuid4(), "a test record") == 1
    assert bench.rows("SELECT external_id, reason FROM integrations.decision WHERE decision = 'discarded'") == [
        ("k9", "a test record")
    ]
    assert bench.things(paged([number(1), number(9)]), fields=FIELDS).counters.quarantined == 1
    assert opened(bench) == set()
    bench.things(paged([number(9, more="x")]), fields=FIELDS)
    assert opened(bench) == {"k9"}


def test_nothing_is_discarded_while_another_process_writes_the_stream(bench: Bench) -> None:
    bench.things(paged([number(9)]), fields=FIELDS)
    with (
        Store(bench.database_url) as store,
        take_lease(store.connect, "acme", "things", uuid4()),
        pytest.raises(LeaseHeld),
    ):
        discard_rows("acme", "things", store, uuid4(), "no")
    assert opened(bench) == {"k9"}


def test_an_ambiguous_match_is_tried_again_when_a_person_has_settled_it(bench: Bench) -> None:
    bench.kinds = {"customer": CUSTOMER}
    mapped = {"map": {"to": "customer", "match": ["email"], "fields": {"email": "email", "worth": "n"}}}
    bench.things(paged([number(1, email="other@example.org")]), **mapped)
    twins = "INSERT INTO canonical.customer (email) VALUES ('a@example.org'), ('a@example.org') RETURNING id"
    keep, drop = (row[0] for row in bench.rows(twins))
    assert bench.things(paged([number(2, email="a@example.org")]), **mapped).shaped.quarantined == 1
    quiet = bench.things(lambda seen: {"items": []}, **mapped)
    assert (quiet.shaped.as_dict(), opened(bench)) == (dict.fromkeys(quiet.shaped.as_dict(), 0), {"k2"})
    assert bench.rows("SELECT attempts FROM integrations.quarantine") == [(1,)]
    with psycopg.connect(bench.database_url, autocommit=True) as session:
        session.execute("DELETE FROM canonical.customer WHERE id = %s", [drop])
    with Store(bench.database_url) as store:
        counters = reshape(connection_of(bench), "things", store, bench.kinds, uuid4())
    assert (counters.updated, opened(bench)) == (1, set())
    linked = bench.rows("SELECT canonical_id FROM integrations.link WHERE external_id = 'k2'")
    assert linked == [(keep,)]


EDITS = st.sampled_from([{"max": 3}, {"max": 6}, {"max": 9}, {"min": 2}, {"values": [1, 2, 3, 8]}, {}])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("source"), st.dictionaries(st.integers(0, 7), st.integers(0, 9), max_size=4)),
        st.tuples(st.just("edit"), EDITS),
        st.tuples(st.just("retry"), st.none()),
        st.tuples(st.just("away"), st.none()),
    ),
    min_size=2,
    max_size=6,
)


@given(steps=STEPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_at_the_source_are_raw_and_open_quarantine_always(bench: Bench, steps: list[tuple[str, Any]]) -> None:
    with psycopg.connect(bench.database_url, autocommit=True) as session:
        session.execute("TRUNCATE integrations.quarantine, integrations.stream_state, integrations.run_log")
        session.execute("DROP TABLE IF EXISTS raw.acme__things")
    truth: dict[str, dict[str, Any]] = {}
    rule: dict[str, Any] = {"max": 6}
    for clock, (what, value) in enumerate([("source", {0: 1, 1: 9}), *steps], 1):
        if what == "source":
            truth |= {f"k{k}": {"id": f"k{k}", "n": n, "v": clock} for k, n in value.items()}
        elif what == "edit":
            rule = value
        fields = {"fields": {"n": {"type": "integer", **rule}, "v": {"type": "integer"}}, "version": "v"}
        if what == "retry":
            bench.streams = {"things": {**THINGS, **fields}}
            retried(bench)
        else:
            answer = (lambda seen: []) if what == "away" else paged(list(truth.values()))
            bench.things(answer, **fields)
        held = dict(bench.rows("SELECT external_id, payload FROM raw.acme__things"))
        waiting = dict(bench.rows("SELECT external_id, payload FROM integrations.quarantine WHERE status = 'open'"))
        assert held | waiting == truth
        assert not any(held[key]["v"] > row["v"] for key, row in waiting.items() if key in held)


def test_a_mostly_bad_page_stops_the_stream_with_its_state_unmoved_and_says_what_to_do(bench: Bench) -> None:
    shape: dict[str, Any] = {"cursor": {"field": "at", "send": "since"}, "fields": FIELDS}
    bench.things(paged([number(value) for value in range(5)]), **shape)
    before = bench.rows("SELECT bookmark, watermark FROM integrations.stream_state")
    broken = [{**number(value, at="2024-02-01T00:00:00Z"), "n": "many" if value % 3 else 1} for value in range(30)]
    stopped = bench.things(paged(broken, 30), **shape)
    assert stopped.status == "failed" and stopped.error is not None and stopped.error.error_class == "contract"
    assert stopped.error.what.startswith("20 of 30 rows are bad") and "n (type, 20 rows)" in stopped.error.what
    assert "`fields.n`" in stopped.error.next
    assert bench.rows("SELECT bookmark, watermark FROM integrations.stream_state") == before
    assert (len(bench.live()), opened(bench)) == (5, set())
    edited = bench.things(**{**shape, "fields": {**FIELDS, "n": {"type": "json"}}})
    assert (edited.status, bench.live()) == ("succeeded", keys(broken))
