"""The end of a full refresh: what the source no longer holds gets a tombstone, where that is plausible.

A row without a key may be any of the records that the refresh lacks. So those are kept (``missing``) when it brings one
that the refresh before hadn't; a record that is lacking only later can't be one that came so before.

seen ──lacking──▶ tombstone    where each row without a key was there before, or there is none
                  missing      where one is new ──seen again──▶ seen
                                                ──no such row is left (well again, discarded, skipped)──▶ tombstone
"""

from __future__ import annotations

from typing import Any, NamedTuple
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

# Records that we made there and that no read ever showed, also not this refresh, which began well after they were made:
# an hour covers what sources lag behind and clocks differ. Of child streams no list says that its parent was asked.
NEVER_READ = """
FROM integrations.link l
JOIN integrations.stream_state t ON t.connection = l.connection AND t.stream = l.stream AND t.parent_key = ''
WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.deleted_at IS NULL AND l.sent IS NOT NULL
  AND l.linked_at + interval '1 hour' < t.last_full_refresh
  AND NOT EXISTS (
    SELECT FROM integrations.stream_state p
    WHERE p.connection = l.connection AND p.stream = l.stream AND p.parent_key <> '')
  AND NOT EXISTS (SELECT FROM {raw} r WHERE r.external_id = l.external_id OFFSET 0)
  AND NOT EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = l.external_id OFFSET 0)
"""
COUNT_NEVER_READ = "SELECT count(*), 0 " + NEVER_READ

# Their tombstones hold nothing but the key.
BURY_NEVER_READ = (
    """
WITH gone AS (
    INSERT INTO {raw} (external_id, payload, hash, version, fetched_at, deleted_at)
    SELECT l.external_id, '{{}}', '', '', now(), now()"""
    + NEVER_READ
    + """
    RETURNING external_id
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'raw', 'deleted', 'made here, and not in the full refresh'
FROM gone
"""
)

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

# Rows without a key that this refresh met, and how many of them the one before had not.
UNNAMED = """
WITH met AS (
    UPDATE integrations.quarantine q SET met_before = old.met
    FROM (SELECT id, met, met_before FROM integrations.quarantine
          WHERE connection = %(connection)s AND stream = %(stream)s AND stage = 'boundary' AND status = 'open'
            AND external_id IS NULL AND refresh_id = %(refresh_id)s) AS old
    WHERE q.id = old.id
    RETURNING old.met, old.met_before
)
SELECT coalesce(sum(met), 0)::integer, coalesce(sum(greatest(met - met_before, 0)), 0)::integer FROM met
"""

# Kept no longer: what was seen again, or is deleted by now; or all, where no row is left that it could be.
FORGET_MISSING = """
DELETE FROM integrations.missing m
WHERE m.connection = %(connection)s AND m.stream = %(stream)s AND (NOT %(any)s OR EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = m.external_id OFFSET 0)
  OR EXISTS (SELECT FROM {raw} r WHERE r.external_id = m.external_id AND r.deleted_at IS NOT NULL OFFSET 0))
"""

# What is kept counts as seen.
KEEP = """
INSERT INTO integrations.seen (connection, stream, refresh_id, external_id)
SELECT connection, stream, %(refresh_id)s, external_id FROM integrations.missing
WHERE connection = %(connection)s AND stream = %(stream)s
ON CONFLICT DO NOTHING
"""

# Keeps the records that the refresh has not seen.
MISS = """
INSERT INTO integrations.missing (connection, stream, external_id)
SELECT %(connection)s, %(stream)s, external_id FROM {raw} r
WHERE r.deleted_at IS NULL AND NOT EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = r.external_id OFFSET 0)
"""

# A bad row whose record is gone has nothing left to heal. Nor has one without a key that the refresh didn't meet,
# unless the edit of the key may have given it one.
CLOSE_QUARANTINE = """
UPDATE integrations.quarantine q SET status = 'healed', closed_at = now(), run_id = %(run_id)s
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'boundary' AND q.status = 'open'
  AND CASE WHEN q.external_id IS NULL
           THEN NOT %(replaced)s AND q.refresh_id IS DISTINCT FROM %(refresh_id)s ELSE NOT EXISTS (
    SELECT FROM integrations.seen s
    WHERE s.connection = %(connection)s AND s.stream = %(stream)s AND s.refresh_id = %(refresh_id)s
      AND s.external_id = q.external_id OFFSET 0) END
"""

