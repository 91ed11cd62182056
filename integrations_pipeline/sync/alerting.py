"""The verb `alert`: looks what is wrong, and tells it to the destinations that connections name, once each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Literal, Protocol

from integrations_pipeline.spec.clock import Clock, SystemClock, in_words
from integrations_pipeline.spec.connection import Alert as Entry
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.limits import ALERT_LINES, ALERT_SECONDS
from integrations_pipeline.spec.loading import Loaded
from integrations_pipeline.store.alerts import (
    HOME,
    LOCK,
    Alert,
    Claimed,
    Condition,
    Listener,
    Step,
    open_alerts,
    recent,
    reconcile,
)
from integrations_pipeline.store.health import Histories, connections_health, streams_health
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.conditions import DOWNTIME, conditions, of_home

JUST_BACK_MINUTES = 15
"""After its downtime a source's streams are read again one after the other; until then they are no news."""

UI_URL = "INTEGRATIONS_UI_URL"
HEADS: dict[Step, str] = {"broken": "broken", "reminder": "still broken", "healed": "healed"}


@dataclass(frozen=True)
class Message:
    """What one destination is told at once. ``kind`` is how it should look."""

    title: str
    body: str
    kind: Literal["failure", "warning", "success", "info"]


class Notifier(Protocol):
    """Delivers messages to a URL that says how: chat, mail, webhook."""

    def tell(self, url: str, message: Message) -> str | None:
        """None once it was taken, else why it wasn't, without anything of the URL."""


Link = Callable[[Alert], str | None]
"""Where a person sees more of an alert."""


@dataclass
class Round:
    """What one look came to."""

    open: int = 0
    told: int = 0
    failed: int = 0


def alert(
    loaded: Loaded,
    store: Store,
    notifier: Notifier,
    *,
    whole: bool = True,
    crashed: Iterable[Condition] | None = None,
    link: Link | None = None,
    histories: Histories | None = None,
    clock: Clock | None = None,
) -> Round:
    """Looks at all connections, opens and heals alerts, tells what is due. ``whole``: they are all of a home, so that
    what belongs to none of them is looked at too. ``crashed``: what only Dagster knows of its runs; None where it isn't
    asked. ``histories``: kept by who looks often.

    Raises DestinationError where our own database is lost. Two callers at once tell nothing twice.
    """
    clock, found = clock or SystemClock(), Round()
    look(loaded, store, whole=whole, crashed=crashed, histories=histories)
    late = over(clock, ALERT_SECONDS)
    for destination, listeners in listening(loaded, clock.now(), whole=whole).items():
        if not late():
            tell(store, notifier, destination, listeners, link or asset_link, found, late)
    with store.borrow() as session:
        found.open = len(open_alerts(session, scopes(loaded.connections, whole=whole)))
    return found


