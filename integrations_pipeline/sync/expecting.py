"""What a stream is expected to do, judged: by `expect` of its connection, and by its own history.

A stream with a cursor is judged by the rows that were new or changed; one that is read whole each time, by the rows of
its list. All spans end with the last complete poll: one that wasn't made is a matter of freshness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from integrations_pipeline.spec.clock import in_words
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.limits import (
    HISTORY_COUNTS,
    HISTORY_FACTOR,
    HISTORY_MIN_DAYS,
    REJECTED_RISE_PERCENT,
    RUN_TIME_FACTOR,
    RUN_TIME_MIN_RUNS,
    RUN_TIME_SECONDS,
)
from integrations_pipeline.store.health import DayCount, StreamHealth
from integrations_pipeline.sync.judging import told_of

Severity = Literal["warning", "error"]
Number = int | float


@dataclass(frozen=True)
class Verdict:
    """One expectation and what became of it. ``numbers`` are what is plotted; ``said`` is a sentence for people."""

    name: str
    passed: bool
    said: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    severity: Severity = "warning"


@dataclass(frozen=True)
class Expectation:
    """``declared``: by which key of `expect`; None for what the stream's own history says."""

    name: str
    description: str
    judge: Callable[[Connection, StreamHealth], Verdict]
    declared: str | None = None

    def holds_for(self, connection: Connection, stream: str) -> bool:
        if self.declared == "webhook_loss" and told_of(connection, stream) is None:
            return False
        return self.declared is None or getattr(connection.expect, self.declared) is not None


def judged(connection: Connection, health: StreamHealth) -> Iterator[Verdict]:
    """Each expectation that the stream has."""
    for one in expectations(connection, health.stream):
        yield one.judge(connection, health)


def expectations(connection: Connection, stream: str) -> list[Expectation]:
    """Those that `expect` declares, and those that any stream's history makes."""
    return [one for one in EXPECTATIONS if one.holds_for(connection, stream)]


def is_whole(connection: Connection, stream: str) -> bool:
    """Whether each poll reads the stream whole, so that unchanged rows tell of it too."""
    declared = connection.streams[stream]
    return declared.cursor is None and declared.parent is None


def came(connection: Connection, health: StreamHealth, day: int) -> int:
    found = health.days.get(day)
    if found is None:
        return 0
    return found.held if is_whole(connection, health.stream) else found.changed


def came_in_hour(connection: Connection, health: StreamHealth, day: int) -> int:
    found = health.days.get(day)
    if found is None:
        return 0
    return found.hour_held if is_whole(connection, health.stream) else found.hour_changed


def usual(
    health: StreamHealth, count: Callable[[Connection, StreamHealth, int], int], connection: Connection
) -> list[int]:
    """The counts that the latest is compared with; a day on which nothing was asked tells nothing. Empty where too
    little is known."""
    known = [day for day in health.compared_days if day in health.days]
    if health.known_days < HISTORY_MIN_DAYS or len(known) < HISTORY_COUNTS:
        return []
    return [count(connection, health, day) for day in known]


def records_per_day(connection: Connection, health: StreamHealth) -> Verdict:
    """`at least N` in the 24 hours before the last complete poll; of a stream that is known for a day."""
    least, found = connection.expect.records_per_day or 0, came(connection, health, 0)
    young = (
        health.began is None or health.last_success is None or health.last_success - health.began < timedelta(days=1)
    )
    said = f"{found:,} records in a day, at least {least:,} are expected"
    return Verdict("records_per_day", young or found >= least, said, {"records per day": found}, "error")


def record_count_deviation(connection: Connection, health: StreamHealth) -> Verdict:
    """The day beside its own history: neither less than half the lowest nor more than twice the highest."""
    found, history = came(connection, health, 0), usual(health, came, connection)
    numbers: dict[str, Number] = {"records per day": found}
    if not history:
        return Verdict("record_count_deviation", True, "too little history yet to compare a day with", numbers)
    low, high = min(history) / HISTORY_FACTOR, max(history) * HISTORY_FACTOR
    numbers |= {"usual at least": min(history), "usual at most": max(history)}
    said = f"{found:,} records in a day; on days like it there were {min(history):,} to {max(history):,}"
    return Verdict("record_count_deviation", low <= found <= max(high, 1), said, numbers)


def zero_records(connection: Connection, health: StreamHealth) -> Verdict:
    """No row in an hour that has had some on every day like it."""
    found, history = came_in_hour(connection, health, 0), usual(health, came_in_hour, connection)
    numbers: dict[str, Number] = {"records per hour": found}
    if not history:
        return Verdict("zero_records", True, "too little history yet to know when none are to be expected", numbers)
    said = f"{found:,} records in the last hour; in this hour of days like it there were at least {min(history):,}"
    return Verdict("zero_records", found > 0 or min(history) == 0, said, numbers, "error")


