"""Alerts and who was told. Their states are beside the tables, in migrations/0023_alert.sql."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from integrations_pipeline.spec.limits import ALERT_DAYS, ALERT_LONGEST_RETRY_SECONDS, ALERT_RETRY_SECONDS

Step = Literal["broken", "reminder", "healed"]

HOME = ""
"""The connection of what belongs to none: the whole home's. Its ``stream`` names the file, where it is about one."""

# One process at a time compares what is so with what is open: else who looked earlier would open again what healed.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('integrations alerts', 0))"

# Opens what is new, unless it only follows from something else, and keeps the text of what is open up to date.
OPEN = """
INSERT INTO integrations.alert AS a (connection, stream, condition, severity, what, who, next, since, run_id, held)
SELECT c.connection, c.stream, c.condition, c.severity, c.what, c.who, c.next, c.since, c.run_id, c.held
FROM jsonb_to_recordset(%(found)s) AS c (connection text, stream text, condition text, severity text, what text,
    who text, next text, since timestamptz, run_id uuid, held boolean)
WHERE NOT c.held OR EXISTS (SELECT FROM integrations.alert o WHERE o.healed_at IS NULL
    AND (o.connection, o.stream, o.condition) = (c.connection, c.stream, c.condition))
ON CONFLICT (connection, stream, condition) WHERE healed_at IS NULL DO UPDATE SET severity = excluded.severity,
    what = excluded.what, who = excluded.who, next = excluded.next, run_id = excluded.run_id, held = excluded.held,
    seen_at = now()
"""

# Of the connections that were looked at: what isn't so any more. Of Dagster's runs only Dagster's sensor knows.
HEAL = r"""
UPDATE integrations.alert a SET healed_at = now(), held = false
WHERE a.healed_at IS NULL AND a.connection = ANY (%(connections)s)
  AND (%(runs_known)s OR a.condition NOT LIKE 'run\_failure\_%%') AND NOT EXISTS (
    SELECT FROM jsonb_to_recordset(%(found)s) AS c (connection text, stream text, condition text)
    WHERE (c.connection, c.stream, c.condition) = (a.connection, a.stream, a.condition))
"""

RECENT = """
SELECT DISTINCT connection FROM integrations.alert
WHERE condition = %s AND coalesce(healed_at > now() - make_interval(mins => %s), true)
"""

# What a destination is to be told now, claimed for a moment. A claim that was overtaken between look and write is none.
CLAIM = """
WITH due AS (
    SELECT a.id, coalesce(n.version, 0) AS version, CASE
        WHEN a.healed_at IS NOT NULL THEN CASE WHEN n.told = 'broken' THEN 'healed' END
        WHEN a.held THEN NULL
        WHEN n.told IS NULL THEN CASE WHEN a.severity = 'error' OR d.warnings THEN 'broken' END
        WHEN n.told_at + make_interval(secs => d.remind) <= now() THEN 'reminder' END AS step
    FROM unnest(%(connections)s::text[], %(warnings)s::bool[], %(reminds)s::float8[])
        AS d (connection, warnings, remind)
    JOIN integrations.alert a ON a.connection = d.connection
    LEFT JOIN integrations.alert_notice n ON n.alert_id = a.id AND n.destination = %(destination)s
    WHERE coalesce(n.told, '') <> 'healed' AND coalesce(n.claimed_until <= now(), true)
      AND coalesce(n.next_try_at <= now(), true)),
claimed AS (
    INSERT INTO integrations.alert_notice AS n (alert_id, destination, claim, claimed_until)
    SELECT id, %(destination)s, %(claim)s, now() + interval '2 minutes' FROM due WHERE step IS NOT NULL ORDER BY id
    ON CONFLICT (alert_id, destination) DO UPDATE SET claim = excluded.claim, claimed_until = excluded.claimed_until,
        version = n.version + 1
    WHERE n.version = (SELECT version FROM due WHERE due.id = n.alert_id)
    RETURNING alert_id)
SELECT a.id, a.connection, a.stream, a.condition, a.severity, a.what, a.who, a.next, a.since, a.run_id, a.opened_at,
    a.healed_at, due.step
FROM claimed JOIN due ON due.id = claimed.alert_id JOIN integrations.alert a ON a.id = claimed.alert_id
ORDER BY a.connection, a.severity, a.id
"""