# The same for a full read within one run that notes no keys.
CLOSE_UNMET = """
UPDATE integrations.quarantine SET status = 'healed', closed_at = now(), run_id = %(run_id)s
WHERE connection = %(connection)s AND stream = %(stream)s AND stage = 'boundary' AND status = 'open'
  AND external_id IS NULL AND run_id IS DISTINCT FROM %(run_id)s
"""

COUNT = """
UPDATE integrations.run_log SET tombstoned = tombstoned + %(tombstoned)s
WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s
"""


def end_read(held: Holder, state: StateChange) -> None:
    """One transaction; see ``Lease.end_full_read``."""

    def work(session: psycopg.Connection[Any]) -> None:
        session.execute(CLOSE_UNMET, held.names)
        write_state(session, held.connection, held.stream, state)

    held.write(work)


class Ended(NamedTuple):
    """How many records got tombstones, and how many are lacking but kept, since rows came that may be them."""

    tombstoned: int
    kept: int


def complete(
    held: Holder, refresh_id: UUID, at_most_percent: float, state: StateChange, *, replaced: bool = False
) -> Ended:
    """One transaction; see ``Lease.complete_refresh``."""

    def work(session: psycopg.Connection[Any]) -> Ended:
        names = {**held.names, "refresh_id": refresh_id}
        unnamed, new = counted(session, UNNAMED, names)
        if replaced:  # rows under the old keys can't be seen again, whatever came without a key
            unnamed = new = 0
        gone, kept = settle_missing(held, session, names, unnamed, new, at_most_percent, replaced=replaced)
        session.execute(CLOSE_QUARANTINE, {**names, "replaced": replaced})
        session.execute(FORGET_SEEN, (held.connection, held.stream, None))
        write_state(session, held.connection, held.stream, state)
        return Ended(gone, kept)

    return held.write(work)


def settle_missing(
    held: Holder,
    session: psycopg.Connection[Any],
    names: dict[str, Any],
    unnamed: int,
    new: int,
    at_most_percent: float,
    *,
    replaced: bool,
) -> Ended:
    """Tombstones, with their decisions, or keeps what is lacking. Raises ContractError where that is implausible."""
    raw = raw_table(held.connection, held.stream)
    session.execute(sql.SQL(FORGET_MISSING).format(raw=raw), {**names, "any": unnamed > 0})
    kept = session.execute(KEEP, names).rowcount
    live, unseen = counted(session, sql.SQL(MISSING).format(raw=raw), names)
    never_read, _ = counted(session, sql.SQL(COUNT_NEVER_READ).format(raw=raw), names)
    if replaced:  # of those not seen, all that a new row has come for are accounted for
        check_plausible(unseen, max(unseen - (live - unseen), 0), at_most_percent, held.where)
    else:
        lacking = unseen + never_read
        check_plausible(live + never_read, max(lacking - unnamed, 0), at_most_percent, held.where)
    buried = bury_never_read(session, raw, names) if never_read and not unnamed and not replaced else 0
    if not unseen:
        return Ended(buried, kept)
    if new:
        session.execute(sql.SQL(MISS).format(raw=raw), names)
        return Ended(buried, kept + unseen)
    session.execute(sql.SQL(TOMBSTONE).format(raw=raw), names)
    session.execute(COUNT, {**names, "tombstoned": unseen})
    return Ended(unseen + buried, kept)


def bury_never_read(session: psycopg.Connection[Any], raw: sql.Identifier, names: dict[str, Any]) -> int:
    """Only where each row that came has a key: one without may be any of them."""
    buried = session.execute(sql.SQL(BURY_NEVER_READ).format(raw=raw), names).rowcount
    session.execute(COUNT, {**names, "tombstoned": buried})
    return buried


def counted(session: psycopg.Connection[Any], query: Any, names: dict[str, Any]) -> tuple[int, int]:
    row = session.execute(query, names).fetchone()
    assert row is not None
    return row[0], row[1]


def check_plausible(live: int, missing: int, at_most_percent: float, where: str) -> None:
    """Raises ContractError where a full refresh lacks more of the live rows than ``at_most_percent``. A share of a few
    says little, but that none of several is left is more likely an answer gone wrong."""
    judged = live >= TOMBSTONE_ROWS or (live > 1 and missing == live)
    if judged and missing * 100 > at_most_percent * live:
        raise ContractError(
            f"the full refresh lacks {missing} of {live} records, more than {at_most_percent:g}%: nothing was deleted",
            where=where,
            next="look whether they are gone at the source; if so, raise `deletes.at_most` for one `--full` sync",
        )
