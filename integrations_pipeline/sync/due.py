"""When a stream is polled next, by its `every`, its webhooks, and what it was told to wait for."""

from __future__ import annotations

from datetime import datetime, timedelta

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.forms import Every
from integrations_pipeline.spec.limits import POLL_STRETCH
from integrations_pipeline.store.reports import StreamClock

LANE_RUN = timedelta(minutes=1)
"""A run of the gateway's fast lane lasts a minute, and is known by when it began."""


def every_of(connection: Connection, stream: str) -> Every:
    """When the stream is polled: its own `every`, else the connection's."""
    return connection.streams[stream].every or connection.every


def interval_now(connection: Connection, clock: StreamClock, now: datetime) -> timedelta:
    """`every`, which must be a duration; longer while the stream's webhooks are whole: the last poll that judged them
    found none missing, and events keep coming. Never so long that the data would be older than `fresh_within`."""
    every = every_of(connection, clock.stream).interval
    assert every is not None
    if clock.last_event is None or now - clock.last_event > every + LANE_RUN:
        return every
    fresh = connection.expect.fresh_within
    longest = every * POLL_STRETCH
    return max(every, min(longest, fresh - every) if fresh is not None else longest)


def due_at(connection: Connection, clock: StreamClock, now: datetime) -> datetime | None:
    """When the stream's next poll is due, as far as that can be known: None for a cron, for a stream that is stopped,
    and for one that never ran. In the past where it is overdue."""
    if not clock.active or clock.last_started is None:
        return None
    if clock.resume_at is not None:
        due: datetime | None = clock.resume_at
    elif every_of(connection, clock.stream).interval is None:
        due = None
    else:
        due = clock.last_started + interval_now(connection, clock, now)
    if clock.paused_until is not None and (due is None or clock.paused_until > due):
        return clock.paused_until
    return due
