"""What a feed of deletions does to the rows held. Its rows wait in the table `landing`, as other rows do.

absent ──▶ deleted (a tombstone for a key never seen is kept, where the feed names times), else unchanged
live   ──▶ deleted     the record keeps its payload
           superseded  the record is newer than its deletion, or this deletion was applied before and the record is back
gone   ──▶ unchanged
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeedOrder:
    """``timed``: the feed's rows say when; their version is that time. ``ordered``: the stream's records have versions
    of the source's own, which such times can be compared with (unless one is a time and the other is none). ``reason``
    stands in the decisions."""

    timed: bool
    ordered: bool
    reason: str = "in the feed of deletions"


# Judges each deletion against what is stored. A day compares with a time by its day. An entry that was applied before
# is known by its decision: only a record that is alive is looked up there.
DELETE = """
WITH compared AS MATERIALIZED (
    SELECT l.external_id, l.payload, l.hash, l.version, r.version AS held, r.external_id IS NULL AS is_new,
        r.deleted_at IS NOT NULL AS was_deleted,
        %(ordered)s AND (l.version ~ '^[0-9]{{4}}-') = (r.version ~ '^[0-9]{{4}}-') AS comparable,
        CASE WHEN 10 IN (length(l.version), length(r.version)) THEN 10 ELSE 100 END AS digits
    FROM landing l LEFT JOIN {raw} r ON r.external_id = l.external_id
    OFFSET 0
), judged AS MATERIALIZED (
    SELECT *, CASE
        WHEN is_new THEN CASE WHEN %(timed)s THEN 'deleted' ELSE 'unchanged' END
        WHEN was_deleted THEN 'still deleted'
        WHEN NOT %(timed)s THEN 'deleted'
        WHEN comparable AND left(version, digits) < left(held, digits) THEN 'superseded'
        WHEN EXISTS (
            SELECT FROM integrations.decision d
            WHERE d.external_id = compared.external_id AND d.stream = %(stream)s AND d.connection = %(connection)s
              AND d.stage = 'raw' AND d.decision = 'deleted' AND d.detail ->> 'deleted' = version) THEN 'superseded'
        ELSE 'deleted' END AS outcome
    FROM compared
), added AS (
    INSERT INTO {raw} (external_id, payload, hash, version, fetched_at, deleted_at)
    SELECT external_id, payload, hash, CASE WHEN %(ordered)s THEN version ELSE '' END, %(read_at)s, %(read_at)s
    FROM judged WHERE is_new AND outcome = 'deleted' ORDER BY external_id
), changed AS (
    UPDATE {raw} AS r SET
        deleted_at = coalesce(r.deleted_at, %(read_at)s),
        version = CASE WHEN %(timed)s AND j.comparable THEN greatest(r.version, left(j.version, j.digits))
                       ELSE r.version END,
        stamp = CASE j.outcome WHEN 'deleted' THEN pg_current_xact_id() ELSE r.stamp END
    FROM judged j
    WHERE r.external_id = j.external_id AND NOT j.is_new AND (j.outcome = 'deleted' OR (
        j.outcome = 'still deleted' AND %(timed)s AND j.comparable AND left(j.version, j.digits) > r.version))
), decided AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
    SELECT %(run_id)s, %(connection)s, %(stream)s, external_id, 'raw', 'deleted', %(reason)s,
        CASE WHEN %(timed)s THEN jsonb_build_object('deleted', version) END
    FROM judged WHERE outcome = 'deleted'
)
SELECT outcome, count(*) FROM judged GROUP BY outcome
"""

# A bad row whose record was deleted after it was last seen has nothing left to heal. Where the feed names no time, the
# bad row may be the newer one, and stays open.
HEAL_DELETED = """
UPDATE integrations.quarantine q SET status = 'healed', closed_at = now(), run_id = %(run_id)s
FROM landing l
WHERE q.connection = %(connection)s AND q.stream = %(stream)s AND q.stage = 'boundary' AND q.status = 'open'
  AND q.external_id = l.external_id
  AND CASE WHEN l.version ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}(T|$)'
           THEN coalesce(q.read_at, q.last_seen) < l.version::timestamptz ELSE false END
"""
