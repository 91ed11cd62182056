-- A watermark that is no time stays at what the source surely had when the list began: what the list showed past it is
-- kept, since the next list begins after that.
ALTER TABLE integrations.stream_state ADD COLUMN highest jsonb;
