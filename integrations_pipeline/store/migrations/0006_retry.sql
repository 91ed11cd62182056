-- Quarantined rows are tried again from what is stored.

-- A row of a child stream lands below its parent, also when it is tried again.
ALTER TABLE integrations.quarantine ADD COLUMN parent_key text COLLATE "C";
-- By the source's clock, as the version of a row that names none; last_seen is by ours.
ALTER TABLE integrations.quarantine ADD COLUMN read_at timestamptz;
-- A row that a person has discarded stays so when the source sends the very same again.
CREATE INDEX quarantine_discarded ON integrations.quarantine (connection, stream, stage, hash) WHERE status = 'discarded';

-- Of the rules that the rows in quarantine were last tried with; other ones try them again.
ALTER TABLE integrations.stream_state ADD COLUMN boundary_hash text;
