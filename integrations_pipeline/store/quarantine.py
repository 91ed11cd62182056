"""Bad rows, kept with their reasons until a good version comes, and the decisions about rows that were left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg

from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import EXTERNAL_ID_BYTES
from integrations_pipeline.store.holder import Holder

Stage = Literal["boundary", "mapping"]
Rejection = tuple[str | None, str, bytes, list[dict[str, Any]]]
"""External id (None where none could be read), payload as JSON text, hash, reasons."""
Decision = tuple[str | None, str, str, Any, int | None]
"""External id, decision, reason, detail, and the call (in the call log) that brought the row."""

# Opens a row in quarantine per key (per hash where there is none); one that is open counts another attempt instead.
# Only what is new or different becomes a decision: a bad row that comes with each poll is one fact. The very row that a
# person has discarded isn't asked about again.
QUARANTINE = """
WITH given AS (
    SELECT * FROM unnest(%(keys)s::text[], %(payloads)s::text[], %(hashes)s::bytea[], %(reasons)s::text[],
                         %(attempts)s::int[], %(parents)s::text[], %(calls)s::bigint[])
        AS g (external_id, payload, hash, reasons, attempts, parent_key, call)
), known AS MATERIALIZED (
    SELECT g.*, coalesce(k.id, h.id) AS id, coalesce(k.hash, h.hash) AS known_hash, coalesce(d.found, false) AS gone
    FROM given g
    LEFT JOIN LATERAL (
        SELECT q.id, q.hash FROM integrations.quarantine q
        WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = %(stage)s AND q.status = 'open'
          AND q.external_id = g.external_id OFFSET 0) AS k ON true
    LEFT JOIN LATERAL (
        SELECT q.id, q.hash FROM integrations.quarantine q
        WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = %(stage)s AND q.status = 'open'
          AND q.external_id IS NULL AND g.external_id IS NULL AND q.hash = g.hash OFFSET 0) AS h ON true
    LEFT JOIN LATERAL (
        SELECT true AS found FROM integrations.quarantine q
        WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = %(stage)s
          AND q.status = 'discarded' AND q.hash = g.hash AND q.external_id IS NOT DISTINCT FROM g.external_id
        LIMIT 1) AS d ON true
), repeated AS (
    UPDATE integrations.quarantine q
    SET attempts = q.attempts + known.attempts, last_seen = now(), run_id = %(run_id)s,
        hash = known.hash, parent_key = coalesce(known.parent_key, q.parent_key),
        refresh_id = coalesce(%(refresh_id)s::uuid, q.refresh_id),
        met = CASE WHEN %(refresh_id)s::uuid IS NULL THEN q.met
                   ELSE known.attempts + CASE q.refresh_id WHEN %(refresh_id)s::uuid THEN q.met ELSE 0 END END,
        read_at = %(read_at)s, payload = known.payload::json, reasons = known.reasons::jsonb
    FROM known WHERE q.id = known.id
), opened AS (
    INSERT INTO integrations.quarantine
        (connection, stream, stage, external_id, hash, payload, reasons, attempts, parent_key, read_at, run_id,
         refresh_id, met)
    SELECT %(connection)s, %(stream)s, %(stage)s, external_id, hash, payload::json, reasons::jsonb, attempts,
           parent_key, %(read_at)s, %(run_id)s, %(refresh_id)s::uuid,
           CASE WHEN %(refresh_id)s::uuid IS NULL THEN 0 ELSE attempts END
    FROM known WHERE id IS NULL AND NOT gone
)
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail, call)
SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, %(decided)s, 'quarantined',
       reasons::jsonb -> 0 ->> 'message', jsonb_build_object('hash', encode(hash, 'hex'), 'reasons', reasons::jsonb),
       call
FROM known WHERE known_hash IS DISTINCT FROM hash AND NOT (id IS NULL AND gone)
"""

# Whether any row of the stream is in quarantine, so that the usual chunk needn't look for each of its keys.
ANY_OPEN = """
SELECT EXISTS (SELECT FROM integrations.quarantine
               WHERE connection = %(connection)s AND stream = %(stream)s AND stage = %(stage)s AND status = 'open')
"""

# Closes the open rows of these keys. The inner query makes it a look-up per key, however many are open.
HEAL = """
UPDATE integrations.quarantine q SET status = 'healed', closed_at = now(), run_id = %(run_id)s
WHERE q.id IN (
    SELECT (SELECT o.id FROM integrations.quarantine o
            WHERE o.connection = %(connection)s AND o.stream = %(stream)s AND o.stage = %(stage)s
              AND o.status = 'open' AND o.external_id = key)
    FROM unnest(%(keys)s::text[]) AS key)
