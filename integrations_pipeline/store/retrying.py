"""Trying rows of quarantine again, from what is stored of them, and discarding them.

open ──tried again──▶ healed     it is stored now, or a newer version is, or a rule of the file leaves it out
                      open       still bad: its reasons are today's
     ──discarded────▶ discarded  by a person, with a reason: a decision
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import args_row

from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.landing import Chunk, Landed, Landing
from integrations_pipeline.store.quarantine import Stage, any_open, jsonb_text, storable_text
from integrations_pipeline.store.tables import raw_table

# Open rows of the boundary in the order they came. What JSON has no form for (rule `storable`) is kept as a text that
# only looks like it: such a row comes in when the source sends it well, never from here.
OPEN = """
SELECT id, external_id, payload::text, parent_key, coalesce(read_at, last_seen) FROM integrations.quarantine
WHERE connection = %(connection)s AND stream = %(stream)s AND stage = 'boundary' AND status = 'open'
  AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[])) AND NOT reasons @> '[{"rule": "storable"}]'
  AND (coalesce(read_at, last_seen), id) > (%(seen)s::timestamptz, %(id)s)
ORDER BY 5, id LIMIT %(limit)s
"""

# Of a list that comes newest first, a row that is stored with the same version is the newer one.
NEWER = """
SELECT g.key FROM unnest(%s::text[], %s::text[]) AS g (key, version), LATERAL (
    SELECT r.version FROM {raw} r WHERE r.external_id = g.key OFFSET 0) AS r WHERE r.version >= g.version
"""

CLOSE = """
UPDATE integrations.quarantine SET status = 'healed', closed_at = now(), attempts = attempts + 1, run_id = %(run_id)s
WHERE id = ANY(%(ids)s::bigint[]) AND status = 'open'
"""

# What is wrong with rows by today's rules; a row for which that is nothing new stays as it is.
RENEW = """
UPDATE integrations.quarantine q SET reasons = g.reasons::jsonb
FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS g (id, reasons)
WHERE q.id = g.id AND q.status = 'open' AND q.reasons IS DISTINCT FROM g.reasons::jsonb
"""

DISCARD = """
WITH discarded AS (
    UPDATE integrations.quarantine SET status = 'discarded', closed_at = now()
    WHERE connection = %(connection)s AND stream = %(stream)s AND status = 'open'
      AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
    RETURNING id, external_id, stage, reasons, hash
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, CASE stage WHEN 'boundary' THEN 'raw' ELSE 'canonical' END,
       'discarded', %(reason)s,
       jsonb_build_object('quarantine', id, 'hash', encode(hash, 'hex'), 'reasons', reasons)
FROM discarded
"""


class OpenRow(NamedTuple):
    """A row as it was set aside; ``payload`` is its JSON text, ``read_at`` when it was read."""

    id: int
    external_id: str | None
    payload: str
    parent_key: str | None
    read_at: datetime


@dataclass
class Again:
    """Rows read together that were tried again: ``good`` ones with the ids of those they stand for, ids of those that
    need no place any more, and reasons of those that are still bad."""

    read_at: datetime
    good: Sequence[Landed] = ()
    ids: Mapping[str, int] = field(default_factory=dict)
    done: Sequence[int] = ()
    bad: Mapping[int, Sequence[dict[str, Any]]] = field(default_factory=dict)
    parent_keys: Mapping[str, str] = field(default_factory=dict)
    desc: bool = False


def open_rows(held: Holder, ids: Sequence[int] | None, *, limit: int) -> Iterator[list[OpenRow]]:
    """Batches of open rows of the boundary, all unless ids are given; they may be closed between them."""
    with held.reading() as session:
        if not any_open(held, session, "boundary"):
            return
    place: dict[str, Any] = {**held.names, "ids": listed(ids), "seen": "-infinity", "id": 0, "limit": limit}
    while True:
        with held.reading() as session:
            rows = session.cursor(row_factory=args_row(OpenRow)).execute(OPEN, place).fetchall()
        if rows:
            yield rows
        if len(rows) < limit:
            return
        place |= {"seen": rows[-1].read_at, "id": rows[-1].id}


def listed(ids: Sequence[int] | None) -> list[int] | None:
    return None if ids is None else list(ids)  # of a tuple psycopg makes a record


def land_again(held: Holder, again: Again) -> int:
    """Lands the good rows where nothing newer is stored, and closes what is done; one transaction. Returns how many."""

    def work(session: psycopg.Connection[Any]) -> int:
        newer = newer_keys(held, session, again) if again.desc else set()
        good = [row for row in again.good if row[0] not in newer]
        chunk = Chunk(good=good, fetched=len(good), read_at=again.read_at, parent_keys=again.parent_keys)
        landing = Landing(held, session, chunk)
        refused = {str(key): reasons for key, _, _, reasons in landing.copy()}
        if good:
            landing.judge()
        done = [*again.done, *(number for key, number in again.ids.items() if key not in refused)]
        session.execute(CLOSE, {**held.names, "ids": done})
        renew(session, {**again.bad, **{again.ids[key]: reasons for key, reasons in refused.items()}})
        return len(done)

    return held.write(work)


def newer_keys(held: Holder, session: psycopg.Connection[Any], again: Again) -> set[str]:
    query = sql.SQL(NEWER).format(raw=raw_table(held.connection, held.stream))
    keys, versions = [row[0] for row in again.good], [row[3] for row in again.good]
    return {row[0] for row in session.execute(query, (keys, versions))}


def renew(session: psycopg.Connection[Any], reasons: Mapping[int, Sequence[dict[str, Any]]]) -> None:
    """Brings the reasons of open rows up to date."""
    if reasons:
        texts = [jsonb_text(list(one)) for one in reasons.values()]
        session.execute(RENEW, {"ids": list(reasons), "reasons": texts})


def discard(held: Holder, ids: Sequence[int] | None, reason: str) -> int:
    """Closes open rows of either stage for good, with a decision each; all unless ids are given. Returns how many."""
    values = {**held.names, "ids": listed(ids), "reason": storable_text(reason)}
    return held.write(lambda session: session.execute(DISCARD, values).rowcount)


# The open rows of a stage by key, for reasons that may have changed.
IDS = """
SELECT q.external_id, q.id FROM integrations.quarantine q
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = %(stage)s AND q.status = 'open'
  AND q.external_id = ANY(%(keys)s::text[])
"""


def still_bad(
    held: Holder, session: psycopg.Connection[Any], stage: Stage, reasons: Mapping[str, Sequence[dict[str, Any]]]
) -> None:
    """Rows that were tried again and are still bad: no further attempt of the source's, so only the reasons change."""
    if reasons:
        ids = session.execute(IDS, {**held.names, "stage": stage, "keys": list(reasons)}).fetchall()
        renew(session, {number: reasons[key] for key, number in ids})
