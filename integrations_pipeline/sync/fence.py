"""The version fence: what an event may still say of a record, given what is stored and which events were applied.

Three clocks are compared, each only with its like: the events' own order (`order_by`), the records' own versions, and
the time at which a state was true: of a poll when it was read, of an event its order where that is a time, else when it
arrived. Whole seconds count, since many sources name no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from integrations_pipeline.spec.values import version_text
from integrations_pipeline.store.fencing import Known
from integrations_pipeline.store.inbox import Leased

ISO = re.compile(r"\d{4}-\d\d-\d\d")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NUMBER = re.compile(r"\d{20}(\.\d+)?")
UNITS = (1, 1_000, 1_000_000)
"""Seconds, milliseconds and microseconds since 1970: which, the size of the number tells."""
EARLIEST, DAY = 1_000_000_000, timedelta(days=1)
"""2001: a smaller number of seconds is a counter."""
SECOND = 19
"""Characters of an ISO time down to its seconds."""


def is_time(version: str | None) -> bool:
    return version is not None and ISO.match(version) is not None


def time_of(event: Leased) -> str:
    """When what the event tells was true, as a version: its order where that is a time, else when it arrived."""
    return as_time(event.order_value, event.received_at) or version_text(event.received_at)


def as_time(order: str | None, arrived: datetime) -> str | None:
    """An order that is a time, also as a number of seconds, milli- or microseconds; None where it is none, or of the
    future: a counter may look like one."""
    if order is None:
        return None
    if not NUMBER.fullmatch(order):
        return order if MOMENT.fullmatch(order) else None
    for unit in UNITS:
        seconds = float(order) / unit
        if EARLIEST <= seconds <= (arrived + DAY).timestamp():
            return version_text(datetime.fromtimestamp(seconds, UTC))
    return None


@dataclass(frozen=True, slots=True)
class State:
    """What an event says: at which version of the record's own (None where it has none), and of which time."""

    version: str | None
    order: str | None
    time: str


def may_say(told: State, known: Known) -> bool:
    """Whether it may be compared by version at all; False where something newer is known already."""
    if told.order is not None and known.order is not None and told.order < known.order:
        return False
    if known.version is None:
        return True
    if known.deleted_at is not None:
        return brings_back(told, known)
    if told.version is None:
        return not is_time(known.version) or told.time[:SECOND] >= known.version[:SECOND]
    if told.version == known.version and known.fetched_at is not None:
        return told.time[:SECOND] >= version_text(known.fetched_at)[:SECOND]
    return True


def brings_back(told: State, known: Known) -> bool:
    """A late event doesn't bring a deleted record back; what can't be proven newer than the deletion is late."""
    if told.order is not None and known.order is not None:
        return told.order > known.order
    proof = told.version or (told.time if told.order is not None else None)
    deleted = version_text(known.deleted_at) if known.deleted_at else ""
    floor = max(deleted, known.version or "") if is_time(known.version) else deleted
    return is_time(proof) and str(proof) > floor


def may_delete(told: State, known: Known, *, ordered: bool) -> bool:
    """Whether a deletion is newer than all that is known; records with versions of their own are compared later."""
    if told.order is not None and known.order is not None and told.order < known.order:
        return False
    if ordered or not is_time(known.version):
        return True
    return told.time[:SECOND] >= str(known.version)[:SECOND]


def version_to_land(told: State, known: Known) -> str:
    """Its own, else its time; within a second the later word counts."""
    if told.version is not None:
        return told.version
    return max(told.time, known.version) if is_time(known.version) and known.version else told.time
