"""Retention: what is over and old is taken away, in bounded batches. Nothing that is open ever is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg

from integrations_pipeline.spec.errors import DestinationError
from integrations_pipeline.spec.limits import (
    ALERT_DAYS,
    CLOSED_DAYS,
    DECISION_DAYS,
    DELIVERY_DAYS,
    EDIT_DAYS,
    HTTP_LOG_DAYS,
    INBOX_DAYS,
    OUTBOX_DAYS,
    PRUNE_BATCHES,
    PRUNE_ROWS,
    RUN_DAYS,
)
from integrations_pipeline.store.failures import destination_errors, one_line


class Rule(NamedTuple):
    """Rows of a table that may go once they are so many days old: ``over`` says which, and how old, by ``%(age)s``."""

    table: str
    days: int
    over: str


# A deletion that a feed told is known by its decision, so that the same entry isn't applied again. A row that a person
# discarded from quarantine isn't asked about again. The latest run of each mode says when a stream was read last. Keys
# of a full refresh go when it is no longer under way, which is when no state names it and nothing runs.
RULES = (
    Rule("http_log", HTTP_LOG_DAYS, "at < %(age)s"),
    Rule("decision", DECISION_DAYS, """
        at < %(age)s AND NOT (stage = 'raw' AND decision = 'deleted' AND detail IS NOT NULL AND detail ? 'deleted')"""),
    Rule("run_log", RUN_DAYS, """
        status <> 'running' AND started_at < %(age)s AND EXISTS (
            SELECT FROM integrations.run_log later
            WHERE later.connection = t.connection AND later.stream = t.stream AND later.mode = t.mode
              AND later.started_at > t.started_at)"""),
    Rule("inbox", INBOX_DAYS, "status IN ('done', 'discarded') AND finished_at < %(age)s"),
    Rule("outbox", OUTBOX_DAYS, "status IN ('done', 'discarded') AND finished_at < %(age)s"),
    Rule("delivery", DELIVERY_DAYS, "status = 'delivered' AND finished_at < %(age)s"),
    Rule("edit", EDIT_DAYS, "edited_at < %(age)s"),
    Rule("alert", ALERT_DAYS, "healed_at < %(age)s"),
    Rule("quarantine", CLOSED_DAYS, "status = 'healed' AND closed_at < %(age)s"),
    Rule("dead_letter", CLOSED_DAYS, "status IN ('replayed', 'discarded') AND closed_at < %(age)s"),
    Rule("conflict", CLOSED_DAYS, "status IN ('resolved', 'settled') AND closed_at < %(age)s"),
    Rule("drift", CLOSED_DAYS, "status IN ('ended', 'accepted') AND closed_at < %(age)s"),
    Rule("seen", 0, """
        NOT EXISTS (SELECT FROM integrations.stream_state s
                    WHERE s.connection = t.connection AND s.stream = t.stream AND s.refresh_id = t.refresh_id)
        AND NOT EXISTS (SELECT FROM integrations.run_log r
                        WHERE r.connection = t.connection AND r.stream = t.stream AND r.status = 'running')"""),
)  # fmt: skip

# One bounded piece.
TAKE = """
DELETE FROM integrations.{table} WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM integrations.{table} t WHERE {over} LIMIT %(rows)s FOR UPDATE SKIP LOCKED))
"""


def prune(session: psycopg.Connection[Any]) -> Mapping[str, int]:
    """Takes away what is over and old, each batch in a transaction of its own. Returns how many rows by table; a table
    with very many goes on the next time. Raises DestinationError once every table was tried."""
    taken: dict[str, int] = {}
    failed: dict[str, DestinationError | psycopg.Error] = {}
    for rule in RULES:
        try:
            taken[rule.table] = prune_table(session, rule)
        except (DestinationError, psycopg.Error) as error:
            failed[rule.table] = error
    if failed:
        first = next(iter(failed.values()))
        pruned = f"; of the others {sum(taken.values()):,} rows were" if taken else ""
        step = first.next if isinstance(first, DestinationError) else ""
        raise DestinationError(f"{', '.join(failed)} could not be pruned{pruned}: {said(first)}", next=step) from first
    return taken


def said(error: DestinationError | psycopg.Error) -> str:
    return error.what if isinstance(error, DestinationError) else one_line(error)


def prune_table(session: psycopg.Connection[Any], rule: Rule) -> int:
    statement = TAKE.format(table=rule.table, over=rule.over)
    taken = 0
    with destination_errors(rule.table):
        now = session.execute("SELECT now()").fetchone()
        assert now is not None
        given = {"age": now[0] - timedelta(days=rule.days), "rows": PRUNE_ROWS}
        for _ in range(PRUNE_BATCHES):
            count = session.execute(statement, given).rowcount
            taken += count
            if count < PRUNE_ROWS:
                break
    return taken
