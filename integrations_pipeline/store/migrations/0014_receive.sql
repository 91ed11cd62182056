-- Events are applied: each remembers which record it spoke of, so that a late one is known to be late. A run that applies
-- events is in the log: `events` where Dagster or a person started it, `immediately` where the gateway did.
ALTER TABLE integrations.inbox
    ADD COLUMN stream text,                     -- of a done one that spoke of one record: whose
    ADD COLUMN external_id text COLLATE "C";    -- and which
CREATE INDEX inbox_record ON integrations.inbox (connection, stream, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX inbox_finished ON integrations.inbox (finished_at) WHERE status IN ('done', 'discarded');

ALTER TABLE integrations.run_log DROP CONSTRAINT run_log_mode_check;
ALTER TABLE integrations.run_log ADD CONSTRAINT run_log_mode_check
    CHECK (mode IN ('incremental', 'full', 'backfill', 'events', 'immediately'));
