-- What all canonical tables share, and the state of each record.

-- Before an update that changes a field of the kind or deleted_at (the trigger's WHEN says so): stamps the edit.
CREATE FUNCTION integrations.stamp_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    NEW.edited_at := now();
    NEW.edit_stamp := pg_current_xact_id();
    RETURN NEW;
END $$;

-- Before a delete: live → deleted_at is set and the row stays; deleted → nothing happens. Whoever really means to
-- remove rows says SET integrations.purge = 'on'. A cascade is refused: the row would stay with a dangling reference.
CREATE FUNCTION integrations.keep_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('integrations.purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    IF pg_trigger_depth() > 1 AND EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = TG_RELID AND contype = 'f' AND confdeltype = 'c') THEN
        RAISE EXCEPTION '%.% keeps its rows, so a delete can''t cascade into it', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'foreign_key_violation', HINT = 'Declare the foreign key ON DELETE SET NULL.';
    END IF;
    EXECUTE format('UPDATE %I.%I SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL',
        TG_TABLE_SCHEMA, TG_TABLE_NAME) USING OLD.id;
    RETURN NULL;
END $$;

-- The state of each record, for people and reports.
-- state: quarantined (an open row; what raw holds of it, if anything, is older) | stored | deleted.
-- attempts: how often the quarantined row came, else 1. last_run: the run that decided about the record last.
CREATE VIEW integrations.record_state AS
WITH bad AS MATERIALIZED (
    SELECT connection, stream, external_id, sum(attempts)::integer AS attempts, max(last_seen) AS last_seen,
           (array_agg(reasons ORDER BY last_seen DESC))[1] AS reasons
    FROM integrations.quarantine
    WHERE status = 'open' AND external_id IS NOT NULL
    GROUP BY connection, stream, external_id
), held AS NOT MATERIALIZED (
    SELECT split_part(c.relname, '__', 1) AS connection, split_part(c.relname, '__', 2) AS stream,
           r.external_id, r.fetched_at, r.deleted_at
    FROM integrations.raw_record r JOIN pg_class c ON c.oid = r.tableoid
), known AS NOT MATERIALIZED (
    SELECT h.connection, h.stream, h.external_id,
           CASE WHEN b.external_id IS NOT NULL THEN 'quarantined'
                WHEN h.deleted_at IS NOT NULL THEN 'deleted' ELSE 'stored' END AS state,
           coalesce(b.attempts, 1) AS attempts, b.reasons AS last_error,
           greatest(h.fetched_at, h.deleted_at, b.last_seen) AS seen_at
    FROM held h
    LEFT JOIN bad b ON b.connection = h.connection AND b.stream = h.stream AND b.external_id = h.external_id
    UNION ALL
    SELECT b.connection, b.stream, b.external_id, 'quarantined', b.attempts, b.reasons, b.last_seen
    FROM bad b
    WHERE NOT EXISTS (SELECT FROM held h
        WHERE h.external_id = b.external_id AND h.connection = b.connection AND h.stream = b.stream)
)
SELECT k.connection, k.stream, k.external_id, k.state, d.run_id AS last_run, k.attempts, k.last_error,
       greatest(k.seen_at, d.at) AS updated_at
FROM known k
LEFT JOIN LATERAL (
    SELECT run_id, at FROM integrations.decision
    WHERE external_id = k.external_id AND stream = k.stream AND connection = k.connection
    ORDER BY at DESC LIMIT 1) d ON true
UNION ALL
SELECT connection, stream, NULL, 'quarantined', run_id, attempts, reasons, last_seen
FROM integrations.quarantine WHERE status = 'open' AND external_id IS NULL;
