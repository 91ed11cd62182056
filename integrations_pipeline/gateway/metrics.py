"""``GET /metrics``: how every connection and stream stands, for Prometheus. The numbers are those of `status`.

Sums are those of the last 24 hours, as gauges: our log of runs is pruned, and a counter must never fall.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.asked import Told, told
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.store.alerts import open_alerts, undelivered
from integrations_pipeline.store.health import (
    ConnectionHealth,
    DaySums,
    Histories,
    StreamHealth,
    connections_health,
    day_sums,
    streams_health,
)
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.alerting import destinations, scopes
from integrations_pipeline.sync.expecting import judged

STREAM, CONNECTION = ("connection", "stream"), ("connection",)
RESULTS = (
    "fetched", "created", "updated", "unchanged", "deleted", "skipped", "quarantined", "superseded", "tombstoned",
)  # fmt: skip


class Metrics:
    """The door of a home's metrics."""

    def __init__(self, doors: Doors, store: Store, access: Access | None = None):
        self.doors, self.store = doors, store
        self.access = access or Access(doors.public_url)
        self._histories = Histories()

    def route(self) -> Route:
        return Route("/metrics", self.serve, methods=["GET"])

    async def serve(self, http: Request) -> Response:
        """503 while the database is away: then nothing is known, and Prometheus says that it is so."""
        if refusal := self.access.refusal(http):
            return told(refusal)
        try:
            text = await asyncio.to_thread(self.text)
        except DestinationError as error:
            return told(Told(503, error.error_class, error.what, next="try again later"))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    def text(self) -> bytes:
        """All of them, as they are now. Raises DestinationError."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collected(list(self.families())))
        return generate_latest(registry)

    def families(self) -> Iterator[GaugeMetricFamily]:
        connections = dict(self.doors.connections)
        with self.store.borrow() as session:
            wanted = [(c.name, s) for c in connections.values() for s in c.selected]
            streams = streams_health(session, wanted, self._histories)
            *healths, of_home = connections_health(session, scopes(connections))
            sums = day_sums(session, list(connections))
            alerts = open_alerts(session, scopes(connections))
            missed = undelivered(session, destinations(connections.values()))
        active = [one for one in streams if one.active]
        yield from of_streams(active)
        yield from of_days(sums)
        yield from of_expectations(connections, active)
        yield from of_connections(healths)
        letters = [((one.connection,), one.dead_letters) for one in (*healths, of_home)]
        yield family("dead_letters_open", "events or changes given up", CONNECTION, letters)
        open_ones = ((one.connection, one.stream, one.condition, one.severity) for one in alerts)
        labels = (*STREAM, "condition", "severity")
        yield family("alert_open", "1 for each alert that is open", labels, (((*one,), 1) for one in open_ones))
        gone = (((one.destination,), one.messages) for one in missed)
        yield family("alert_messages_undelivered", "messages a destination didn't take yet", ("destination",), gone)


class Collected:
    """What Prometheus' client asks for families."""

    def __init__(self, families: list[GaugeMetricFamily]):
        self.families = families

    def collect(self) -> list[GaugeMetricFamily]:
        return self.families


Samples = Iterable[tuple[tuple[str, ...], float | None]]


def family(name: str, help: str, labels: tuple[str, ...], samples: Samples) -> GaugeMetricFamily:
    """What isn't known has no sample."""
    made = GaugeMetricFamily(f"integrations_{name}", help, labels=labels)
    for values, number in samples:
        if number is not None:
            made.add_metric(values, number)
    return made


def of_streams(streams: list[StreamHealth]) -> Iterator[GaugeMetricFamily]:
    def each(number: Any) -> Samples:
        return [((one.connection, one.stream), number(one)) for one in streams]

    lag = each(lambda one: seconds_since(one.last_success, one))
    yield family("stream_lag_seconds", "since the stream was last read to its end", STREAM, lag)
    failing = each(lambda one: int(one.error is not None))
    yield family("stream_failing", "1 while its last run failed and somebody must act", STREAM, failing)
    deferred = each(lambda one: int(one.resume_at is not None))
    yield family("stream_deferred", "1 while it waits for a time to go on", STREAM, deferred)
    yield family("quarantine_open", "rows that are set aside", STREAM, each(lambda one: one.quarantine_open))
    yield family("drift_open", "findings of drift that are open", STREAM, each(lambda one: len(one.findings)))
    yield family("last_run_seconds", "that the last good run took", STREAM, each(lambda one: one.last_seconds))
    loss = each(lambda one: one.loss.percent if one.loss else None)
    yield family("webhook_loss_percent", "of a day's changes that only a poll brought", STREAM, loss)


def of_days(sums: list[DaySums]) -> Iterator[GaugeMetricFamily]:
    records = [((one.connection, one.stream, name), getattr(one, name)) for one in sums for name in RESULTS]
    yield family("records_last_day", "rows of 24 hours, by what became of them", (*STREAM, "result"), records)
    for name, help in (
        ("requests", "requests of 24 hours"),
        ("waited_seconds", "waited for rate limits and retries in 24 hours"),
    ):
        samples = [((one.connection, one.stream), getattr(one, name)) for one in sums]
        yield family(f"{name}_last_day", help, STREAM, samples)
    runs = [
        ((one.connection, one.stream, status), getattr(one, status))
        for one in sums
        for status in ("succeeded", "deferred", "failed")
    ]
    yield family("runs_last_day", "runs of 24 hours, by how they ended", (*STREAM, "status"), runs)


def of_expectations(connections: dict[str, Connection], streams: list[StreamHealth]) -> Iterator[GaugeMetricFamily]:
    verdicts = [(one, verdict) for one in streams for verdict in judged(connections[one.connection], one)]
    met = [((one.connection, one.stream, verdict.name), int(verdict.passed)) for one, verdict in verdicts]
    yield family("expectation_met", "1 while it is met", (*STREAM, "expectation"), met)
    numbers = [
        ((one.connection, one.stream, verdict.name, name), number)
        for one, verdict in verdicts
        for name, number in verdict.numbers.items()
    ]
    labels = (*STREAM, "expectation", "number")
    yield family("expectation_number", "what an expectation is judged by", labels, numbers)


def of_connections(connections: list[ConnectionHealth]) -> Iterator[GaugeMetricFamily]:
    def each(number: Any) -> Samples:
        return [((one.connection,), number(one)) for one in connections]

    opened = each(lambda one: int(one.down_since is not None))
    yield family("breaker_open", "1 while calls to the source are paused", CONNECTION, opened)
    down = each(lambda one: seconds_since(one.down_since, one) or 0)
    yield family("downtime_seconds", "since calls are paused", CONNECTION, down)
    for queue in ("inbox", "outbox"):
        waiting = each(lambda one, queue=queue: getattr(one, queue))
        yield family(f"{queue}_waiting", f"that wait in the {queue}", CONNECTION, waiting)
        oldest = each(lambda one, queue=queue: seconds_since(getattr(one, f"{queue}_oldest"), one) or 0)
        yield family(f"{queue}_oldest_seconds", "that the oldest of them waits", CONNECTION, oldest)
    yield family("parked_changes", "that only a person can settle", CONNECTION, each(lambda one: one.parked))
    yield family("conflicts_open", "that a person is to decide", CONNECTION, each(lambda one: one.conflicts))


def seconds_since(moment: Any, one: StreamHealth | ConnectionHealth) -> float | None:
    return None if moment is None else (one.asked_at - moment).total_seconds()
