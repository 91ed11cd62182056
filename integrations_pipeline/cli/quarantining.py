"""`integrations quarantine list`, `show`, `retry` and `discard`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from integrations_pipeline.cli import output
from integrations_pipeline.cli.deciding import given_reason
from integrations_pipeline.cli.naming import connection_of, numbers_in, place_of
from integrations_pipeline.client.redaction import redactor, redactors
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.personal import shown
from integrations_pipeline.store.quarantined import (
    Group,
    QuarantinedRow,
    open_streams,
    places_of,
    quarantine_groups,
    quarantined_row,
)
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.result import iso
from integrations_pipeline.sync.retrying import discard_rows, retry

Chosen = dict[tuple[str, str], list[int] | None]
"""Connection and stream → ids of rows, None for all that are open."""


def run_list(what: str | None, *, json: bool) -> int:
    connection, stream = place_of(what)
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        groups = quarantine_groups(session, connection, stream)
    knows = redactors((one.connection for one in groups), home)
    groups = [Group(**knows[one.connection].document(vars(one))) for one in groups]
    if json:
        output.print_json({"quarantine": [group_document(one) for one in groups]})
        return 0
    if not groups:
        output.console.print("nothing is in quarantine")
        return 0
    table = output.table("stream", "field", "rule", "rows", "such as", "ids", right=("rows",))
    for one in groups:
        samples = ", ".join(shown(one.field, sample) for sample in one.samples or ())
        rule = f"{one.rule} (mapping)" if one.stage == "mapping" else one.rule
        ids = ", ".join(map(str, one.ids[:3])) + (" …" if one.rows > 3 else "")
        table.add_row(f"{one.connection}/{one.stream}", one.field or "–", rule, f"{one.rows:,}", samples or "–", ids)
    output.console.print(table)
    output.console.print("one row whole: `integrations quarantine show ID`")
    return 0


def group_document(one: Group) -> dict[str, Any]:
    return {
        "connection": one.connection,
        "stream": one.stream,
        "stage": one.stage,
        "rule": one.rule,
        "field": one.field,
        "rows": one.rows,
        "message": one.message,
        "samples": [shown(one.field, sample) for sample in one.samples or ()],
        "first_seen": iso(one.first_seen),
        "last_seen": iso(one.last_seen),
        "ids": one.ids,
    }


def run_show(number: int, *, json: bool) -> int:
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        row = quarantined_row(session, number)
    if row is None:
        raise unknown([number])
    row = QuarantinedRow(**redactor(row.connection, home).document(vars(row)))
    if json:
        output.print_json({"row": row_document(row)})
        return 0
    known = row.external_id if row.external_id is not None else "no key could be read"
    output.console.print(f"{row.connection}/{row.stream}: {known} ({row.status}, stage {row.stage})", markup=False)
    output.console.print(
        f"came {row.attempts:,} times, first {output.local(row.first_seen)}, last {output.local(row.last_seen)}"
    )
    for one in row.reasons:
        such = f", e.g. {shown(one['field'] or '', one['sample'])!r}" if one.get("sample") else ""
        output.console.print(f"  {one['field'] or 'the row'} ({one['rule']}): {one['message']}{such}", markup=False)
    output.console.print(row.payload, markup=False)
    return 0


def row_document(row: QuarantinedRow) -> dict[str, Any]:
    """The payload as text: it may hold what no JSON document of ours could repeat."""
    return {
        "id": row.id,
        "connection": row.connection,
        "stream": row.stream,
        "stage": row.stage,
        "external_id": row.external_id,
        "status": row.status,
        "attempts": row.attempts,
        "reasons": row.reasons,
        "payload": row.payload,
        "first_seen": iso(row.first_seen),
        "last_seen": iso(row.last_seen),
        "closed_at": iso(row.closed_at),
        "run_id": row.run_id,
    }


def run_retry(what: list[str], *, json: bool) -> int:
    home = Home.from_environment()
    results = []
    with open_store(home=home) as store:
        for (name, stream), ids in chosen(store, what, home).items():
            connection, kinds = load_connection_and_kinds(name, home)
            done = retry(connection, known_stream(connection, stream), store, kinds, uuid4(), ids)
            results.append((connection.name, stream, done))
    if json:
        entries = [
            {"connection": name, "stream": stream, "healed": done.healed, "open": done.still_open}
            for name, stream, done in results
        ]
        output.print_json({"retried": entries})
        return 0
    if not results:
        output.console.print("nothing is in quarantine")
    for name, stream, done in results:
        output.console.print(f"{name}/{stream}: {done.healed:,} healed, {done.still_open:,} still open", markup=False)
    return 0


def known_stream(connection: Connection, stream: str) -> str:
    if stream not in connection.streams:
        raise ConfigError(
            f"connection {connection.name} has no stream {stream} any more",
            next=f"take it back into the file, or discard its rows: integrations quarantine discard "
            f"{connection.name}/{stream} --reason …",
        )
    return stream


def run_discard(what: list[str], *, reason: str, json: bool) -> int:
    home = Home.from_environment()
    given_reason(reason)
    with open_store(home=home) as store:
        counts = {
            place: discard_rows(*place, store, uuid4(), reason, ids) for place, ids in chosen(store, what, home).items()
        }
    if json:
        entries = [{"connection": name, "stream": stream, "discarded": n} for (name, stream), n in counts.items()]
        output.print_json({"discarded": entries})
        return 0
    for (name, stream), count in counts.items():
        output.console.print(f"{name}/{stream}: {count:,} discarded", markup=False)
    if not counts:
        output.console.print("nothing is in quarantine")
    return 0


def chosen(store: Store, what: Sequence[str], home: Home) -> Chosen:
    """The rows that are meant, by stream. Raises ConfigError for what isn't open, or isn't there at all."""
    numbers = numbers_in(what)
    found: Chosen = {}
    with store.borrow() as session:
        if numbers is not None:
            found |= places_of(session, numbers)
            missing = set(numbers) - {number for ids in found.values() for number in ids or ()}
            if missing:
                raise unknown(sorted(missing))
            return found
        for one in what:
            name, stream = connection_of(one, home)
            streams = open_streams(session, name)
            found |= {(name, each): None for each in streams if stream in (None, each)}
    return found


def unknown(numbers: Sequence[int]) -> ConfigError:
    named = ", ".join(map(str, numbers[:5]))
    return ConfigError(
        f"no open row of quarantine has the id {named}", who=output.TYPED, next="see `integrations quarantine list`"
    )
