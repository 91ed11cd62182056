"""The one statement that shapes a chunk: matches, canonical rows, links and decisions, composed for a kind's fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from psycopg import sql

from integrations_pipeline.store.agreed import THEIRS_AT

# One alternative of `match`: the live canonical rows with the same values that this stream doesn't link already.
MATCH = """
LEFT JOIN LATERAL (
    SELECT count(*) AS found, (array_agg(c.id))[1:5] AS ids FROM {canonical} c
    WHERE l.external_id IS NULL {unmatched} AND {same} AND c.deleted_at IS NULL
      AND NOT EXISTS (SELECT FROM (SELECT * FROM integrations.link WHERE canonical_id = c.id OFFSET 0) AS o
                      WHERE o.deleted_at IS NULL AND o.connection = %(connection)s AND o.stream = %(stream)s)
) AS {alternative} ON true
"""

# What becomes of each row, then canonical rows, links and decisions by it. A linked row says something else where its
# base differs from the one last agreed, or where a reference waited; `_changed` is null where all is new. Of several
# rows of the chunk that match the same canonical row the `first` one gets it. One that is back gets the row it had,
# unless another one of the stream has that by now: then one of its own, since a stream never has two live links to one
# row. `settled` is for the decisions only: the update itself keeps columns it doesn't change as they are at that
# moment, whatever an edit under way has just made of them.
SHAPE = """
WITH looked AS MATERIALIZED (
    SELECT s.*, l.ctid AS _link, l.canonical_id AS _linked, l.deleted_at IS NOT NULL AS _back,
           CASE WHEN l.deleted_at IS NOT NULL THEN EXISTS (
               SELECT FROM (SELECT * FROM integrations.link WHERE canonical_id = l.canonical_id OFFSET 0) AS o
               WHERE o.deleted_at IS NULL AND o.connection = %(connection)s AND o.stream = %(stream)s)
               ELSE false END AS _taken,
           l.base = s._base AND l.pending IS NOT DISTINCT FROM s._pending AS _same,
           CASE WHEN l.base IS NOT NULL AND l.deleted_at IS NULL THEN ARRAY(
               SELECT key FROM jsonb_each(s._base)
               WHERE l.pending ? key OR value IS DISTINCT FROM l.base -> key) END AS _changed,
           {found} AS _found, {ids} AS _ids, {by} AS _by
    FROM shaped s
    LEFT JOIN LATERAL (
        SELECT ctid, * FROM integrations.link l
        WHERE l.connection = %(connection)s AND l.stream = %(stream)s AND l.external_id = s._key OFFSET 0
    ) AS l ON true
    {matches}
), first AS (
    SELECT DISTINCT ON (wanted) _key FROM (
        SELECT _key, _back, CASE WHEN _back AND NOT _taken THEN _linked
                                 WHEN _linked IS NULL AND _found = 1 THEN _ids[1] END AS wanted FROM looked) AS of
    WHERE wanted IS NOT NULL ORDER BY wanted, _back DESC, _key
), judged AS MATERIALIZED (
    SELECT *, CASE _outcome WHEN 'matched' THEN _ids[1] WHEN 'created' THEN NULL ELSE _linked END AS _target,
           {own} AS _own FROM (
        SELECT *, CASE
            WHEN _back AND _key NOT IN (SELECT _key FROM first) THEN 'created'
            WHEN _linked IS NOT NULL
                THEN CASE WHEN NOT _back AND (_same OR _changed = '{{}}') THEN 'unchanged' ELSE 'updated' END
            WHEN _found > 1 THEN 'ambiguous'
            WHEN _found = 1 AND _key IN (SELECT _key FROM first) THEN 'matched'
            ELSE 'created' END AS _outcome
        FROM looked) AS decided
), settled AS MATERIALIZED (
    SELECT j._key, j._back, j._by, j._outcome, j._changed, to_jsonb(c) AS _old,
           (SELECT to_jsonb(final) FROM (SELECT {values}) AS final) AS _new
    FROM judged j JOIN {canonical} c ON c.id = j._target
    WHERE j._outcome IN ('updated', 'matched')
), created AS (
    INSERT INTO {canonical} (id, {fields})
    SELECT _new_id, {fields} FROM judged WHERE _outcome = 'created' ORDER BY _new_id
), updated AS (
    UPDATE {canonical} AS c SET {assignments}, deleted_at = CASE WHEN j._back THEN NULL ELSE c.deleted_at END
    FROM judged j
    WHERE c.id = j._target AND j._outcome IN ('updated', 'matched')
      AND (ROW({current}) IS DISTINCT FROM ROW({final}) OR (j._back AND c.deleted_at IS NOT NULL))
), linked AS (
    INSERT INTO integrations.link (connection, stream, external_id, kind, canonical_id, base, remote_version, pending,
                                   run_id)
    SELECT %(connection)s, %(stream)s, _key, %(kind)s, coalesce(_target, _new_id), _base, _version, _pending, %(run_id)s
    FROM judged WHERE _outcome IN ('created', 'matched') AND _link IS NULL ORDER BY _key
), relinked AS (
    UPDATE integrations.link l
    SET base = j._base, remote_version = j._version, pending = j._pending, deleted_at = NULL, deleted_here = false,
        sent = CASE WHEN NOT j._back THEN l.sent END, unread_at = CASE WHEN NOT j._back THEN l.unread_at END
    FROM judged j WHERE l.ctid = j._link AND j._outcome = 'updated'
), moved AS (
    UPDATE integrations.link l
    SET canonical_id = j._new_id, base = j._base, remote_version = j._version, pending = j._pending, deleted_at = NULL,
        deleted_here = false, sent = NULL, unread_at = NULL, recheck = false, linked_at = now(), run_id = %(run_id)s
    FROM judged j WHERE l.ctid = j._link AND j._outcome = 'created'
), noted AS (
    INSERT INTO integrations.decision (run_id, connection, stream, external_id, stage, decision, reason, detail)
    SELECT %(run_id)s, %(connection)s, %(stream)s, _key, 'canonical', _outcome,
        CASE WHEN _outcome = 'matched' THEN 'same ' || _by WHEN _back THEN 'it is back' END,
        (SELECT jsonb_object_agg(name, jsonb_build_array(_old -> name, _new -> name))
         FROM unnest(coalesce(_changed, {names})) AS name WHERE _new -> name IS DISTINCT FROM _old -> name)
    FROM settled
    UNION ALL
    SELECT %(run_id)s, %(connection)s, %(stream)s, _key, 'canonical', _outcome,
           'it is back, and another record has the one it had', NULL
    FROM judged WHERE _outcome = 'created' AND _back
)
SELECT _outcome, count(*),
       jsonb_object_agg(_key, jsonb_build_array(_by, _ids)) FILTER (WHERE _outcome = 'ambiguous')
