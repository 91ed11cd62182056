-- The circuit breaker: one row per connection that ever failed, shared by all its processes, by the database's clock.
--
--            failures reach the bound                    retry_at has come: one caller takes the probe
--   closed ──────────────────────────────▶ open ──────────────────────────────────────────────▶ half open
--     ▲ a success sets failures to 0        ▲  the probe failed: the pause doubles, up to a cap        │
--     │                                     └──────────────────────────────────────────────────────────┤
--     └─────────────────────────────────────────────────────────────── the probe succeeded ───────────┘
--
-- closed: opened_at is null. open: opened_at is set. half open: open, and probe_until lies ahead. A prober that dies
-- lets probe_until pass, and the next caller takes the probe. The outcome of a probe that was taken over counts nothing.
CREATE TABLE integrations.breaker (
    connection   text PRIMARY KEY,
    failures     integer NOT NULL DEFAULT 0,    -- failed tries in a row
    reason       text,                          -- the latest failure, in words
    opened_at    timestamptz,                   -- since when calls are paused
    pauses       integer NOT NULL DEFAULT 0,    -- pauses since then
    retry_at     timestamptz,                   -- no call before
    probe        uuid,                          -- who probes
    probe_until  timestamptz,                   -- and until when at the latest
    retries_left double precision,              -- the budget of retries; null is full
    retries_at   timestamptz NOT NULL DEFAULT clock_timestamp()  -- when it was counted
);