# A claim that is about to be used lasts anew; one that another process has taken over meanwhile is lost.
RENEW = """
UPDATE integrations.alert_notice SET claimed_until = now() + interval '2 minutes'
WHERE alert_id = ANY (%(ids)s) AND destination = %(destination)s AND claim = %(claim)s
RETURNING alert_id
"""
RELEASE = """
UPDATE integrations.alert_notice SET claimed_until = NULL
WHERE alert_id = ANY (%(ids)s) AND destination = %(destination)s AND claim = %(claim)s
"""

TOLD = """
UPDATE integrations.alert_notice n SET told = CASE t.step WHEN 'healed' THEN 'healed' ELSE 'broken' END,
    told_at = now(), claimed_until = NULL, tries = 0, next_try_at = NULL, reason = NULL
FROM unnest(%(ids)s::bigint[], %(steps)s::text[]) AS t (id, step)
WHERE n.alert_id = t.id AND n.destination = %(destination)s AND n.claim = %(claim)s
"""

NOT_TOLD = """
UPDATE integrations.alert_notice SET tries = tries + 1, reason = %(reason)s, claimed_until = NULL,
    next_try_at = now() + make_interval(secs => least(%(wait)s * 2.0 ^ least(tries, 20), %(longest)s))
WHERE alert_id = ANY (%(ids)s) AND destination = %(destination)s AND claim = %(claim)s
"""

# An open alert that nobody sees any more belongs to a connection whose file is gone.
PRUNE = """
DELETE FROM integrations.alert WHERE coalesce(healed_at, seen_at) < now() - make_interval(days => %s)
"""

LIST = """
SELECT id, connection, stream, condition, severity, what, who, next, since, run_id, opened_at, healed_at,
    'broken' AS step
FROM integrations.alert WHERE healed_at IS NULL AND NOT held AND connection = ANY (%s)
ORDER BY connection, severity, id
"""

OPEN_CONDITIONS = """
SELECT connection, stream, condition, severity, what, who, next, since, run_id, held FROM integrations.alert
WHERE healed_at IS NULL AND connection = ANY (%s) AND starts_with(condition, %s)
"""

UNDELIVERED = """
SELECT n.destination, count(*) AS messages, min(n.reason) AS reason, max(n.tries) AS tries,
    min(n.next_try_at) AS next_try
FROM integrations.alert_notice n JOIN integrations.alert a ON a.id = n.alert_id
WHERE n.tries > 0 AND n.destination = ANY (%s)
    AND CASE WHEN a.healed_at IS NULL THEN NOT a.held ELSE n.told = 'broken' END
GROUP BY n.destination ORDER BY n.destination
"""


@dataclass(frozen=True)
class Condition:
    """Something that is wrong. ``stream`` is empty where it is the whole connection, ``connection`` where it is the
    whole home; ``held``: another one tells it."""

    connection: str
    stream: str
    condition: str
    severity: Literal["warning", "error"]
    what: str
    who: str
    next: str
    since: datetime
    run_id: UUID | None = None
    held: bool = False


@dataclass(frozen=True)
class Alert:
    """An alert, and what is to be told of it: that it broke, still is so, or healed."""

    id: int
    connection: str
    stream: str
    condition: str
    severity: Literal["warning", "error"]
    what: str
    who: str
    next: str
    since: datetime
    run_id: UUID | None
    opened_at: datetime
    healed_at: datetime | None
    step: Step

    @property
    def where(self) -> str:
        """Its connection and stream, its file, or the whole home."""
        return "/".join(filter(None, (self.connection, self.stream))) or "the whole home"


