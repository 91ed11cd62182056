"""Landing: a chunk of checked rows into its raw table, with all that belongs to it, in one transaction.

absent ──▶ created, or deleted (a tombstone for a key never seen is kept: a late older version can't revive it)
stored ──▶ unchanged   same content
           updated     newer, or of the same version and read later; also a deleted row that is back
           deleted     newer, and flagged
           superseded  older than what is stored, or a repeat within the run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from integrations_pipeline.spec.decoding import decode, encode_ascii
from integrations_pipeline.spec.drift import Drift, FieldProfile
from integrations_pipeline.spec.errors import ContractError, Failed
from integrations_pipeline.spec.limits import EXTERNAL_ID_BYTES, SAMPLE_CHARACTERS
from integrations_pipeline.store.copying import JSONB_FORM, copy_rows, copy_storable, unstorable
from integrations_pipeline.store.deleting import DELETE, HEAL_DELETED, FeedOrder
from integrations_pipeline.store.holder import Holder
from integrations_pipeline.store.profiles import write_profile
from integrations_pipeline.store.quarantine import Decision, Rejection, any_open, decide, heal, quarantine, storable_key
from integrations_pipeline.store.state import StateChange, write_state
from integrations_pipeline.store.tables import raw_table

Landed = tuple[str, bytes, bytes, str, bool]
"""External id, payload as JSON, hash, version, whether it is a tombstone."""


@dataclass(frozen=True)
class Counters:
    """What became of the rows of a run or chunk. All but ``tombstoned`` and ``fetched`` add up to ``fetched``."""

    fetched: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    skipped: int = 0
    quarantined: int = 0
    superseded: int = 0
    tombstoned: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def balanced(self) -> bool:
        return sum(int(getattr(self, f.name)) for f in fields(self)[1:-1]) == self.fetched

    def as_dict(self) -> dict[str, int]:
        """The counters of the JSON contract; tombstones of a full refresh were not fetched and stay outside it."""
        return {f.name: getattr(self, f.name) for f in fields(self)[:-1]}


@dataclass
class Chunk:
    """What is committed together. ``good`` holds a key once.

    ``refresh_id`` notes all its keys as seen. ``desc``: of equal versions within the run the earlier row is the newer.
    ``parent_keys`` names the parent record of a child stream's row, ``rejected_parents`` that of a rejected one by its
    hash; a row below one of ``replaced_parents`` that is not in the chunk gets a tombstone, since such rows lie inside
    their parent and are replaced with it. ``profile`` and ``drift`` are what was learned of the rows.
    ``calls``: the call (in the call log) that brought a row, by its external id, or a rejected one's hash.
    ``feed`` says that the rows tell of deletions: see `deleting.py`. ``then`` is done last in the same transaction.
    """

    good: Sequence[Landed]
    fetched: int
    read_at: datetime
    rejected: Sequence[Rejection] = ()
    skipped: Sequence[tuple[str | None, str]] = ()
    superseded: Sequence[tuple[str, str]] = ()
    pages: int = 0
    requests: int = 0
    waited_seconds: float = 0.0
    states: Sequence[StateChange] = ()
    refresh_id: UUID | None = None
    desc: bool = False
    parent_keys: Mapping[str, str] = field(default_factory=dict)
    rejected_parents: Mapping[bytes, str] = field(default_factory=dict)
    replaced_parents: Sequence[str] = ()
    calls: Mapping[str | bytes, int] = field(default_factory=dict)
    feed: FeedOrder | None = None
    profile: Sequence[FieldProfile] = ()
    drift: Sequence[Drift] = ()
    then: Callable[[psycopg.Connection[Any]], None] | None = None

    def keys_seen(self) -> list[str]:
        """Every key the source returned, whatever became of its row."""
        groups: tuple[Sequence[tuple[Any, ...]], ...] = (self.good, self.rejected, self.skipped, self.superseded)
        keys = (storable_key(one[0]) for group in groups for one in group)
        return [key for key in keys if key is not None]


# Where a chunk's rows wait to be judged; emptied by each commit.
TABLE = """
CREATE TEMPORARY TABLE IF NOT EXISTS landing (
    external_id text COLLATE "C" NOT NULL, payload jsonb NOT NULL, hash bytea NOT NULL,
    version text COLLATE "C" NOT NULL, deleted boolean NOT NULL, parent_key text COLLATE "C", call bigint
) ON COMMIT DELETE ROWS
"""
COLUMNS = ("external_id", "payload", "hash", "version", "deleted", "parent_key", "call")
TYPES = ("text", "bytea", "bytea", "text", "bool", "text", "int8")

# Judges each row against what is stored, writes those that change something, and the decisions. New rows go in order
# of their keys, for the index's sake, and without ON CONFLICT, which costs half as much again: under the lease nobody
# else writes the stream's rows. A row that only moves silently (a newer tombstone over a tombstone, the same row below
# another parent) keeps its stamp; one that a write of ours waits for doesn't (`own_forms`). What an update changed is
# told key by key of the two payloads.
LAND = """
WITH judged AS MATERIALIZED (
    SELECT external_id, payload, hash, version, deleted, parent_key, call, is_new, was_deleted, moved, unversioned,
        unread, outcome,
        CASE outcome WHEN 'superseded' THEN jsonb_build_object('version', jsonb_build_array(version, held))
        WHEN 'updated' THEN (
            SELECT jsonb_object_agg(key, jsonb_build_array(old -> key, value))
            FROM (SELECT key, value FROM jsonb_each(payload)
                  UNION ALL
                  SELECT key, NULL FROM jsonb_object_keys(old) AS gone (key) WHERE NOT payload ? key) AS both_sides
            WHERE value IS DISTINCT FROM old -> key)
        END AS changes
    FROM (
        SELECT l.*, r.payload AS old, r.version AS held,
            l.external_id IN (SELECT external_id FROM integrations.link WHERE connection = %(connection)s
                              AND stream = %(stream)s AND unread_at IS NOT NULL AND deleted_at IS NULL) AS unread,
            r.external_id IS NULL AS is_new, r.deleted_at IS NOT NULL AS was_deleted,
            r.external_id IS NOT NULL AND l.parent_key IS NOT NULL
                AND l.parent_key IS DISTINCT FROM r.parent_key AS moved, r.version = '' AS unversioned,
            CASE
                WHEN r.external_id IS NULL THEN CASE WHEN l.deleted THEN 'deleted' ELSE 'created' END
                WHEN r.hash = l.hash AND (r.deleted_at IS NOT NULL) = l.deleted
                    THEN CASE WHEN r.stamp >= %(first_stamp)s::xid8 THEN 'repeated' ELSE 'unchanged' END
                WHEN l.version < r.version THEN 'superseded'
                WHEN l.version = r.version AND %(desc)s AND r.stamp >= %(first_stamp)s::xid8 THEN 'superseded'
                WHEN l.deleted AND r.deleted_at IS NOT NULL THEN 'still deleted'
                WHEN l.deleted THEN 'deleted'
                ELSE 'updated'
            END AS outcome
        FROM landing l LEFT JOIN {raw} r ON r.external_id = l.external_id
        OFFSET 0  -- judged once, not once per use
    ) AS compared
), added AS (
    INSERT INTO {raw} (external_id, payload, hash, version, fetched_at, deleted_at, parent_key)
    SELECT external_id, payload, hash, version, %(read_at)s,
           CASE WHEN deleted THEN %(read_at)s::timestamptz END, parent_key
    FROM judged WHERE is_new ORDER BY external_id
), changed AS (
    UPDATE {raw} AS r SET
        payload = j.payload, hash = j.hash, version = greatest(r.version, j.version), fetched_at = %(read_at)s,
        parent_key = coalesce(j.parent_key, r.parent_key),
        deleted_at = CASE WHEN j.deleted THEN coalesce(r.deleted_at, %(read_at)s) END,
        stamp = CASE WHEN ((j.hash = r.hash AND NOT j.unread) OR j.deleted) AND j.deleted = (r.deleted_at IS NOT NULL)
                     THEN r.stamp ELSE pg_current_xact_id() END
    FROM judged j
    WHERE r.external_id = j.external_id AND NOT j.is_new AND (r.version <= j.version OR r.hash = j.hash)
      AND (j.outcome IN ('updated', 'deleted', 'still deleted')
           OR ((j.moved OR j.unversioned OR j.unread) AND j.outcome IN ('unchanged', 'repeated')))
), decided AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail, call)
    SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'raw',
        CASE outcome WHEN 'repeated' THEN 'superseded' ELSE outcome END,
        CASE outcome WHEN 'repeated' THEN 'a repeat within the run' WHEN 'superseded' THEN 'a newer version is stored'
                     WHEN 'deleted' THEN 'flagged by the source'
                     WHEN 'updated' THEN CASE WHEN was_deleted THEN 'it is back' END END,
        changes, call
    FROM judged WHERE outcome NOT IN ('unchanged', 'still deleted')
)
SELECT outcome, count(*) FROM judged GROUP BY outcome
"""

# The chunk's rows as far as they are what is stored now: one that was superseded proves nothing.
STORED = """
SELECT l.external_id FROM landing l JOIN {raw} r ON r.external_id = l.external_id AND r.hash = l.hash
"""

COUNTED_AS = {"repeated": "superseded", "still deleted": "unchanged"}

# Rows below a parent that its new record no longer holds.
REPLACE = """
WITH gone AS (
    UPDATE {raw} r SET deleted_at = now(), stamp = pg_current_xact_id()
    WHERE r.parent_key = ANY(%(parents)s::text[]) AND r.deleted_at IS NULL AND r.external_id <> ALL(%(kept)s::text[])
    RETURNING r.external_id
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'raw', 'deleted', 'no longer in its parent' FROM gone
"""

# Bad rows below a parent that its new record no longer holds: nothing is left to heal.
REPLACE_BAD = """
UPDATE integrations.quarantine q SET status = 'healed', closed_at = now(), run_id = %(run_id)s
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'boundary' AND q.status = 'open'
  AND q.parent_key = ANY(%(parents)s::text[]) AND q.hash <> ALL(%(bad)s::bytea[])
  AND (q.external_id IS NULL OR q.external_id <> ALL(%(kept)s::text[]))
"""

# Keys of a full refresh under way, each once.
SEEN = """
INSERT INTO integrations.seen (connection, stream, refresh_id, external_id)
SELECT %(connection)s, %(stream)s, %(refresh_id)s, key FROM unnest(%(keys)s::text[]) AS key ORDER BY key
ON CONFLICT DO NOTHING
"""

# Adds to a run's counters; the table's own check refuses what doesn't balance.
COUNT = """
UPDATE integrations.run_log SET
    fetched = fetched + %(fetched)s, created = created + %(created)s, updated = updated + %(updated)s,
    unchanged = unchanged + %(unchanged)s, deleted = deleted + %(deleted)s, skipped = skipped + %(skipped)s,
    quarantined = quarantined + %(quarantined)s, superseded = superseded + %(superseded)s,
    tombstoned = tombstoned + %(tombstoned)s,
    pages = pages + %(pages)s, requests = requests + %(requests)s, waited_seconds = waited_seconds + %(waited_seconds)s
WHERE run_id = %(run_id)s AND connection = %(connection)s AND stream = %(stream)s
"""


def land(held: Holder, chunk: Chunk) -> Counters:
    """Commits the chunk and says what became of its rows. Raises LeaseHeld (nothing written) or DestinationError."""
    return held.write(lambda session: Landing(held, session, chunk).commit())


@dataclass
class Landing:
    """One chunk inside its transaction."""

    held: Holder
    session: psycopg.Connection[Any]
    chunk: Chunk

    def commit(self) -> Counters:
        refused = self.copy()
        outcomes = self.judge() if self.chunk.good else {}
        self.close_quarantine()
        rejected = [*self.chunk.rejected, *refused]
        chunk = self.chunk
        met = (chunk.rejected_parents, chunk.read_at, chunk.refresh_id, chunk.calls)
        quarantine(self.held, self.session, "boundary", rejected, *met)
        self.decide_others()
        self.note_seen()
        counters = self.count(outcomes, len(refused), self.replace_children())
        for change in self.chunk.states:
            write_state(self.session, self.held.connection, self.held.stream, change)
        write_profile(self.held, self.session, self.chunk.profile, self.chunk.drift)
        if self.chunk.then is not None:
            self.chunk.then(self.session)
        return counters

    @property
    def raw(self) -> sql.Identifier:
        return raw_table(self.held.connection, self.held.stream)

    def copy(self) -> list[Rejection]:
        """Brings the good rows into the temporary table; returns those PostgreSQL can't store."""
        if not self.chunk.good:
            return []
        self.session.execute(TABLE)
        parents, calls = self.chunk.parent_keys.get, self.chunk.calls.get
        rows = [(k, JSONB_FORM + p, h, v, d, parents(k), calls(k)) for k, p, h, v, d in self.chunk.good]
        unfit = [row for row in rows if storable_key(row[0]) is None]
        if unfit:
            rows = [row for row in rows if storable_key(row[0]) is not None]
        refused = copy_storable(
            self.session, lambda part: copy_rows(self.session, "landing", COLUMNS, TYPES, part), rows
        )
        refused += [(row, f"its key is longer than {EXTERNAL_ID_BYTES} bytes, or no text") for row in unfit]
        return [
            (row[0], quarantined_payload(row[1][1:]), row[2], unstorable(reason, row[0][:SAMPLE_CHARACTERS]))
            for row, reason in refused
        ]

    def judge(self) -> dict[str, int]:
        """What became of the rows in the temporary table, counted by outcome."""
        values = {
            **self.held.names,
            "first_stamp": self.held.first_stamp,
            "desc": self.chunk.desc,
            "read_at": self.chunk.read_at,
        }
        statement = LAND
        if self.chunk.feed is not None:
            statement, values = DELETE, {**values, **asdict(self.chunk.feed)}
        outcomes: dict[str, int] = {}
        for outcome, count in self.session.execute(sql.SQL(statement).format(raw=self.raw), values):
            name = COUNTED_AS.get(outcome, outcome)
            outcomes[name] = outcomes.get(name, 0) + count
        return outcomes

    def close_quarantine(self) -> None:
        """A row that is now stored, or is left out on purpose, ends what was wrong with an earlier one."""
        if not any_open(self.held, self.session, "boundary"):
            return
        if self.chunk.feed is not None:
            if self.chunk.good:
                self.session.execute(HEAL_DELETED, self.held.names)
            return
        keys = [key for key, _ in self.chunk.skipped]
        if self.chunk.good:
            keys += [row[0] for row in self.session.execute(sql.SQL(STORED).format(raw=self.raw))]
        heal(self.held, self.session, "boundary", keys)

    def decide_others(self) -> None:
        skipped, calls = self.chunk.skipped, self.chunk.calls.get
        left_out: list[Decision] = [(key, "skipped", why, None, calls(key or "")) for key, why in skipped]
        for key, version in self.chunk.superseded:
            left_out.append((key, "superseded", "a newer one came in the same chunk", {"version": version}, None))
        decide(self.held, self.session, left_out)

    def note_seen(self) -> None:
        if self.chunk.refresh_id is not None:
            keys = self.chunk.keys_seen()
            self.session.execute(SEEN, {**self.held.names, "refresh_id": self.chunk.refresh_id, "keys": keys})

    def replace_children(self) -> int:
        """Tombstones the rows that a replaced parent no longer holds."""
        if not self.chunk.replaced_parents:
            return 0
        values = {**self.held.names, "parents": list(self.chunk.replaced_parents), "kept": self.chunk.keys_seen()}
        if any_open(self.held, self.session, "boundary"):
            self.session.execute(REPLACE_BAD, {**values, "bad": [one[2] for one in self.chunk.rejected]})
        return self.session.execute(sql.SQL(REPLACE).format(raw=self.raw), values).rowcount

    def count(self, outcomes: dict[str, int], refused: int, tombstoned: int) -> Counters:
        """The chunk's counters, added to the run's. Raises Failed where they don't balance."""
        chunk = self.chunk
        counters = Counters(
            fetched=chunk.fetched,
            skipped=len(chunk.skipped),
            quarantined=len(chunk.rejected) + refused,
            superseded=outcomes.pop("superseded", 0) + len(chunk.superseded),
            tombstoned=tombstoned,
            **outcomes,
        )
        if not counters.balanced:
            raise Failed(f"the rows of a chunk don't add up: {counters.as_dict()}", where=self.held.where)
        spent = {"pages": chunk.pages, "requests": chunk.requests, "waited_seconds": chunk.waited_seconds}
        values = {**self.held.names, **counters.as_dict(), "tombstoned": counters.tombstoned, **spent}
        if self.session.execute(COUNT, values).rowcount != 1:
            raise Failed("the run isn't in the log: start_run comes before its first chunk", where=self.held.where)
        return counters


def quarantined_payload(payload: bytes) -> str:
    """A refused payload as JSON text that quarantine takes; what isn't JSON stands as a text."""
    try:
        return encode_ascii(decode(payload))
    except ContractError:
        return encode_ascii(payload.decode("utf-8", "backslashreplace"))
