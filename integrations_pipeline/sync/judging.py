"""What a poll finds out about the webhooks of its stream: how many changes they missed, and how late they are."""

from __future__ import annotations

from datetime import datetime, timedelta
from statistics import median

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.limits import WEBHOOK_GRACE_SECONDS
from integrations_pipeline.store.judging import Found, Judged, Told, judge
from integrations_pipeline.store.lease import Lease
from integrations_pipeline.sync.fence import as_time


def told_of(connection: Connection, name: str) -> Told | None:
    """What events would tell of a stream; None where they name none of its records, so that nothing can be judged."""
    rules = [rule for rule in (connection.webhook.events.values() if connection.webhook else ()) if rule.stream == name]
    if not rules or any(rule.sync for rule in rules):
        return None
    stream = connection.streams[name]
    version = stream.version or (stream.cursor.field if stream.cursor else None)
    changed = ["created", "updated"] if any(rule.upsert or rule.fetch for rule in rules) else []
    deleted = ["deleted"] if any(rule.delete or rule.fetch for rule in rules) else []
    around = stream.rows.include if stream.parent is None else {}
    return Told([*changed, *deleted], version.parts if version else (), list(around))


def judged(connection: Connection, lease: Lease, *, edited: bool) -> Judged:
    """Of a poll that has succeeded. What it read anew because the file was ``edited`` isn't judged. Raises
    DestinationError."""
    told = told_of(connection, lease.stream)
    if told is None:
        return Judged()
    found = judge(lease, told, timedelta(seconds=WEBHOOK_GRACE_SECONDS), anew=edited)
    if found.begin is None or found.judged_to <= found.begin:
        return Judged(found.judged_to)
    return Judged(found.judged_to, found.told, found.missed, delay_seconds(found))


def delay_seconds(found: Found) -> float | None:
    """The median from the time that an event names in its `order_by` to its arrival; None where it names no time."""
    seconds = []
    for order, received in zip(found.orders, found.received, strict=True):
        named = as_time(order, received)
        if named is not None:
            seconds.append(max((received - datetime.fromisoformat(named)).total_seconds(), 0.0))
    return median(seconds) if seconds else None
