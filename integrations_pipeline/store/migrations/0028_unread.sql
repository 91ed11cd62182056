-- When a write was taken whose answer didn't say what the source made of it. Null once the record was read.
ALTER TABLE integrations.link ADD COLUMN unread_at timestamptz;
CREATE INDEX link_unread ON integrations.link (connection, stream) WHERE unread_at IS NOT NULL;
