-- What is wrong and who was told. An alert is one condition of a stream (or of a whole connection: stream '').
--
--   open ─ the condition is gone ─▶ healed, kept for a while; the same condition again is a new alert
--
-- held: it follows from another open alert (a source that is down has stale streams): it is neither told nor healed.
CREATE TABLE integrations.alert (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection text NOT NULL,
    stream     text NOT NULL,
    condition  text NOT NULL,                   -- downtime, freshness, run_failure, zero_records …
    severity   text NOT NULL CHECK (severity IN ('warning', 'error')),
    what       text NOT NULL,                   -- what, who and next are for people, and hold no secret
    who        text NOT NULL,
    next       text NOT NULL,
    since      timestamptz NOT NULL,            -- when it began, as far as that is known
    run_id     uuid,                            -- the run that shows it
    held       boolean NOT NULL DEFAULT false,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    healed_at  timestamptz
);
CREATE UNIQUE INDEX alert_open ON integrations.alert (connection, stream, condition) WHERE healed_at IS NULL;
CREATE INDEX alert_healed ON integrations.alert (healed_at) WHERE healed_at IS NOT NULL;

-- One row per alert and destination that was to be told, made when it is claimed first.
--
--   told: null ─▶ broken ─ remind has passed ─▶ broken, told_at anew ─ the alert healed ─▶ healed
--
-- Each of these is claimed by one process, sent, and settled: told, or tried again at next_try_at. A claim of a process
-- that died ends at claimed_until, and is sent again: at least once, and once where nothing dies.
CREATE TABLE integrations.alert_notice (
    alert_id      bigint NOT NULL REFERENCES integrations.alert ON DELETE CASCADE,
    destination   text NOT NULL,                -- the name of the variable that holds the URL
    told          text CHECK (told IN ('broken', 'healed')),
    told_at       timestamptz,
    claim         uuid NOT NULL,
    claimed_until timestamptz,
    version       integer NOT NULL DEFAULT 1,   -- counts claims: of two that saw the same row, one gets it
    tries         integer NOT NULL DEFAULT 0,   -- that failed since it was told last
    next_try_at   timestamptz,
    reason        text,                         -- why the last one failed; holds no secret
    PRIMARY KEY (alert_id, destination)
);
