"""`integrations status` and `integrations database-url`."""

from __future__ import annotations

import os
from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.alerting import undelivered_document, unheard
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import has_file, load_all, load_connection
from integrations_pipeline.store.alerts import Undelivered, undelivered
from integrations_pipeline.store.breaker import BreakerState
from integrations_pipeline.store.health import streams_health
from integrations_pipeline.store.judging import Loss
from integrations_pipeline.store.keeper import keep
from integrations_pipeline.store.status import StreamStatus
from integrations_pipeline.store.store import URL_VARIABLE, Store, open_store
from integrations_pipeline.sync.alerting import destinations
from integrations_pipeline.sync.expecting import Verdict, judged
from integrations_pipeline.sync.result import iso


def run_status(name: str | None, *, json: bool) -> int:
    """Broken files are named beside the others; they have no status."""
    home = Home.from_environment()
    loaded = load_all(home)
    broken = {} if name else loaded.broken
    with open_store(home=home) as store:
        left = without_file(store, home, name)
        named = [load_connection(name, home)] if name and not left else []
        connections = named if name else list(loaded.connections.values())
        rows = store.status(connections) + store.status_of(left)
        breakers = list(store.breakers(connections).values())
        verdicts, missed = judgement(store, connections)
    if json:
        errors = [entry for error in broken.values() for entry in output.error_documents(error)]
        streams = [status_document(row, verdicts.get((row.connection, row.stream), [])) for row in rows]
        stopped, unheard_of = [as_document(one) for one in breakers], [undelivered_document(one) for one in missed]
        output.print_json({"streams": streams, "breakers": stopped, "undelivered": unheard_of, "errors": errors})
        return 0
    if rows or not broken:
        show_status(rows)
    for gone in left:
        output.console.print(f"{gone}: no file names it; `integrations disconnect {gone}` ends it", markup=False)
    for one in breakers:
        if one.since is not None:
            output.console.print(paused(one), style="yellow", markup=False)
    for (connection, stream), judged_ones in verdicts.items():
        for verdict in judged_ones:
            if not verdict.passed:
                said = f"{connection}/{stream}: {verdict.name}: {verdict.said}"
                output.console.print(said, style="yellow", markup=False)
    for lost in missed:
        output.console.print(unheard(lost), style="yellow", markup=False)
    for error in broken.values():
        output.show_error(error)
    return 0


Verdicts = dict[tuple[str, str], list[Verdict]]


def judgement(store: Store, connections: list[Connection]) -> tuple[Verdicts, list[Undelivered]]:
    """What became of each stream's expectations, and which destinations don't take their alerts."""
    named = {one.name: one for one in connections}
    with store.borrow() as session:
        healths = streams_health(session, [(one.name, stream) for one in connections for stream in one.selected])
        missed = undelivered(session, destinations(connections))
    active = [one for one in healths if one.active]
    return {(one.connection, one.stream): list(judged(named[one.connection], one)) for one in active}, missed


def without_file(store: Store, home: Home, name: str | None) -> dict[str, list[str]]:
    """Connections, with their streams, that only the database knows: their file was deleted or renamed."""
    return {
        known: streams
        for known, streams in store.known_streams().items()
        if (name is None or name == known) and not has_file(known, home)
    }


def status_document(row: StreamStatus, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "connection": row.connection,
        "stream": row.stream,
        "state": row.state,
        "active": row.active,
        "last_success": iso(row.last_success),
        "last_full_refresh": iso(row.last_full_refresh),
        "lag_seconds": row.lag_seconds,
        "watermark": row.watermark,
        "under_way": row.under_way,
        "resume_at": iso(row.resume_at),
        "error_count": row.error_count,
        "last_error": row.last_error,
        "rows_held": row.rows_held,
        "rows_deleted": row.rows_deleted,
        "quarantine_open": row.quarantine_open,
        "drift_open": row.drift_open,
        "webhooks": loss_document(row.webhooks),
        "expectations": [expectation_document(one) for one in verdicts],
        "last_run": row.last_run,
    }


def loss_document(loss: Loss | None) -> dict[str, Any] | None:
    if loss is None:
        return None
    counts = {"told": loss.told, "missed": loss.missed, "loss_percent": round(loss.percent, 2)}
    return {**counts, "delay_seconds": loss.delay_seconds}


def expectation_document(one: Verdict) -> dict[str, Any]:
    said = {"name": one.name, "passed": one.passed, "severity": one.severity, "said": one.said}
    return {**said, "numbers": dict(one.numbers)}


def as_document(breaker: BreakerState) -> dict[str, Any]:
    return {
        "connection": breaker.connection,
        "state": breaker.state,
        "since": iso(breaker.since),
        "next_try": iso(breaker.next_try),
        "failures": breaker.failures,
        "reason": breaker.reason,
    }


def paused(breaker: BreakerState) -> str:
    """What the open breaker means, since when, who must act, and what is next."""
    name, since = breaker.connection, output.local(breaker.since)
    now = "; one call is finding out now whether it is back" if breaker.state == "half_open" else ""
    return (
        f"{name}: calls to the source are paused since {since}, after {breaker.failures} failed tries in a row; the "
        f"last one: {breaker.reason}{now}\n  nobody must act: the next sync after {output.local(breaker.next_try)} "
        f"tries it again, `integrations connect {name}` at once. What is held stays readable, as old as `success` says"
    )


def show_status(rows: list[StreamStatus]) -> None:
    if not rows:
        output.console.print("no connections yet: `integrations new connection` drafts the first one")
        return
    counted = ("rows", "deleted", "quarantine")
    table = output.table("connection", "stream", "state", "success", *counted, right=counted)
    for row in rows:
        counts = (f"{row.rows_held:,}", f"{row.rows_deleted:,}", f"{row.quarantine_open:,}")
        table.add_row(row.connection, row.stream, row.state, ago(row.lag_seconds), *counts)
    output.console.print(table)
    for row in rows:
        if said := note(row):
            output.console.print(f"{row.connection}/{row.stream}: {said}", markup=False)


def ago(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def note(row: StreamStatus) -> str:
    """What a person should know beside the state: the last error, when it resumes, where it will go on."""
    said = [f"{row.last_error['class']}: {row.last_error['message']}"] if row.last_error else []
    if row.resume_at:
        said.append(f"resumes at {output.local(row.resume_at)}")
    if row.drift_open:
        found = f"{row.drift_open:,} finding{'s' * (row.drift_open > 1)} of drift"
        said.append(f"{found}: integrations drift list {row.connection}/{row.stream}")
    if row.webhooks is not None and row.webhooks.missed:
        changes = row.webhooks.told + row.webhooks.missed
        said.append(f"its webhooks missed {row.webhooks.missed:,} of {changes:,} changes in a day; polls brought them")
    if row.under_way:
        said.append("the next sync goes on in the middle of the list")
    return "; ".join(said)


def run_database_url() -> int:
    """The embedded server stays up for a while after its URL was asked for."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        home = Home.from_environment()
        with open_store(home=home) as store:
            url = store.url
            keep(home.state)
    output.console.print(url, markup=False, soft_wrap=True)
    return 0
