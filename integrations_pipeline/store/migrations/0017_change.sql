-- Changes made here, on their way to the outside systems, and what to do where both sides changed the same field.

-- What both sides agreed on last is told per field: `base` is the source's value, and `sent` ours, where the source took
-- our value but keeps its own form of it. Ours has changed where it is neither; theirs where it isn't `base`.
ALTER TABLE integrations.link
    ADD COLUMN sent jsonb,                              -- field → our value, as it was written
    ADD COLUMN recheck boolean NOT NULL DEFAULT false,  -- may differ from ours although nobody edited ours since
    ADD COLUMN answered_version text COLLATE "C";       -- of the answer to our last write: an older row is late
CREATE INDEX link_recheck ON integrations.link (connection, stream) WHERE recheck;

-- Up to where edits made here were looked at for a stream that is written. A row of its own, so that looking never waits
-- for a chunk's commit, nor the other way round.
CREATE TABLE integrations.merge_state (
    connection   text NOT NULL,
    stream       text NOT NULL,
    merged_below xid8 NOT NULL DEFAULT '0',             -- edits stamped below are in the outbox
    declared     text,                                  -- digest of the `write` block; another one looks at all again
    PRIMARY KEY (connection, stream)
);

-- What is to be written to a source, one row per record and write.
--
--   queued ─ lease ─▶ sending ─ the source's answer ─▶ answered ─ landed ─▶ done
--     │ ▲               ├─ refused for now: told to wait, breaker, reference missing ─▶ queued, next_try_at
--     │ │               ├─ changed there meanwhile (409, 412) ─ merged again ─▶ queued
--     │ │               ├─ refused for good ─▶ dead ─ replay ─▶ queued,  dead ─ discard ─▶ discarded
--     │ │               └─ the answer was lost, or the process died ─▶ unsure
--     │ └── unsure ─ same key again, or read back and not found ──┐
--     │     unsure ─ read back and found ─▶ answered              ├─ a create that neither can settle ─▶ parked
--     │     parked ─ a person decides ─▶ queued | answered | discarded
--     └── nothing differs any more ─▶ done
--
-- At most one row of a record waits untried; a further edit changes that row. Once tried, what it sends stays as it is,
-- and the next edit waits behind it. A parked row holds up its own record only, a dead one nothing.
CREATE TABLE integrations.outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,    -- of one record's changes: in their order
    connection      text NOT NULL,
    stream          text NOT NULL,
    kind            text NOT NULL,
    canonical_id    uuid NOT NULL,
    external_id     text COLLATE "C",           -- null until a created record has one
    operation       text NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
    changes         jsonb NOT NULL,             -- field → our value, in the form of a link's base; all fields of a create
    before          jsonb,                      -- field → the source's value, as last known
    idempotency_key uuid NOT NULL DEFAULT gen_random_uuid(),    -- the same at each try
    edited_at       timestamptz NOT NULL,       -- when the edit was made here
    status          text NOT NULL DEFAULT 'queued' CHECK (status IN
                    ('queued', 'sending', 'unsure', 'answered', 'done', 'parked', 'dead', 'discarded')),
    tries           integer NOT NULL DEFAULT 0, -- leases that counted
    merges          integer NOT NULL DEFAULT 0, -- how often it was changed there meanwhile
    next_try_at     timestamptz,                -- of a queued or unsure one; null is at once
    lease_id        uuid,
    leased_until    timestamptz,
    first_sent_at   timestamptz,                -- committed before the first request left: how long a source keeps the key
    answer          jsonb,                      -- the record as the source answered, until it has landed
    outcome         text,                       -- of a done one: sent, read_back, nothing_to_send, gone …
    reason          jsonb,                      -- why it failed last, or waits; holds no secret
    run_id          uuid,
    queued_at       timestamptz NOT NULL DEFAULT now(),
    answered_at     timestamptz,
    finished_at     timestamptz,                -- done, dead, parked or discarded then
    CHECK ((status = 'sending') = (lease_id IS NOT NULL AND leased_until IS NOT NULL))
);
CREATE UNIQUE INDEX outbox_waiting ON integrations.outbox (connection, stream, canonical_id)
    WHERE status = 'queued' AND tries = 0;
CREATE INDEX outbox_open ON integrations.outbox (connection, stream, canonical_id, id)
    WHERE status IN ('queued', 'sending', 'unsure', 'parked');
CREATE INDEX outbox_answered ON integrations.outbox (connection, stream) WHERE status = 'answered';
CREATE INDEX outbox_record ON integrations.outbox (canonical_id);

-- What a person is to decide, one row per record and field. open → resolved (by a person) | settled (by the sides: they
-- say the same by now, or one of them took its change back). field '' is the whole record: deleted on one side, changed
-- on the other. While it is open the field is neither taken nor written; the values are kept up to date.
CREATE TABLE integrations.conflict (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    stream       text NOT NULL,
    external_id  text COLLATE "C" NOT NULL,
    kind         text NOT NULL,
    canonical_id uuid NOT NULL,
    field        text NOT NULL,
    base         jsonb,                         -- as last agreed; null where nothing was
    ours         jsonb,
    theirs       jsonb,
    reason       text NOT NULL,                 -- why it is here, for people
    status       text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'resolved', 'settled')),
    resolution   text CHECK (resolution IN ('ours', 'theirs', 'value')),
    resolved_by  text,
    run_id       uuid,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    closed_at    timestamptz
);
CREATE UNIQUE INDEX conflict_open ON integrations.conflict (connection, stream, external_id, field)
    WHERE status = 'open';
CREATE INDEX conflict_record ON integrations.conflict (canonical_id) WHERE status = 'open';
