"""How each connection stands: the facts that `integrations status` has, and one verdict of them in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.freshness import whys
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.alerts import Alert, open_alerts
from integrations_pipeline.store.breaker import BreakerState, read_breakers
from integrations_pipeline.store.freshness import Fed, read_freshness
from integrations_pipeline.store.health import ConnectionHealth, connections_health, streams_health
from integrations_pipeline.store.reports import records_per_hour, stream_clocks
from integrations_pipeline.store.status import StreamStatus, read_status
from integrations_pipeline.sync.alerting import scopes
from integrations_pipeline.sync.due import due_at, every_of
from integrations_pipeline.sync.expecting import Verdict, judged

HOURS = 24


@dataclass(frozen=True)
class StreamFacts:
    """``stale``: why what it brought may be out of date; ``missed``: expectations that don't hold; ``due``: the next
    poll; ``cron``: when it is polled, where that is by the clock."""

    status: StreamStatus
    fed: Fed
    stale: list[str]
    missed: list[Verdict]
    due: datetime | None
    cron: str | None


@dataclass(frozen=True)
class ConnectionFacts:
    """A connection, its streams, and what waits or went wrong. ``hours``: records in each of the last 24 hours, the
    oldest first."""

    name: str
    health: ConnectionHealth
    breaker: BreakerState
    hours: list[int]
    streams: list[StreamFacts] = field(default_factory=list)

    @property
    def quarantine(self) -> int:
        return sum(one.status.quarantine_open for one in self.streams)

    @property
    def due(self) -> datetime | None:
        """The next poll of any of its streams."""
        return min((one.due for one in self.streams if one.due is not None), default=None)

    def verdict(self) -> tuple[str, str]:
        """Its tone and its health in words, by what is gravest."""
        states = {one.status.state for one in self.streams}
        active = [one for one in self.streams if one.status.active]
        if not active:
            return "idle", "disconnected"
        if self.breaker.state != "closed":
            return "bad", "source down"
        if "failed" in states:
            return "bad", "failing"
        if states <= {"never synced", "disconnected"}:
            return "idle", "not read yet"
        if any(one.stale for one in active):
            return "warn", "out of date"
        decide = self.health.dead_letters + self.health.conflicts + self.health.parked + self.quarantine
        if decide or any(one.missed for one in active):
            return "warn", "needs attention"
        return "good", "healthy"


@dataclass(frozen=True)
class Facts:
    """Of all connections that have a file that is right; ``broken``: the other files, and why."""

    asked_at: datetime
    connections: list[ConnectionFacts]
    alerts: list[Alert]
    broken: Mapping[str, str]


def read_facts(session: Any, doors: Doors) -> Facts:
    """By a handful of statements, however many connections there are."""
    found = dict(sorted(doors.connections.items()))
    wanted = [(name, stream) for name, one in found.items() for stream in one.selected]
    breakers = read_breakers(session, found)
    hours = records_per_hour(session, wanted, HOURS)
    facts = {
        one.connection: ConnectionFacts(one.connection, one, breakers[one.connection], hours[one.connection])
        for one in connections_health(session, list(found))
        if one.connection in hours
    }
    now = session.execute("SELECT now()").fetchone()[0]
    for name, stream in streams(session, found, wanted, breakers, now):
        facts[name].streams.append(stream)
    return Facts(now, list(facts.values()), open_alerts(session, scopes(found)), doors.broken)


def streams(
    session: Any,
    connections: Mapping[str, Connection],
    wanted: Sequence[tuple[str, str]],
    breakers: Mapping[str, BreakerState],
    now: datetime,
) -> Iterator[tuple[str, StreamFacts]]:
    clocks = {(one.connection, one.stream): one for one in stream_clocks(session, wanted)}
    rows = read_status(session, list(wanted), count_rows=False)
    sources = zip(rows, read_freshness(session, wanted), streams_health(session, wanted), strict=True)
    for status, fed, health in sources:
        connection = connections[status.connection]
        stale = [why for why, _ in whys(fed, connection, breakers[status.connection])] if fed.active else []
        missed = [one for one in judged(connection, health) if not one.passed] if health.active else []
        clock, every = clocks[status.connection, status.stream], every_of(connection, status.stream)
        cron = f"{every.cron} {every.zone}" if every.cron else None
        yield status.connection, StreamFacts(status, fed, stale, missed, due_at(connection, clock, now), cron)
