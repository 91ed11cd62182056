"""What is wrong with a connection, of the facts that are known of it. One cause is told once: what follows is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from integrations_pipeline.spec.clock import in_words
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import DEFERRED_SECONDS, DOWN_SECONDS, WAITING_SECONDS
from integrations_pipeline.store.alerts import HOME, Condition
from integrations_pipeline.store.health import ConnectionHealth, StreamHealth
from integrations_pipeline.sync.expecting import Verdict, judged

DOWNTIME = "downtime"
CREDENTIALS = "credentials"
BROKEN_FILE = "broken_file"
RUNNER = "the person who runs this connection"
HOUSEKEEPER = "the person who runs this project"
PROBLEMS = 5
"""Of a broken file's problems, told; `integrations check` has all."""

FOLLOWS = {
    "freshness", "deferred", "full_refresh_within", "records_per_day", "record_count_deviation",
    "zero_records", "inbox_backlog", "outbox_backlog",
}  # fmt: skip
"""What a source that is down, or that doesn't know us, brings about."""

FOLLOWS_FAILURE = {"freshness", "deferred", "full_refresh_within"}
FOLLOWS_STALENESS = {"deferred"}

AT_THE_SOURCE = "look whether the source has them; where it has, `integrations sync {where} --full`"
NEXT_STEPS = {
    "records_per_day": AT_THE_SOURCE,
    "record_count_deviation": AT_THE_SOURCE,
    "zero_records": AT_THE_SOURCE,
    "invalid_record_percent": "`integrations quarantine list {place}` says which rules were broken",
    "full_refresh_within": "`integrations sync {where} --full --now`, or wider hours in `off_peak`",
    "run_time_drift": "see the run's waits and requests in `integrations status {connection} --json`",
    "webhook_loss": "look at the provider's log of deliveries; polls bring what is missed",
}


def conditions(
    connection: Connection, health: ConnectionHealth, streams: Sequence[StreamHealth], *, just_back: bool = False
) -> list[Condition]:
    """All that is wrong, what only follows from something else marked as held. Nothing is, where it is disconnected.

    What a source that is down brings about is held from its first pause on: either its downtime is told once
    `down_under` has passed, or it ends before, and what is still so then is told.
    ``just_back``: its downtime ended lately, so that streams which weren't read again yet are still held.
    """
    active = [one for one in streams if one.active]
    if not active:
        return []
    of_all = [*downtime(connection, health), *credentials(active), *waiting(health)]
    roots = {one.condition for one in of_all} & {DOWNTIME, CREDENTIALS}
    found = [one for stream in active for one in of_stream(connection, stream)]
    down = bool(roots) or just_back or health.down_since is not None
    return [replace(one, held=one.held or (down and one.condition in FOLLOWS)) for one in [*of_all, *found]]


def of_home(health: ConnectionHealth, broken: Mapping[str, ConfigError]) -> Iterator[Condition]:
    """What belongs to no connection that could be looked at: files that can't be used, changes that never reached whom
    `on_change` names. ``health`` is the home's own."""
    for file, error in broken.items():
        what = f"the file can't be used, so nothing of it is synced or watched: {shortened(error)}"
        yield Condition(HOME, file, BROKEN_FILE, "error", what, error.who, error.next, health.asked_at)
    if health.dead_letters:
        what = (
            f"{health.dead_letters:,} changes never reached whom `on_change` names: {health.dead_reason or 'unknown'}"
        )
        step = "`integrations delivery list` says which; mend the address, then `integrations delivery replay KIND`"
        yield Condition(HOME, "", "dead_letter", "error", what, HOUSEKEEPER, step, health.asked_at)


def shortened(error: ConfigError) -> str:
    """Its first problems, each with file and line."""
    shown = [str(one) for one in error.problems[:PROBLEMS]] or [error.what]
    more = len(error.problems) - len(shown)
    return "\n".join([*shown, *([f"and {more:,} more"] if more > 0 else [])])


def downtime(connection: Connection, health: ConnectionHealth) -> Iterator[Condition]:
    """Calls are paused since before the threshold."""
    under = connection.expect.down_under or timedelta(seconds=DOWN_SECONDS)
    if health.down_since is None or health.asked_at - health.down_since < under:
        return
    yield Condition(
        connection.name,
        "",
        DOWNTIME,
        "error",
        f"the source is down: {health.failures:,} failed tries in a row, the last: {health.down_reason}",
        "nobody, unless the provider knows of no trouble",
        f"it is tried again by itself; `integrations connect {connection.name}` tries it at once. What is held stays "
        "readable",
        health.down_since,
    )


def credentials(streams: Sequence[StreamHealth]) -> Iterator[Condition]:
    """The source refuses ours: told once, however many streams met it."""
    met = [one for one in streams if one.error is not None and one.error.get("class") == CREDENTIALS]
    if met:
        error = met[0].error or {}
        since = min(one.failed_at or one.asked_at for one in met)
        yield told_by(error, met[0].connection, "", CREDENTIALS, since, met[0])


