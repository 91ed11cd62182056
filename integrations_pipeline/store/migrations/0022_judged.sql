-- A poll judges the webhooks of its stream: what they told of and what only a poll found, of the changes that landed
-- before judged_to. The next poll goes on there. Null for a stream whose webhooks aren't judged.
ALTER TABLE integrations.stream_state
    ADD COLUMN judged_to     timestamptz,
    ADD COLUMN judged_missed bigint;            -- by the last poll that judged: while it is 0, polls may be rarer

ALTER TABLE integrations.run_log                -- null where the run judged nothing
    ADD COLUMN webhooks_told          bigint,
    ADD COLUMN webhooks_missed        bigint,
    ADD COLUMN webhooks_delay_seconds double precision;  -- median, from the time an event names to its arrival
