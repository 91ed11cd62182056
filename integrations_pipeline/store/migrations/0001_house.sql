-- The house's first tables: what the record path needs. Each state machine is written beside its table.
-- Change stamps are pg_current_xact_id(): a reader takes rows at or past its mark and below
-- pg_snapshot_xmin(pg_current_snapshot()), since sequences don't commit in order.

CREATE SCHEMA IF NOT EXISTS integrations;    -- the migration makes it first, for its version table
CREATE SCHEMA raw;
CREATE SCHEMA canonical;

-- The parent of every raw.<connection>__<stream>: they inherit its columns, so one query reads them all.
CREATE TABLE integrations.raw_record (
    external_id text COLLATE "C" NOT NULL,      -- the primary key; a composite one as a JSON array
    payload     jsonb NOT NULL,                 -- the record as the source gave it, with what `include` added
    hash        bytea NOT NULL,                 -- blake2b-128 of the payload with sorted keys
    version     text COLLATE "C" NOT NULL,      -- the source's own order: ISO time in UTC, or a number padded to 20 digits
    fetched_at  timestamptz NOT NULL,           -- when the page that brought it was read
    deleted_at  timestamptz,                    -- tombstone
    parent_key  text COLLATE "C",               -- of a child stream: the external id of its parent record
    stamp       xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- One row per stream (parent_key = '') and one per parent of a child stream.
-- lease_epoch fences one writer: taking the lease adds one, each page commit compares it.
-- refresh_id names one full refresh under way: null → id (started) → null (completed, tombstones set).
CREATE TABLE integrations.stream_state (
    connection        text NOT NULL,
    stream            text NOT NULL,
    parent_key        text COLLATE "C" NOT NULL DEFAULT '',  -- an external id, and compared with them by the index
    bookmark          jsonb,                    -- where a list under way goes on; null between lists
    watermark         jsonb,                    -- up to where a completed list has read
    lease_epoch       bigint NOT NULL DEFAULT 0,
    refresh_id        uuid,
    probe             jsonb,                    -- etag or last_modified of the last complete read
    shaped_below      xid8,                     -- rows stamped below are shaped
    mapping_hash      text,                     -- of the mapping they were shaped with; another one reshapes all
    round             jsonb,                    -- a child stream's pass over its parents under way
    last_success      timestamptz,
    last_full_refresh timestamptz,
    error_count       integer NOT NULL DEFAULT 0,   -- failures in a row
    last_error        jsonb,
    resume_at         timestamptz,              -- a deferred stream goes on then
    active            boolean NOT NULL DEFAULT true, -- disconnect sets it false
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection, stream, parent_key)
);

-- One row per stream and run. running → succeeded | deferred | failed. The counters balance in every committed row.
CREATE TABLE integrations.run_log (
    run_id      uuid NOT NULL,
    connection  text NOT NULL,
    stream      text NOT NULL,
    mode        text NOT NULL CHECK (mode IN ('incremental', 'full')),
    status      text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'deferred', 'failed')),
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    fetched     bigint NOT NULL DEFAULT 0,
    created     bigint NOT NULL DEFAULT 0,
    updated     bigint NOT NULL DEFAULT 0,
    unchanged   bigint NOT NULL DEFAULT 0,
    deleted     bigint NOT NULL DEFAULT 0,
    skipped     bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    superseded  bigint NOT NULL DEFAULT 0,
    tombstoned  bigint NOT NULL DEFAULT 0,      -- by a full refresh: not fetched, so outside the balance
    pages       bigint NOT NULL DEFAULT 0,
    requests    bigint NOT NULL DEFAULT 0,
    waited_seconds double precision NOT NULL DEFAULT 0,
    shaped      jsonb,
    error       jsonb,
    resume_at   timestamptz,
    PRIMARY KEY (run_id, connection, stream),
    CONSTRAINT run_balances CHECK (fetched = created + updated + unchanged + deleted + skipped + quarantined + superseded)
);
CREATE INDEX run_log_latest ON integrations.run_log (connection, stream, started_at DESC);

-- Keys a full refresh under way has seen; emptied when it completes.
CREATE TABLE integrations.seen (
    connection  text NOT NULL,
    stream      text NOT NULL,
    refresh_id  uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (connection, stream, refresh_id, external_id)
);

-- Bad data in. open → healed (a good version came, or a retry passed) | discarded (by a person).
CREATE TABLE integrations.quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection  text NOT NULL,
    stream      text NOT NULL,
    stage       text NOT NULL CHECK (stage IN ('boundary', 'mapping')),
    external_id text COLLATE "C",               -- null where no key could be read, or one too long for an index
    hash        bytea NOT NULL,
    payload     json NOT NULL,                  -- json, not jsonb: it keeps what jsonb refuses (\u0000, lone surrogates)
    reasons     jsonb NOT NULL,                 -- [{"rule", "field", "message", "sample"}]
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'healed', 'discarded')),
    attempts    integer NOT NULL DEFAULT 1,
    run_id      uuid,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    last_seen   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz
);
CREATE UNIQUE INDEX quarantine_open_key ON integrations.quarantine (connection, stream, stage, external_id)
    WHERE status = 'open' AND external_id IS NOT NULL;
CREATE UNIQUE INDEX quarantine_open_hash ON integrations.quarantine (connection, stream, stage, hash)
    WHERE status = 'open' AND external_id IS NULL;

-- Canonical id ↔ external id, with the last values both sides agreed on.
CREATE TABLE integrations.link (
    connection     text NOT NULL,
    stream         text NOT NULL,
    external_id    text COLLATE "C" NOT NULL,
    kind           text NOT NULL,
    canonical_id   uuid NOT NULL,
    base           jsonb NOT NULL,              -- canonical field → value, as last agreed
    remote_version text COLLATE "C",
    pending        jsonb,                       -- references not found yet: {"field": {"stream", "external_id"}}
    deleted_at     timestamptz,
    PRIMARY KEY (connection, stream, external_id)
);
CREATE INDEX link_canonical ON integrations.link (canonical_id);
CREATE INDEX link_pending ON integrations.link (connection, stream) WHERE pending IS NOT NULL;

-- Why a record was created, updated, deleted, skipped, matched, merged, superseded, quarantined, discarded.
-- Unchanged rows are only counted.
CREATE TABLE integrations.decision (
    at          timestamptz NOT NULL DEFAULT now(),
    run_id      uuid,
    connection  text NOT NULL,
    stream      text NOT NULL,
    external_id text COLLATE "C",
    stage       text NOT NULL,                  -- raw, canonical (later: merge, push, event)
    decision    text NOT NULL,
    reason      text,
    detail      jsonb                           -- {"field": [from, to]} and what else explains it
);
CREATE INDEX decision_record ON integrations.decision (external_id, stream, connection);
CREATE INDEX decision_age ON integrations.decision USING brin (at);

-- One row per bucket: the GCRA's theoretical arrival time, in seconds since the epoch by the database's clock.
CREATE TABLE integrations.rate_limit (
    connection text NOT NULL,
    bucket     text NOT NULL,
    tat        double precision NOT NULL,
    told_until double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (connection, bucket)
);
