"""What an answer says of its age: as of when, whether it may be out of date and why, and when the source is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from integrations_pipeline.spec.clock import in_words
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.store.breaker import BreakerState
from integrations_pipeline.store.freshness import Fed


def freshness(
    fed: Sequence[Fed], connections: Mapping[str, Connection], breakers: Mapping[str, BreakerState]
) -> dict[str, Any]:
    """Of the streams that feed what is answered. ``as_of`` is the earliest time at which one of them was read well; of
    no stream at all it is now, since then ours is all there is."""
    living = [one for one in fed if one.active]
    stale = [found for one in living for found in whys(one, connections[one.connection], breakers[one.connection])]
    read = [one.last_success for one in living if one.last_success is not None]
    never = len(living) > len(read)
    as_of = None if never else min(read, default=datetime.now(UTC))
    reason, next_try = stale[0] if stale else (None, None)
    status = "unavailable" if living and not read else "stale" if stale else "fresh"
    return {"status": status, "as_of": as_of, "stale": bool(stale), "reason": reason, "next_try": next_try}


def unavailable(reason: str) -> dict[str, Any]:
    """Where nothing can be read at all."""
    return {"status": "unavailable", "as_of": None, "stale": True, "reason": reason, "next_try": None}


def whys(one: Fed, connection: Connection, breaker: BreakerState) -> Iterator[tuple[str, datetime | None]]:
    """Why what the stream brought may be out of date, the gravest first, and when the source is asked again."""
    where, next_try = f"{one.connection}/{one.stream}", breaker.next_try or one.resume_at
    within = connection.expect.fresh_within
    if breaker.state != "closed":
        yield f"{where}: the source is down: {breaker.reason}", next_try
    if one.error is not None:
        yield f"{where}: {one.error}", next_try
    if one.last_success is None:
        yield f"{where}: never read to its end yet", next_try
    elif within is not None and one.asked_at - one.last_success > within:
        yield (
            f"{where}: last read {in_words(one.asked_at - one.last_success)} ago, {in_words(within)} was promised",
            next_try,
        )
