-- A backfill reads an old window again. It is in the log, and the stream remembers nothing of it.
ALTER TABLE integrations.run_log DROP CONSTRAINT run_log_mode_check;
ALTER TABLE integrations.run_log ADD CONSTRAINT run_log_mode_check CHECK (mode IN ('incremental', 'full', 'backfill'));