@dataclass(frozen=True)
class Listener:
    """A connection whose alerts a destination hears now: with or without warnings, again after ``remind`` seconds."""

    connection: str
    warnings: bool
    remind: float


@dataclass(frozen=True)
class Undelivered:
    """A destination that didn't take what it was to be told."""

    destination: str
    messages: int
    reason: str | None
    tries: int
    next_try: datetime | None


def recent(session: psycopg.Connection[Any], condition: str, minutes: int) -> set[str]:
    """The connections where an alert of it was open so lately."""
    return {name for (name,) in session.execute(RECENT, (condition, minutes))}


def reconcile(
    session: psycopg.Connection[Any], connections: Sequence[str], found: Iterable[Condition], *, runs_known: bool
) -> None:
    """Opens and heals alerts of the connections, inside the caller's transaction, which must hold ``LOCK``.
    ``runs_known``: whether ``found`` has what only Dagster knows, else that is left as it is."""
    rows = [{**asdict(one), "since": one.since.isoformat(), "run_id": str(one.run_id) if one.run_id else None}
            for one in found]  # fmt: skip
    values = {"found": Jsonb(rows), "connections": list(connections), "runs_known": runs_known}
    session.execute(OPEN, values)
    session.execute(HEAL, values)
    session.execute(PRUNE, [ALERT_DAYS])


def open_alerts(session: psycopg.Connection[Any], connections: Sequence[str]) -> list[Alert]:
    """What is wrong with the connections, less what only follows from something else; errors first."""
    return session.cursor(row_factory=class_row(Alert)).execute(LIST, [list(connections)]).fetchall()


def open_conditions(session: psycopg.Connection[Any], connections: Sequence[str], beginning: str) -> list[Condition]:
    """The open alerts whose condition begins so, as they were found last."""
    cursor = session.cursor(row_factory=class_row(Condition))
    return cursor.execute(OPEN_CONDITIONS, [list(connections), beginning]).fetchall()


def undelivered(session: psycopg.Connection[Any], destinations: Iterable[str]) -> list[Undelivered]:
    """Those of the destinations that didn't take what is still to be told."""
    return session.cursor(row_factory=class_row(Undelivered)).execute(UNDELIVERED, [list(destinations)]).fetchall()


class Claimed:
    """What one destination is to be told now, claimed by this process. Each is settled by ``told``, ``not_told`` or
    ``release``."""

    def __init__(self, session: psycopg.Connection[Any], destination: str, listeners: Sequence[Listener]):
        self._session = session
        self._claim = {"destination": destination, "claim": uuid4()}
        values = {
            **self._claim,
            "connections": [one.connection for one in listeners],
            "warnings": [one.warnings for one in listeners],
            "reminds": [one.remind for one in listeners],
        }
        self.alerts = session.cursor(row_factory=class_row(Alert)).execute(CLAIM, values).fetchall()

    def renew(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Those that are still this process's to tell: for two minutes from now."""
        values = {**self._claim, "ids": [one.id for one in alerts]}
        ours = {alert_id for (alert_id,) in self._session.execute(RENEW, values)}
        return [one for one in alerts if one.id in ours]

    def release(self, alerts: Sequence[Alert]) -> None:
        """They are due for whoever looks next."""
        self._session.execute(RELEASE, {**self._claim, "ids": [one.id for one in alerts]})

    def told(self, alerts: Sequence[Alert]) -> None:
        steps = [one.step for one in alerts]
        self._session.execute(TOLD, {**self._claim, "ids": [one.id for one in alerts], "steps": steps})

    def not_told(self, alerts: Sequence[Alert], reason: str) -> None:
        """They are tried again after a while that doubles."""
        waits = {"wait": ALERT_RETRY_SECONDS, "longest": ALERT_LONGEST_RETRY_SECONDS}
        ids = [one.id for one in alerts]
        self._session.execute(NOT_TOLD, {**self._claim, **waits, "ids": ids, "reason": reason})
