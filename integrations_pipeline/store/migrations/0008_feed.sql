-- What a stream remembers of its feed of deletions, and by which declaration it was read.
ALTER TABLE integrations.stream_state ADD COLUMN feed jsonb;      -- {"asked", "bookmark", "watermark", "gap"}
ALTER TABLE integrations.stream_state ADD COLUMN declared jsonb;  -- {"key", "cursor", "version"}: an edit reads anew

-- What people should know of a run beside its counters and error.
ALTER TABLE integrations.run_log ADD COLUMN note text;
