-- Events that webhooks brought. One row is one event; what was acknowledged to its sender is here, committed before.
--
--   received ─ lease ─▶ leased ─ apply ─▶ done
--      ▲                  │
--      ├── give_back ─────┤   the run ended before its turn came: that was no try
--      ├── fail ──────────┤   tried again at next_try_at, and later each time
--      ├── lease ran out ─┤   its run was killed: any lease takes it again, in a smaller batch
--      │                  └── fail, or the lease ran out, at the last try ─▶ dead ─ discard ─▶ discarded
--      └── replay ───────────────── done, dead, discarded                   (received may be discarded too)
CREATE TABLE integrations.inbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in order of arrival
    connection   text NOT NULL,
    event_id     text COLLATE "C" NOT NULL,     -- `event_id`; the hash where there is none, or one too long for an index
    hash         bytea NOT NULL,                -- blake2b-128 of the event: the same id with another body is another fact
    event_type   text,
    order_value  text COLLATE "C",              -- `order_by`, sortable like a record's version; null where it has no order
    payload      json NOT NULL,                 -- the event, one item of `each`; json keeps what jsonb refuses (\u0000)
    headers      jsonb NOT NULL,                -- only those that type, id and order are read from; never a signature
    received_at  timestamptz NOT NULL DEFAULT now(),
    status       text NOT NULL DEFAULT 'received'
                 CHECK (status IN ('received', 'leased', 'done', 'dead', 'discarded')),
    tries        integer NOT NULL DEFAULT 0,    -- leases that counted
    next_try_at  timestamptz,                   -- of a received one; null is at once
    lease_id     uuid,
    leased_until timestamptz,
    outcome      text,                          -- of a done one: applied, unchanged, superseded, unknown_type …
    reason       jsonb,                         -- why it failed last
    finished_at  timestamptz,                   -- done, dead or discarded then
    UNIQUE (connection, event_id, hash),
    CHECK ((status = 'leased') = (lease_id IS NOT NULL AND leased_until IS NOT NULL))
);
CREATE INDEX inbox_open ON integrations.inbox (connection, id) WHERE status IN ('received', 'leased');
CREATE INDEX inbox_status ON integrations.inbox (connection, status);

-- What can't be done, with its reason, until a person decides. open → replayed | discarded.
CREATE TABLE integrations.dead_letter (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin     text NOT NULL CHECK (origin IN ('inbox', 'outbox', 'delivery')),
    origin_id  bigint NOT NULL,                 -- the row there, which holds the payload
    connection text NOT NULL,
    reason     jsonb NOT NULL,                  -- {"class", "message", "where", "who", "next"}
    tries      integer NOT NULL,
    status     text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'discarded')),
    died_at    timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz
);
CREATE UNIQUE INDEX dead_letter_open ON integrations.dead_letter (origin, origin_id) WHERE status = 'open';
CREATE INDEX dead_letter_connection ON integrations.dead_letter (connection, status);
