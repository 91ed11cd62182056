"""Tables follow the files: made, widened, never silently retyped; canonical rows are stamped and never vanish."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.preparing import index_name, prepare
from integrations_pipeline.store.store import Store, open_store

CONNECTION = Connection.model_validate(
    {
        "connection": "acme",
        "api": {"url": "https://api.acme.example", "pagination": {"type": "single_page"}},
        "streams": {
            "contacts": {
                "request": "GET /contacts",
                "records": "results",
                "primary_key": "id",
                "map": {"to": "customer", "match": ["email", ["name", "born"]], "fields": {"email": "email"}},
            },
            "notes": {"request": "GET /contacts/<contacts.id>/notes", "records": "results", "primary_key": "id"},
        },
    }
)
FIELDS: dict[str, dict[str, Any]] = {
    "email": {"type": "string"},
    "name": {"type": "string"},
    "orders": {"type": "integer"},
    "worth": {"type": "decimal"},
    "active": {"type": "boolean"},
    "joined": {"type": "timestamp"},
    "born": {"type": "date"},
    "extra": {"type": "json"},
    "employer": {"type": "string", "format": "uuid"},
}


def customer(**changed: dict[str, Any]) -> dict[str, Kind]:
    return {"customer": Kind.model_validate({"kind": "customer", "fields": FIELDS | changed})}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as store:
        yield store


@pytest.fixture
def session(store: Store) -> Iterator[psycopg.Connection[Any]]:
    store.prepare(CONNECTION, customer())
    with store.borrow() as session:
        yield session


def columns(session: psycopg.Connection[Any], schema: str, table: str) -> dict[str, str]:
    found = session.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        [schema, table],
    )
    return dict(found.fetchall())


def one(session: psycopg.Connection[Any], statement: str, *values: Any) -> Any:
    row = session.execute(statement, values).fetchone()
    return row and row[0] if row is None or len(row) == 1 else row


def test_tables_have_the_declared_types(session: psycopg.Connection[Any]) -> None:
    made = columns(session, "canonical", "customer")
    assert {name: made[name] for name in FIELDS} == {
        "email": "text", "name": "text", "orders": "bigint", "worth": "numeric", "active": "boolean",
        "joined": "timestamp with time zone", "born": "date", "extra": "jsonb", "employer": "uuid",
    }  # fmt: skip
    assert set(made) - set(FIELDS) == {"id", "version", "updated_at", "edited_at", "edit_stamp", "deleted_at"}
    assert columns(session, "raw", "acme__contacts") == columns(session, "raw", "acme__notes")
    indexed = {row[0] for row in session.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'canonical'")}
    assert any("USING hash (email)" in definition for definition in indexed)
    assert any("USING btree (name, born)" in definition for definition in indexed)


def test_a_key_is_unique_in_each_raw_table(session: psycopg.Connection[Any]) -> None:
    insert = (
        "INSERT INTO raw.acme__contacts (external_id, payload, hash, version, fetched_at)"
        " VALUES ('1', '{}', '', '1', now())"
    )
    session.execute(insert)
    with pytest.raises(psycopg.errors.UniqueViolation):
        session.execute(insert)
    assert one(session, "SELECT count(*) FROM integrations.raw_record") == 1


def test_preparing_again_changes_nothing_and_asks_once(store: Store, session: psycopg.Connection[Any]) -> None:
    class Counting:
        asked = 0

        def execute(self, *arguments: Any) -> Any:
            self.asked += 1
            return session.execute(*arguments)

    counting = Counting()
    prepare(counting, CONNECTION, customer())  # type: ignore[arg-type]
    assert counting.asked == 1


def test_new_fields_become_columns_and_are_watched(store: Store, session: psycopg.Connection[Any]) -> None:
    session.execute("INSERT INTO canonical.customer (email) VALUES ('a@example.com')")
    store.prepare(CONNECTION, customer(language={"type": "string"}))
    session.execute("UPDATE canonical.customer SET language = 'de'")
    assert one(session, "SELECT version FROM canonical.customer") == 2


def test_a_changed_type_is_refused_in_words(store: Store, session: psycopg.Connection[Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        store.prepare(CONNECTION, customer(orders={"type": "string"}, language={"type": "string"}))
    assert "models/customer.yaml" in str(refused.value) and "fields.orders" in str(refused.value)
    assert "language" not in columns(session, "canonical", "customer")


def test_concurrent_prepares_make_each_table_once(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: store.prepare(CONNECTION, customer()), range(6)))


def test_real_changes_are_stamped_and_others_are_not(session: psycopg.Connection[Any]) -> None:
    session.execute("INSERT INTO canonical.customer (email, orders) VALUES ('a@example.com', 1)")
    state = "SELECT version, edit_stamp::text, updated_at FROM canonical.customer"
    before = one(session, state)
    session.execute("UPDATE canonical.customer SET orders = 1, email = email")
    assert one(session, state) == before
    session.execute("UPDATE canonical.customer SET orders = NULL")
    after = one(session, state)
    assert after[0] == 2 and int(after[1]) > int(before[1]) and after[2] > before[2]


def test_a_deleted_canonical_row_stays_with_its_time(session: psycopg.Connection[Any]) -> None:
    session.execute("INSERT INTO canonical.customer (email) VALUES ('a@example.com'), ('b@example.com')")
    session.execute("DELETE FROM canonical.customer WHERE email = 'a@example.com'")
    deleted = "SELECT version, deleted_at FROM canonical.customer WHERE email = 'a@example.com'"
    version, at = one(session, deleted)
    assert version == 2 and at is not None
    session.execute("DELETE FROM canonical.customer WHERE email = 'a@example.com'")
    assert one(session, deleted) == (2, at)
    with session.transaction():
        session.execute("SET LOCAL integrations.purge = 'on'")
        session.execute("DELETE FROM canonical.customer WHERE email = 'a@example.com'")
    assert one(session, "SELECT count(*) FROM canonical.customer") == 1


def test_a_cascade_leaves_no_dangling_reference(session: psycopg.Connection[Any]) -> None:
    session.execute(
        "CREATE TABLE team (id int PRIMARY KEY); INSERT INTO team VALUES (1);"
        "ALTER TABLE canonical.customer ADD team int REFERENCES team ON DELETE CASCADE;"
        "INSERT INTO canonical.customer (email, team) VALUES ('a@example.com', 1)"
    )
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="cascade"):
        session.execute("DELETE FROM team")
    session.execute("DELETE FROM canonical.customer")
    assert one(session, "SELECT deleted_at IS NOT NULL FROM canonical.customer") is True


def test_a_very_long_text_fits_a_matched_field(session: psycopg.Connection[Any]) -> None:
    session.execute(
        "INSERT INTO canonical.customer (email) SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i"
    )


def test_index_names_stay_apart_within_the_limit() -> None:
    long = "a" * 60
    names = {index_name(long, "stamp"), index_name(long, "parent"), index_name(long[:-1] + "b", "stamp")}
    assert len(names) == 3 and all(len(name) <= 63 for name in names)


def quarantined(session: psycopg.Connection[Any], key: str | None, attempts: int = 1) -> None:
    session.execute(
        "INSERT INTO integrations.quarantine (connection, stream, stage, external_id, hash, payload, reasons, attempts)"
        " VALUES ('acme', 'contacts', 'boundary', %s, 'h', '{}', '[{\"rule\": \"type\"}]', %s)",
        [key, attempts],
    )


def raw(session: psycopg.Connection[Any], stream: str, key: str, deleted: bool = False) -> None:
    session.execute(
        psycopg.sql.SQL(
            "INSERT INTO {} (external_id, payload, hash, version, fetched_at, deleted_at)"
            " VALUES (%s, '{{}}', '', '1', now(), CASE WHEN %s THEN now() END)"
        ).format(psycopg.sql.Identifier("raw", f"acme__{stream}")),
        [key, deleted],
    )


def test_record_state_says_where_each_record_is(session: psycopg.Connection[Any]) -> None:
    raw(session, "contacts", "good")
    raw(session, "contacts", "gone", deleted=True)
    raw(session, "contacts", "worse")
    raw(session, "notes", "worse")
    quarantined(session, "worse", attempts=3)
    quarantined(session, "never")
    quarantined(session, None)
    session.execute(
        "INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision)"
        " VALUES ('00000000-0000-0000-0000-000000000001', 'acme', 'contacts', 'good', 'raw', 'created')"
    )
    rows = session.execute(
        "SELECT connection, stream, external_id, state, attempts, last_error IS NOT NULL, last_run IS NOT NULL"
        " FROM integrations.record_state"
    )
    assert set(rows) == {
        ("acme", "contacts", "good", "stored", 1, False, True),
        ("acme", "contacts", "gone", "deleted", 1, False, False),
        ("acme", "contacts", "worse", "quarantined", 3, True, False),
        ("acme", "notes", "worse", "stored", 1, False, False),
        ("acme", "contacts", "never", "quarantined", 1, True, False),
        ("acme", "contacts", None, "quarantined", 1, True, False),
    }


def link(session: psycopg.Connection[Any], connection: str, email: str, key: str) -> None:
    session.execute(
        "INSERT INTO integrations.link (connection, stream, external_id, kind, canonical_id, base)"
        " SELECT %s, 'contacts', %s, 'customer', id, '{}' FROM canonical.customer WHERE email = %s",
        [connection, key, email],
    )


def test_disconnecting_keeps_or_drops_the_data(store: Store, session: psycopg.Connection[Any]) -> None:
    raw(session, "contacts", "1")
    session.execute("INSERT INTO canonical.customer (email) VALUES ('mine'), ('shared'), ('other')")
    link(session, "acme", "mine", "1")
    link(session, "acme", "shared", "2")
    link(session, "crm", "shared", "2")
    session.execute(
        "INSERT INTO integrations.stream_state (connection, stream, parent_key, lease_epoch, watermark)"
        " VALUES ('acme', 'contacts', '', 7, '1'), ('acme', 'notes', 'x', 0, '1')"
    )
    states = "SELECT stream, parent_key, active, lease_epoch, watermark FROM integrations.stream_state ORDER BY 1, 2"

    store.drop(CONNECTION.name, keep_data=True)
    assert session.execute(states).fetchall()[0] == ("contacts", "", False, 8, 1)
    assert one(session, "SELECT count(*) FROM raw.acme__contacts") == 1
    with pytest.raises(ConfigError, match="disconnected"):
        store.refuse_stopped(CONNECTION)
    store.activate(CONNECTION)
    store.refuse_stopped(CONNECTION)
    assert one(session, "SELECT bool_and(active) FROM integrations.stream_state") is True

    store.drop(CONNECTION.name, keep_data=False)
    assert session.execute(states).fetchall() == [
        ("contacts", "", False, 9, None),
        ("notes", "", False, 2, None),
    ]
    assert one(session, "SELECT to_regclass('raw.acme__contacts')") is None
    live = session.execute("SELECT email FROM canonical.customer WHERE deleted_at IS NULL ORDER BY 1")
    assert live.fetchall() == [("other",), ("shared",)]
    assert one(session, "SELECT count(*) FROM integrations.link") == 1


def test_status_shows_each_selected_stream(store: Store, session: psycopg.Connection[Any]) -> None:
    raw(session, "contacts", "1")
    raw(session, "contacts", "2", deleted=True)
    quarantined(session, "3")
    session.execute(
        "INSERT INTO integrations.stream_state (connection, stream, last_success, watermark, bookmark)"
        " VALUES ('acme', 'contacts', now() - interval '1 minute', '\"2024-01-02\"', '{\"page\": 3}')"
    )
    session.execute(
        "INSERT INTO integrations.run_log (run_id, connection, stream, mode, status, fetched, created)"
        " VALUES (gen_random_uuid(), 'acme', 'contacts', 'full', 'succeeded', 2, 2)"
    )
    contacts, notes = store.status([CONNECTION])
    assert (contacts.stream, contacts.rows_held, contacts.rows_deleted, contacts.quarantine_open) == (
        "contacts",
        1,
        1,
        1,
    )
    assert contacts.under_way and contacts.watermark == "2024-01-02"
    assert contacts.lag_seconds is not None and 60 <= contacts.lag_seconds < 90
    assert contacts.last_run is not None and contacts.last_run["created"] == 2
    assert (notes.stream, notes.active, notes.last_run, notes.rows_held) == ("notes", True, None, 0)