def waiting(health: ConnectionHealth) -> Iterator[Condition]:
    """Queues that grow old, and what a person must decide."""
    name, long = health.connection, timedelta(seconds=WAITING_SECONDS)
    for queue, count, oldest in (
        ("inbox", health.inbox, health.inbox_oldest),
        ("outbox", health.outbox, health.outbox_oldest),
    ):
        if oldest is not None and health.asked_at - oldest > long:
            noun = "events" if queue == "inbox" else "changes"
            verb = "receive" if queue == "inbox" else "push"
            what = f"{count:,} {noun} wait in the {queue}, the oldest for {in_words(health.asked_at - oldest)}"
            step = f"see that Dagster's daemon runs; `integrations {verb} {name}` does it by hand"
            yield Condition(name, "", f"{queue}_backlog", "warning", what, RUNNER, step, oldest)
    if health.dead_letters:
        what = f"{health.dead_letters:,} events or changes were given up; the last: {health.dead_reason or 'unknown'}"
        step = f"`integrations inbox list {name}` and `integrations outbox list {name}`, mend the cause, then decide"
        yield Condition(name, "", "dead_letter", "error", what, RUNNER, step, health.asked_at)
    if health.parked:
        what = f"{health.parked:,} changes are parked: only a person can tell whether they were done at the source"
        step = f"`integrations outbox list {name} --status parked` and `show` say what to look for"
        yield Condition(name, "", "parked", "warning", what, "whoever knows the records", step, health.asked_at)
    if health.conflicts:
        what = f"{health.conflicts:,} fields differ here and at the source, and the rule says that a person decides"
        step = f"`integrations conflicts list {name}` has both values; decide for each which counts"
        yield Condition(name, "", "conflicts", "warning", what, "whoever knows the records", step, health.asked_at)


def of_stream(connection: Connection, health: StreamHealth) -> list[Condition]:
    """All that is wrong with one stream; what follows from its own failure or staleness is held."""
    found = [
        *failure(health),
        *freshness(connection, health),
        *deferred(health),
        *drift(health),
        *quarantine(health),
        *(broken(connection, health, one) for one in judged(connection, health) if not one.passed),
    ]
    names = {one.condition for one in found}
    failed = health.error is not None
    held = (FOLLOWS_FAILURE if failed else set()) | (FOLLOWS_STALENESS if "freshness" in names else set())
    return [replace(one, held=one.condition in held) for one in found]


def failure(health: StreamHealth) -> Iterator[Condition]:
    """The last run failed, and somebody must act. Refused credentials are the connection's."""
    if health.error is not None and health.error.get("class") != CREDENTIALS:
        yield told_by(
            health.error, health.connection, health.stream, "run_failure", health.failed_at or health.asked_at, health
        )


def told_by(
    error: dict[str, Any], connection: str, stream: str, condition: str, since: datetime, health: StreamHealth
) -> Condition:
    """An error as it was told in the log."""
    what = f"{error.get('class')}: {error.get('message')}"
    where = f" [{error['where']}]" if error.get("where") else ""
    who, step = str(error.get("who") or RUNNER), str(error.get("next") or "see `integrations status`")
    return Condition(connection, stream, condition, "error", what + where, who, step, since, health.failed_run)


def freshness(connection: Connection, health: StreamHealth) -> Iterator[Condition]:
    within, last = connection.expect.fresh_within, health.last_success or health.began
    if within is None or last is None or health.asked_at - last <= within:
        return
    read = "last read well" if health.last_success else "never read to its end; first tried"
    why = f"; put off: {health.deferred_error.get('message')}" if health.deferred_error else ""
    what = f"{read} {in_words(health.asked_at - last)} ago, {in_words(within)} were promised{why}"
    step = f"see that Dagster's daemon runs; `integrations sync {connection.name} {health.stream}` does it by hand"
    yield Condition(health.connection, health.stream, "freshness", "error", what, RUNNER, step, last + within)


def deferred(health: StreamHealth) -> Iterator[Condition]:
    since = health.deferred_since
    if since is None or health.asked_at - since < timedelta(seconds=DEFERRED_SECONDS):
        return
    error = health.deferred_error or {}
    what = f"put off again and again for {in_words(health.asked_at - since)}; the last time: {error.get('message')}"
    step = "ask the provider for a higher limit, or for what is wrong with its service"
    yield Condition(health.connection, health.stream, "deferred", "warning", what, RUNNER, step, since)


def drift(health: StreamHealth) -> Iterator[Condition]:
    if not health.findings:
        return
    errors = [one for one in health.findings if one.severity == "error"]
    shown = [f"{one.path}: {one.kind.replace('_', ' ')}" for one in health.findings[:5]]
    more = f" and {len(health.findings) - 5:,} more" if len(health.findings) > 5 else ""
    where = f"{health.connection}/{health.stream}"
    step = f"`integrations drift list {where}`; edit the file, or accept them where they are right"
    yield Condition(
        health.connection,
        health.stream,
        "drift",
        "error" if errors else "warning",
        f"its records look different: {', '.join(shown)}{more}",
        "whoever maintains the connector",
        step,
        min(one.first_seen for one in health.findings),
    )


def quarantine(health: StreamHealth) -> Iterator[Condition]:
    if health.quarantine_open:
        where = f"{health.connection}/{health.stream}"
        what = f"{health.quarantine_open:,} rows are set aside in quarantine; the others are in"
        step = f"`integrations quarantine list {where}` says which rules they broke"
        yield Condition(health.connection, health.stream, "quarantine", "warning", what, RUNNER, step, health.asked_at)


def broken(connection: Connection, health: StreamHealth, verdict: Verdict) -> Condition:
    """A failed expectation."""
    names = {"connection": connection.name, "where": f"{connection.name} {health.stream}"}
    step = NEXT_STEPS[verdict.name].format(**names, place=f"{connection.name}/{health.stream}")
    since = health.last_success or health.asked_at
    return Condition(
        connection.name,
        health.stream,
        verdict.name,
        verdict.severity,
        verdict.said,
        RUNNER,
        step,
        since,
        health.last_run,
    )