"""

# Decisions about rows that left no other trace; one that repeats the record's latest decision is not written again.
DECIDE = """
INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail, call)
SELECT %(run_id)s, %(connection)s, %(stream)s, g.external_id, 'raw', g.decision, g.reason, g.detail::jsonb, g.call
FROM (SELECT DISTINCT * FROM unnest(%(keys)s::text[], %(decisions)s::text[], %(reasons)s::text[], %(details)s::text[],
      %(calls)s::bigint[]) AS u (external_id, decision, reason, detail, call)) AS g
LEFT JOIN LATERAL (
    SELECT d.decision, d.reason FROM integrations.decision d
    WHERE d.external_id = g.external_id AND d.stream = %(stream)s AND d.connection = %(connection)s
      AND d.stage = 'raw'
    ORDER BY d.at DESC LIMIT 1) AS latest ON true
WHERE (latest.decision, latest.reason) IS DISTINCT FROM (g.decision, g.reason)
"""


def storable_key(key: str | None) -> str | None:
    """The key where an index can hold it, else None: such a row is known by its hash."""
    if key is None or "\0" in key:
        return None
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return key if size <= EXTERNAL_ID_BYTES else None


def storable_text(text: str) -> str:
    """Text as PostgreSQL takes it: NUL and lone surrogates as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def storable(value: Any) -> Any:
    """The same document with texts that jsonb takes."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value


def jsonb_text(value: Any) -> str | None:
    """JSON text of anything, as jsonb takes it."""
    return None if value is None else encode_ascii(storable(value))


def quarantine(
    held: Holder,
    session: psycopg.Connection[Any],
    stage: Stage,
    rejected: Sequence[Rejection],
    parents: Mapping[bytes, str] | None = None,
    read_at: datetime | None = None,
    refresh_id: UUID | None = None,
    calls: Mapping[Any, int] | None = None,
) -> None:
    """Opens or repeats rows in quarantine, inside the caller's transaction. Of a key's repeats the last one is kept.

    ``parents``: hash → external id of the record that a row of a child stream is below. ``read_at``: of their page.
    ``refresh_id``: the full refresh that met them. ``calls``: hash → the call that brought it.
    """
    if not rejected:
        return
    latest: dict[Any, tuple[str | None, str, bytes, str]] = {}
    attempts: dict[Any, int] = {}
    for key, payload, digest, reasons in rejected:
        stored = storable_key(key)
        identity = digest if stored is None else stored
        latest[identity] = (stored, storable_text(payload), digest, str(jsonb_text(reasons)))
        attempts[identity] = attempts.get(identity, 0) + 1
    keys, payloads, digests, texts = map(list, zip(*latest.values(), strict=True))
    session.execute(
        QUARANTINE,
        {
            **held.names,
            "stage": stage,
            "decided": "raw" if stage == "boundary" else "canonical",
            "keys": keys,
            "payloads": payloads,
            "hashes": digests,
            "reasons": texts,
            "attempts": list(attempts.values()),
            "read_at": read_at,
            "refresh_id": refresh_id,
            "parents": [(parents or {}).get(digest) for digest in digests],
            "calls": [(calls or {}).get(digest) for digest in digests],
        },
    )
    held.quarantined[stage] = True


def any_open(held: Holder, session: psycopg.Connection[Any], stage: Stage) -> bool:
    """Whether rows of the stream may be open; asked once, since only the lease's holder opens any."""
    if stage not in held.quarantined:
        row = session.execute(ANY_OPEN, {**held.names, "stage": stage}).fetchone()
        held.quarantined[stage] = bool(row and row[0])
    return held.quarantined[stage]


def heal(held: Holder, session: psycopg.Connection[Any], stage: Stage, keys: Iterable[str | None]) -> None:
    """Closes the open rows of keys that came well."""
    stored = [key for key in map(storable_key, keys) if key is not None]
    session.execute(HEAL, {**held.names, "stage": stage, "keys": stored})


def decide(held: Holder, session: psycopg.Connection[Any], decisions: Sequence[Decision]) -> None:
    """Notes why rows weren't stored."""
    if not decisions:
        return
    session.execute(
        DECIDE,
        {
            **held.names,
            "keys": [storable_key(one[0]) for one in decisions],
            "decisions": [one[1] for one in decisions],
            "reasons": [storable_text(one[2]) for one in decisions],
            "details": [jsonb_text(one[3]) for one in decisions],
            "calls": [one[4] for one in decisions],
        },
    )