def percent(day: DayCount | None) -> float:
    return 100 * day.rejected / day.fetched if day is not None and day.fetched else 0.0


def invalid_record_percent(connection: Connection, health: StreamHealth) -> Verdict:
    """Of a day's rows; under `expect.rejected`, else not risen far above its own history."""
    found, limit = percent(health.days.get(0)), connection.expect.rejected
    numbers: dict[str, Number] = {"invalid %": round(found, 3)}
    if limit is not None:
        said = f"{found:.2f}% of a day's records were rejected, under {limit:g}% is expected"
        return Verdict("invalid_record_percent", found < limit or found == 0, said, numbers)
    highest = max((percent(health.days.get(day)) for day in health.compared_days), default=0.0)
    limit = max(HISTORY_FACTOR * highest, REJECTED_RISE_PERCENT)
    risen = health.known_days >= HISTORY_MIN_DAYS and found > limit
    said = f"{found:.2f}% of a day's records were rejected; on days like it at most {highest:.2f}%"
    return Verdict("invalid_record_percent", not risen, said, numbers)


def full_refresh_within(connection: Connection, health: StreamHealth) -> Verdict:
    """The last complete full refresh, or the first sync where there was none, isn't longer ago."""
    within, since = connection.expect.full_refresh_within, health.last_full_refresh or health.began
    assert within is not None
    if since is None:
        return Verdict("full_refresh_within", True, "never synced yet")
    age = health.asked_at - since
    never = "" if health.last_full_refresh else "; there was none yet"
    said = f"the last full refresh is {in_words(age)} old, {in_words(within)} were promised{never}"
    return Verdict("full_refresh_within", age <= within, said, {"full refresh age hours": round(hours(age), 2)})


def run_time_drift(connection: Connection, health: StreamHealth) -> Verdict:
    """The last run took not much longer than runs of its mode usually do."""
    found, median = health.last_seconds, health.usual_seconds
    if found is None or median is None or health.usual_runs < RUN_TIME_MIN_RUNS:
        numbers: dict[str, Number] = {} if found is None else {"run seconds": round(found, 3)}
        return Verdict("run_time_drift", True, "too few runs yet to compare with", numbers)
    slow = found > median * RUN_TIME_FACTOR and found - median > RUN_TIME_SECONDS
    said = f"the last run took {found:,.0f} s; half of the {health.usual_runs} before it took at most {median:,.0f} s"
    return Verdict(
        "run_time_drift", not slow, said, {"run seconds": round(found, 3), "usual seconds": round(median, 3)}
    )


def webhook_loss(connection: Connection, health: StreamHealth) -> Verdict:
    """Polls of the last day found less missing; passed too where they judged nothing yet."""
    found, under = health.loss, connection.expect.webhook_loss
    assert under is not None
    if found is None:
        return Verdict("webhook_loss", True, "no poll has judged the webhooks yet")
    said = f"webhooks missed {found.percent:.2f}% of the changes of a day, under {under:g}% is expected"
    numbers = {"told": found.told, "missed": found.missed, "loss %": round(found.percent, 2)}
    return Verdict("webhook_loss", found.missed == 0 or found.percent < under, said, numbers)


EXPECTATIONS = (
    Expectation(
        "records_per_day",
        "As many records came in a day as `expect.records_per_day` says: new or changed ones; the rows of the list "
        "where there is no cursor.",
        records_per_day,
        "records_per_day",
    ),
    Expectation(
        "record_count_deviation",
        "A day's records beside those of the same weekdays before it: not less than half, not more than twice as many.",
        record_count_deviation,
    ),
    Expectation("zero_records", "Records came in an hour that always has some on days like it.", zero_records),
    Expectation(
        "invalid_record_percent",
        "The part of a day's records that was rejected: under `expect.rejected`, else not far above its own history.",
        invalid_record_percent,
    ),
    Expectation(
        "full_refresh_within",
        "The last full refresh is not older than `expect.full_refresh_within`.",
        full_refresh_within,
        "full_refresh_within",
    ),
    Expectation(
        "webhook_loss",
        "Webhooks missed less of the last day's changes than `expect.webhook_loss`. Polls have brought the others, "
        "later than an event would have.",
        webhook_loss,
        "webhook_loss",
    ),
    Expectation("run_time_drift", "The last run took not much longer than such runs usually do.", run_time_drift),
)


def hours(span: timedelta) -> float:
    return span.total_seconds() / 3600