def over(clock: Clock, seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since now."""
    until = clock.monotonic_seconds() + seconds
    return lambda: clock.monotonic_seconds() >= until


def scopes(connections: Iterable[str], *, whole: bool = True) -> list[str]:
    """Whose alerts are meant: the connections', and the home's own where they are all of it."""
    return [*connections, *([HOME] if whole else [])]


def look(
    loaded: Loaded,
    store: Store,
    *,
    whole: bool = True,
    crashed: Iterable[Condition] | None = None,
    histories: Histories | None = None,
) -> None:
    """Brings the open alerts up to what is so now. Those of a connection whose file is broken stay as they are."""
    connections, names = loaded.connections, scopes(loaded.connections, whole=whole)
    with store.borrow() as session, session.transaction():
        session.execute(LOCK)
        back = recent(session, DOWNTIME, JUST_BACK_MINUTES)
        by_connection = {
            name: list(group)
            for name, group in groupby(
                streams_health(session, [(c.name, s) for c in connections.values() for s in c.selected], histories),
                key=lambda one: one.connection,
            )
        }
        active = {name for name, streams in by_connection.items() if any(one.active for one in streams)}
        found = [one for one in crashed or () if one.connection == HOME or one.connection in active]
        for health in connections_health(session, names):
            name = health.connection
            if name == HOME:
                found += of_home(health, loaded.broken)
            else:
                streams = by_connection.get(name, [])
                found += conditions(connections[name], health, streams, just_back=name in back)
        reconcile(session, names, found, runs_known=crashed is not None)


def listening(loaded: Loaded, now: datetime, *, whole: bool) -> dict[str, list[Listener]]:
    """By destination, the connections it hears now; a destination that has its quiet hours hears of none. What is the
    whole home's each of them hears, those that broken files name too."""
    found: dict[str, dict[str, Listener]] = {}
    named = [(one, connection.name) for connection in loaded.connections.values() for one in connection.alerts]
    of_home = [(one, HOME) for one in (*(one for one, _ in named), *loaded.still_told)] if whole else []
    for one, name in (*named, *of_home):
        if one.quiet is None or not one.quiet.holds(now):
            listener = Listener(name, one.from_ == "warning", one.remind.total_seconds())
            found.setdefault(one.env, {}).setdefault(name, listener)
    return {name: list(listeners.values()) for name, listeners in found.items()}


def tell(
    store: Store,
    notifier: Notifier,
    destination: str,
    listeners: Sequence[Listener],
    link: Link,
    found: Round,
    late: Callable[[], bool],
) -> None:
    """What is due for one destination; after the first message it doesn't take, the others wait too. What it is too
    late for is left to the next look."""
    with store.borrow() as session:
        claimed = Claimed(session, destination, listeners)
        reason: str | None = None
        for claim in messages(claimed.alerts):
            if reason is None and late():
                claimed.release(claim)
                continue
            alerts = claimed.renew(claim)
            if not alerts:
                continue
            if reason is None:
                reason = delivered(notifier, destination, rendered(alerts, link))
            if reason is None:
                claimed.told(alerts)
                found.told += 1
            else:
                claimed.not_told(alerts, reason)
                found.failed += 1


def delivered(notifier: Notifier, destination: str, message: Message) -> str | None:
    """None once it was taken, else why it wasn't."""
    url = os.environ.get(destination, "").strip()
    if not url:
        return f"the environment variable {destination} is not set"
    try:
        return notifier.tell(url, message)
    except Exception as error:  # noqa: BLE001 - one destination must not silence the others; its words may quote the URL
        return f"sending to it failed within our own program: {type(error).__name__}"


def messages(alerts: Sequence[Alert]) -> Iterator[list[Alert]]:
    """What happened to a connection at once is one message: of broken ones, of reminders, of healed ones."""
    ordered = sorted(alerts, key=lambda one: (one.connection, list(HEADS).index(one.step), one.severity, one.id))
    for _, group in groupby(ordered, key=lambda one: (one.connection, one.step)):
        yield list(group)


def rendered(alerts: Sequence[Alert], link: Link) -> Message:
    """Of one connection and one step. What, since when, who must act, what next, where to see more."""
    first = alerts[0]
    head, worst = HEADS[first.step], min(one.severity for one in alerts)
    title = f"{head}: {first.where}: {first.condition}"
    if len(alerts) > 1:
        title = f"{head}: {first.connection or 'the whole home'}: {len(alerts):,} alerts"
    body = "\n\n".join(paragraph(one, link) for one in alerts[:ALERT_LINES])
    if len(alerts) > ALERT_LINES:
        shown = f"integrations alerts list {first.connection}".rstrip()
        body += f"\n\nand {len(alerts) - ALERT_LINES:,} more: `{shown}`"
    kind: Literal["failure", "warning", "success"] = "failure" if worst == "error" else "warning"
    return Message(title, body, "success" if first.step == "healed" else kind)


def paragraph(one: Alert, link: Link) -> str:
    since = f"{one.since:%Y-%m-%d %H:%M} UTC"
    lines = [f"{one.where}: {one.condition} ({one.severity})"]
    if one.healed_at is not None:
        lines += [
            f"over since {one.healed_at:%Y-%m-%d %H:%M} UTC, after {in_words(one.healed_at - one.since)}; it was:"
        ]
        lines += [one.what]
    else:
        lines += [one.what, f"since: {since}", f"who must act: {one.who}", f"next: {one.next}"]
    more = link(one)
    return "\n".join([*lines, *([f"see: {more}"] if more else [])])


def asset_link(one: Alert) -> str | None:
    """The stream's page of the UI, or the connection's; None where INTEGRATIONS_UI_URL doesn't say where that is."""
    url = os.environ.get(UI_URL, "").strip().rstrip("/")
    if not url or one.connection == HOME:
        return None
    return f"{url}/assets/{one.connection}/{one.stream}" if one.stream else f"{url}/assets/{one.connection}"


def trial(connection: str | None, clock: Clock | None = None) -> Message:
    """Proves that a destination takes what it is told."""
    whose, now = connection or "all connections", (clock or SystemClock()).now()
    body = f"This is a test of {now:%Y-%m-%d %H:%M} UTC: alerts of {whose} arrive here. Nothing is wrong."
    return Message(f"test: {whose}", body, "info")


def destinations(connections: Iterable[Connection], still_told: Iterable[Entry] = ()) -> list[str]:
    """The names of the variables that hold the URLs, each once; those that broken files name too."""
    named = [one.env for connection in connections for one in connection.alerts]
    return list(dict.fromkeys([*named, *(one.env for one in still_told)]))
