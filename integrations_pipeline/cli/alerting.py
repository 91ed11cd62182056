"""`integrations alerts list`, `test` and `send`."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.spec.errors import Failed
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import Loaded, load_all, load_connection
from integrations_pipeline.store.alerts import HOME, Alert, Undelivered, open_alerts, undelivered
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.alerting import alert, delivered, destinations, look, scopes, trial
from integrations_pipeline.sync.result import iso


def run_list(name: str | None, *, json: bool) -> int:
    """Looks first, so that what it shows is so now; tells nobody."""
    loaded = chosen(name)
    with open_store(home=Home.from_environment()) as store:
        look(loaded, store, whole=name is None)
        with store.borrow() as session:
            found = open_alerts(session, scopes(loaded.connections, whole=name is None))
            missed = undelivered(session, told_by(loaded))
    if json:
        documents = [alert_document(one) for one in found]
        output.print_json({"alerts": documents, "undelivered": [undelivered_document(one) for one in missed]})
        return 0
    for one in found:
        show(one)
    if not found:
        output.console.print("nothing is wrong")
    for gone in missed:
        output.console.print(unheard(gone), style="yellow", markup=False)
    return 0


def run_test(name: str | None, *, json: bool) -> int:
    """Exit 1 where a destination doesn't take its message."""
    from integrations_pipeline.orchestration.notifying import Apprise

    tried = {one: delivered(Apprise(), one, trial(name)) for one in told_by(chosen(name))}
    if json:
        entries = [{"destination": one, "delivered": why is None, "reason": why} for one, why in tried.items()]
        output.print_json({"destinations": entries})
    else:
        for one, why in tried.items():
            output.console.print(f"{one}: {'delivered' if why is None else why}", markup=False)
        if not tried:
            output.console.print("nobody is told: no connection has `alerts`", markup=False)
    return Failed.exit_code if any(tried.values()) else 0


def run_send(name: str | None, *, json: bool) -> int:
    """One look. Exit 1 where a destination didn't take a message; it is tried again by the next look."""
    from integrations_pipeline.orchestration.notifying import Apprise

    with open_store(home=Home.from_environment()) as store:
        found = alert(chosen(name), store, Apprise(), whole=name is None)
    if json:
        output.print_json({"open": found.open, "sent": found.told, "not_taken": found.failed})
    else:
        output.console.print(f"{found.open:,} open alerts, {found.told:,} messages sent, {found.failed:,} not taken")
    return Failed.exit_code if found.failed else 0


def chosen(name: str | None) -> Loaded:
    home = Home.from_environment()
    if name is None:
        return load_all(home)
    connection = load_connection(name, home)
    return Loaded({connection.name: connection}, kinds={}, broken={})


def told_by(loaded: Loaded) -> list[str]:
    return destinations(loaded.connections.values(), loaded.still_told)


def show(one: Alert) -> None:
    style = "red" if one.severity == "error" else "yellow"
    output.console.print(f"{one.where}: {one.condition} since {output.local(one.since)}", style=style, markup=False)
    output.console.print(f"  {one.what}\n  {one.who}: {one.next}", markup=False)


def unheard(one: Undelivered) -> str:
    """A destination that doesn't take its alerts."""
    return (
        f"{one.destination}: {one.messages:,} alerts could not be delivered: {one.reason}; tried {one.tries:,} times\n"
        f"  the person who runs this project: set the variable right, then `integrations alerts test`"
    )


def alert_document(one: Alert) -> dict[str, Any]:
    of_home = one.connection == HOME
    return {
        "connection": one.connection or None,
        "stream": None if of_home else one.stream or None,
        "file": one.stream or None if of_home else None,
        "condition": one.condition,
        "severity": one.severity,
        "what": one.what,
        "who": one.who,
        "next": one.next,
        "since": iso(one.since),
        "run_id": str(one.run_id) if one.run_id else None,
    }


def undelivered_document(one: Undelivered) -> dict[str, Any]:
    return {
        "destination": one.destination,
        "messages": one.messages,
        "reason": one.reason,
        "tries": one.tries,
        "next_try": iso(one.next_try),
    }