FROM judged GROUP BY _outcome
"""

# Of a match with a record that we created there, its answer not known yet: the fields that show what was sent.
OWN = """
CASE WHEN _outcome = 'matched' THEN ARRAY(
    SELECT key FROM (SELECT * FROM integrations.outbox WHERE canonical_id = _ids[1] OFFSET 0) AS o,
                    jsonb_each(o.changes)
    WHERE o.connection = %(connection)s AND o.stream = %(stream)s AND o.operation = 'create'
      AND o.status IN ('sending', 'unsure', 'parked') AND value = _base -> key) END"""

# A field as it will be: as it is unless the source changed it; a match fills and doesn't empty, and what was sent is no
# change of the source's.
FINAL = """
CASE WHEN j._changed IS NOT NULL AND {name} <> ALL(j._changed) THEN c.{field}
     WHEN {name} = ANY(j._own) THEN c.{field}
     WHEN j._outcome = 'matched' THEN {joined} ELSE j.{field} END"""

# Of a match, where both have a value: the source's, ours, or the one that was changed last.
THEIRS = "coalesce(j.{field}, c.{field})"
OURS = "coalesce(c.{field}, j.{field})"
NEWEST = f"CASE WHEN {THEIRS_AT} >= c.edited_at THEN {THEIRS} ELSE {OURS} END"
JOINED = {"local_wins": OURS, "review": OURS, "newest_wins": NEWEST}


def shape_statement(
    canonical: sql.Identifier,
    names: Sequence[str],
    match: Sequence[Sequence[str]],
    policies: Mapping[str, str] = MappingProxyType({}),
) -> sql.Composed:
    """``SHAPE`` for a kind's fields and a stream's ways to match; ``policies``: of the fields that are written back."""
    tables = [f"m{number}" for number in range(len(match))]
    final = {name: final_value(name, policies.get(name, "remote_wins")) for name in names}
    return sql.SQL(SHAPE).format(
        canonical=canonical,
        own=sql.SQL(OWN if policies else "NULL::text[]"),
        fields=columns(names),
        names=sql.Literal(list(names)),
        current=columns(names, "c"),
        final=listed(final.values()),
        values=listed(sql.SQL("{} AS {}").format(final[name], sql.Identifier(name)) for name in names),
        assignments=listed(sql.SQL("{} = {}").format(sql.Identifier(name), final[name]) for name in names),
        matches=sql.SQL("").join([match_by(canonical, keys, tables[: n + 1]) for n, keys in enumerate(match)]),
        found=first_found(tables, [sql.Identifier(table, "found") for table in tables], sql.SQL("0")),
        ids=first_found(tables, [sql.Identifier(table, "ids") for table in tables], sql.SQL("NULL::uuid[]")),
        by=first_found(tables, [sql.Literal(" and ".join(keys)) for keys in match], sql.SQL("NULL::text")),
    )


def final_value(name: str, policy: str) -> sql.Composed:
    field, version = sql.Identifier(name), sql.Identifier("j", "_version")
    joined = sql.SQL(JOINED.get(policy, THEIRS)).format(field=field, version=version)
    return sql.SQL(FINAL).format(name=sql.Literal(name), field=field, joined=joined)


def match_by(canonical: sql.Identifier, keys: Sequence[str], tables: Sequence[str]) -> sql.Composed:
    """The last of the alternatives named by ``tables``, asked where the earlier ones found nothing."""
    earlier = [sql.SQL("AND {} = 0").format(sql.Identifier(table, "found")) for table in tables[:-1]]
    same = [sql.SQL(SAME).format(sql.Identifier("c", key), sql.Identifier("s", key)) for key in keys]
    return sql.SQL(MATCH).format(
        canonical=canonical,
        unmatched=sql.SQL(" ").join(earlier),
        same=sql.SQL(" AND ").join(same),
        alternative=sql.Identifier(tables[-1]),
    )


SAME = "{0} = {1} AND {1}::text <> ''"
"""Null and empty text are nobody's key."""


def first_found(tables: Sequence[str], values: Sequence[sql.Composable], otherwise: sql.SQL) -> sql.Composable:
    """The value that belongs to the first alternative that found any row."""
    cases = [
        sql.SQL("WHEN {} > 0 THEN {}").format(sql.Identifier(table, "found"), value)
        for table, value in zip(tables, values, strict=True)
    ]
    return sql.SQL("CASE {} ELSE {} END").format(sql.SQL(" ").join(cases), otherwise) if cases else otherwise


def columns(names: Iterable[str], table: str | None = None) -> sql.Composed:
    """``a, b`` or ``t.a, t.b``."""
    return listed(sql.Identifier(table, name) if table else sql.Identifier(name) for name in names)


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(list(parts))
