-- When a write was taken whose answer didn't say what the source made of it: what was read before that tells nothing of it.
-- Null once the record was read.
ALTER TABLE integrations.link ADD COLUMN unread_at timestamptz;
