"""The poll as the judge of webhooks: which changes they brought, and which only a poll found.

A change is judged a while after it landed, so that an event that was on its way has come. Events that came and aren't
applied yet put it off further: nobody knows yet of which record they speak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

from integrations_pipeline.spec.limits import INBOX_DAYS
from integrations_pipeline.store.holder import Holder

# Up to when the changes of a stream can be judged: those that landed before, with all events that came soon after them.
BOUNDS = """
SELECT CASE WHEN s.judged_to IS NOT NULL THEN greatest(s.judged_to, now() - %(kept)s) END, now(),
    least(now(), (SELECT min(i.received_at) FROM integrations.inbox i
                  WHERE i.connection = %(connection)s AND i.status IN ('received', 'leased'))) - %(grace)s
FROM integrations.stream_state s
WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.parent_key = ''
"""

# Changes of raw records by who landed them: an event, or a poll; and for a poll's the event that told the same. It came
# since the poll before, and was not done before this one: an earlier state is no news of a later one. A record that
# differs but has the version it had is no change that a source tells of; nor is one that differs in what stands around
# it in the list.
JUDGE = """
WITH change AS (
    SELECT d.external_id, d.at, l.mode IN ('events', 'immediately') AS brought,
        (SELECT max(p.started_at) FROM integrations.run_log p
         WHERE p.connection = l.connection AND p.stream = l.stream AND p.mode IN ('incremental', 'full')
           AND p.status = 'succeeded' AND p.started_at < l.started_at) AS since
    FROM integrations.decision d
    JOIN integrations.run_log l ON l.run_id = d.run_id AND l.connection = d.connection AND l.stream = d.stream
    WHERE d.at > %(begin)s AND d.at <= %(end)s AND d.connection = %(connection)s AND d.stream = %(stream)s
      AND d.stage = 'raw' AND d.decision = ANY (%(decisions)s) AND d.external_id IS NOT NULL
      AND l.mode IN ('incremental', 'full', 'events', 'immediately')
      AND (l.mode IN ('events', 'immediately') OR d.decision <> 'updated'
           OR (d.detail - %(around)s::text[] <> '{}' AND (NOT %(versioned)s
               OR d.detail #> %(before)s::text[] IS DISTINCT FROM d.detail #> %(after)s::text[])))
), judged AS (
    SELECT c.brought, e.order_value, e.received_at
    FROM change c LEFT JOIN LATERAL (
        SELECT i.order_value, i.received_at FROM integrations.inbox i
        WHERE i.connection = %(connection)s AND i.stream = %(stream)s AND i.external_id = c.external_id
          AND CASE WHEN c.brought THEN i.finished_at = c.at
                   ELSE i.received_at >= coalesce(c.since, %(begin)s)
                    AND (NOT %(versioned)s OR i.finished_at >= c.at OR i.outcome IN ('quarantined', 'skipped')) END
        ORDER BY i.received_at LIMIT 1) e ON true
)
SELECT count(*) FILTER (WHERE brought OR received_at IS NOT NULL), count(*) FILTER (WHERE NOT brought
    AND received_at IS NULL), coalesce((array_agg(order_value ORDER BY received_at DESC)
    FILTER (WHERE order_value IS NOT NULL))[1:%(sample)s], '{}'), coalesce((array_agg(received_at
    ORDER BY received_at DESC) FILTER (WHERE order_value IS NOT NULL))[1:%(sample)s], '{}')
FROM judged
"""

# What the polls of the last day found out, by stream.
LOSSES = """
SELECT connection, stream, sum(webhooks_told)::bigint AS told, sum(webhooks_missed)::bigint AS missed,
    (array_agg(webhooks_delay_seconds ORDER BY started_at DESC)
        FILTER (WHERE webhooks_delay_seconds IS NOT NULL))[1] AS delay_seconds
FROM integrations.run_log
WHERE connection = ANY (%s) AND started_at > now() - interval '1 day' AND webhooks_told IS NOT NULL
GROUP BY connection, stream
"""

SAMPLE = 1_000
"""Of the events, the latest: their delay is measured."""


@dataclass(frozen=True)
class Judged:
    """What a poll found of the webhooks: changes they ``told`` of and ``missed``; None where it judged nothing.

    ``judged_to`` is where the next poll goes on; None for a stream that isn't judged.
    """

    judged_to: datetime | None = None
    told: int | None = None
    missed: int | None = None
    delay_seconds: float | None = None


@dataclass(frozen=True)
class Told:
    """What events would tell of a stream: which ``decisions``; by which path a record's own ``version`` is known, if it
    has one; and which fields stand ``around`` it in the list."""

    decisions: Sequence[str]
    version: Sequence[str] = ()
    around: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """Counted changes, and when some of the events came, with their own place in the source's order. ``begin`` is None
    for the first time; nothing was judged where ``judged_to`` is not past it."""

    begin: datetime | None
    judged_to: datetime
    told: int = 0
    missed: int = 0
    orders: Sequence[str] = ()
    received: Sequence[datetime] = ()


@dataclass(frozen=True)
class Loss:
    """A stream's webhooks in the last day, as its polls found. ``delay_seconds`` is the last one that was measured."""

    connection: str
    stream: str
    told: int
    missed: int
    delay_seconds: float | None

    @property
    def percent(self) -> float:
        """Of all changes, those that only a poll brought."""
        return 100 * self.missed / max(self.told + self.missed, 1)


def judge(held: Holder, told: Told, grace: timedelta, *, anew: bool = False) -> Found:
    """Counts the changes since the last judgement that landed ``grace`` ago or earlier. Only reads. ``anew``: nothing
    that landed until now is judged. Raises DestinationError."""
    where = {"connection": held.connection, "stream": held.stream}
    with held.reading() as session:
        row = session.execute(BOUNDS, {**where, "grace": grace, "kept": timedelta(days=INBOX_DAYS)}).fetchone()
        assert row is not None  # the lease made it
        begin, now, end = row
        if anew or begin is None:
            return Found(None, now)
        if end <= begin:
            return Found(begin, begin)
        paths = {"before": at(told.version, "0"), "after": at(told.version, "1"), "versioned": bool(told.version)}
        values = {**where, **paths, "begin": begin, "end": end, "sample": SAMPLE}
        values |= {"decisions": list(told.decisions), "around": list(told.around)}
        counted = session.execute(JUDGE, values).fetchone()
        assert counted is not None
    return Found(begin, end, *counted)


def at(path: Sequence[str], side: str) -> list[str]:
    """Where a decision's detail, which has [from, to] for each key of the record, holds one side of a path."""
    return [*path[:1], side, *path[1:]]


def losses(session: psycopg.Connection[Any], connections: Sequence[str]) -> dict[tuple[str, str], Loss]:
    """By connection and stream, where polls of the last day judged. Raises DestinationError."""
    found = session.cursor(row_factory=class_row(Loss)).execute(LOSSES, (list(connections),)).fetchall()
    return {(one.connection, one.stream): one for one in found}
