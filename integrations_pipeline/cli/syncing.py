"""`integrations sync`, `connect` and `disconnect`."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import typer

from integrations_pipeline.cli import output
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.store.landing import Counters
from integrations_pipeline.store.shaping import ShapeCounters
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.connect import connect, disconnect
from integrations_pipeline.sync.progress import Unwatched
from integrations_pipeline.sync.result import SyncResult
from integrations_pipeline.sync.run import sync

SHAPED_COUNTS = ("created", "updated", "unchanged", "deleted", "quarantined")
RAW_COUNTS = ("created", "updated", "unchanged", "deleted", "skipped", "quarantined", "superseded", "tombstoned")


def run_sync(name: str, streams: list[str], *, full: bool, now: bool, json: bool, debug: bool) -> int:
    if now and not full:
        raise ConfigError(
            "--now has a meaning with --full only: a sync of what is new waits for nothing",
            who=output.TYPED,
            next="leave it out, or add --full",
        )
    priority = Priority.BACKFILL if full else Priority.POLL
    with opened(name, priority) as at:
        watched = nullcontext(Unwatched()) if json or not output.errors.is_terminal else output.TerminalProgress()
        with watched as progress:
            result = sync(
                at.connection, at.client, at.store, at.kinds, streams=streams, full=full, now=now, progress=progress
            )
    if debug:
        for error in (one.error for one in result.streams if one.error):
            traceback.print_exception(error)
    if json:
        output.print_json(result.as_dict())
    else:
        show_result(result)
    return result.exit_code


def show_result(result: SyncResult) -> None:
    """A row per stream; then what went wrong, each with who must act."""
    headings = ("stream", "status", "fetched", "raw records", "canonical records", "pages", "seconds")
    title = f"sync of {result.connection}"
    table = output.table(*headings, right=("fetched", "pages", "seconds"), title=title)
    for one in result.streams:
        raw, canonical = told(one.counters, RAW_COUNTS), told(one.shaped, SHAPED_COUNTS)
        seconds = f"{one.duration_seconds:.1f}"
        table.add_row(one.stream, one.status, f"{one.counters.fetched:,}", raw, canonical, f"{one.pages:,}", seconds)
    output.console.print(table)
    for one in result.streams:
        if one.note:
            output.console.print(f"{one.stream}: {one.note}", markup=False)
        if one.error:
            output.show_error(one.error)
        if one.resume_at:
            at = output.local(one.resume_at)
            output.errors.print(f"  resumes at {at} while `integrations up` runs; else run it again then", markup=False)


def told(counts: Counters | ShapeCounters, names: tuple[str, ...]) -> str:
    """The counters that aren't zero, in words."""
    found = [(name, getattr(counts, name)) for name in names]
    return ", ".join(f"{count:,} {name}" for name, count in found if count) or "–"


def run_connect(name: str, *, json: bool) -> int:
    with opened(name, Priority.USER) as at:
        at.store.ask_anew(at.connection)
        connect(at.connection, at.client, at.store, at.kinds)
        streams = list(at.connection.selected)
        subscribed = at.store.subscriptions.known(at.connection.name)
    if json:
        output.print_json(
            {"connection": at.connection.name, "streams": streams, "connected": True, "subscribed": subscribed}
        )
    else:
        told = " and its webhook subscribed" if subscribed else ""
        output.console.print(f"{at.connection.name} is connected{told}: {', '.join(streams)}")
        output.console.print(f"  next: integrations sync {name}")
    return 0


def run_disconnect(name: str, *, keep_data: bool | None, json: bool) -> int:
    if keep_data is None:
        if json or not output.errors.is_terminal:
            raise ConfigError(
                f"what should become of the data of {name}?",
                who=output.TYPED,
                next="say --keep-data or --drop-data",
            )
        keep_data = typer.confirm(f"Keep the data of {name}?", default=True)
    home = Home.from_environment()
    with open_store(home=home) as store:
        name = name_of(name, home, store)
        disconnect(name, store, keep_data=keep_data, reach=lambda: reached(name))
    became = "kept" if keep_data else "dropped"
    if json:
        output.print_json({"connection": name, "connected": False, "data": became})
    else:
        output.console.print(f"{name} is disconnected, its data {became}")
    return 0


@contextmanager
def reached(name: str) -> Iterator[tuple[Connection, Client]]:
    """The connection's file and a client for it."""
    with opened(name, Priority.USER) as at:
        yield at.connection, at.client


def name_of(name: str, home: Home, store: Store) -> str:
    """The connection's name, from its file, or from what the database holds where the file is gone or broken."""
    if name in store.known_streams():
        return name
    return load_connection_and_kinds(name, home)[0].name
