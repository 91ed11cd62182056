-- Changes are sent in the order of their ids, and those that ended are taken away.
CREATE INDEX outbox_due ON integrations.outbox (connection, id) WHERE status IN ('queued', 'sending', 'unsure');
CREATE INDEX outbox_finished ON integrations.outbox (finished_at) WHERE status IN ('done', 'discarded');

-- Answers to our own writes land like other records, in a run of their own.
ALTER TABLE integrations.run_log DROP CONSTRAINT run_log_mode_check;
ALTER TABLE integrations.run_log ADD CONSTRAINT run_log_mode_check
    CHECK (mode IN ('incremental', 'full', 'backfill', 'events', 'immediately', 'push'));
