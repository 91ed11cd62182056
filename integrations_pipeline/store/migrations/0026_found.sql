-- What had been found to differ when a change was queued, beside what is sent of it (which its first try fixes: narrowed
-- to what can be sent, or widened to the whole record). A record that is looked at again is compared with it.
ALTER TABLE integrations.outbox ADD COLUMN found jsonb;     -- as `changes`; null of changes queued by older versions
