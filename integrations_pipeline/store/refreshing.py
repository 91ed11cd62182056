"""The end of a full refresh: what the source no longer holds gets a tombstone, where that is plausible."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.limits import TOMBSTONE_ROWS
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.state import FORGET_SEEN, StateChange, write_state
from integrations_pipeline.store.tables import raw_table

# How many live rows there are, and how many of them the refresh has not seen.
MISSING = """
SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = r.external_id OFFSET 0))
FROM {raw} r WHERE deleted_at IS NULL
"""

# Tombstones with their decisions.
TOMBSTONE = """
WITH gone AS (
    UPDATE {raw} r SET deleted_at = now(), stamp = pg_current_xact_id()
    WHERE r.deleted_at IS NULL AND NOT EXISTS (
        SELECT FROM integrations.seen s
        WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
          AND s.external_id = r.external_id OFFSET 0)
    RETURNING r.external_id
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'raw', 'deleted', 'not in the full refresh' FROM gone
"""

# A bad row whose record is gone has nothing left to heal.
CLOSE_QUARANTINE = """
UPDATE integrations.quarantine q SET status = 'healed', closed_at = now(), run_id = %(run_id)s
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'boundary' AND q.status = 'open'
  AND q.external_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = q.external_id OFFSET 0)
"""

COUNT = """
UPDATE integrations.run_log SET tombstoned = tombstoned + %(tombstoned)s
WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s
"""


def complete(
    held: Holder, refresh_id: UUID, at_most_percent: float, state: StateChange, *, replaced: bool = False
) -> int:
    """One transaction; see ``Lease.complete_refresh``."""

    def work(session: psycopg.Connection[Any]) -> int:
        names = {**held.names, "refresh_id": refresh_id}
        raw = raw_table(held.connection, held.stream)
        row = session.execute(sql.SQL(MISSING).format(raw=raw), names).fetchone()
        assert row is not None
        live, unseen = row
        if replaced:  # of those not seen, all that a new row has come for are accounted for
            live, unseen = unseen, max(unseen - (live - unseen), 0)
        check_plausible(live, unseen, at_most_percent, held.where)
        if row[1]:
            session.execute(sql.SQL(TOMBSTONE).format(raw=raw), names)
            session.execute(COUNT, {**names, "tombstoned": row[1]})
        session.execute(CLOSE_QUARANTINE, names)
        session.execute(FORGET_SEEN, (held.connection, held.stream, None))
        write_state(session, held.connection, held.stream, state)
        return int(row[1])

    return held.write(work)


def check_plausible(live: int, missing: int, at_most_percent: float, where: str) -> None:
    """Raises ContractError where a full refresh lacks more of the live rows than ``at_most_percent``."""
    if live >= TOMBSTONE_ROWS and missing * 100 > at_most_percent * live:
        raise ContractError(
            f"the full refresh lacks {missing} of {live} records, more than {at_most_percent:g}%: nothing was deleted",
            where=where,
            next="look whether they are gone at the source; if so, raise `deletes.at_most` for one `--full` sync",
        )
