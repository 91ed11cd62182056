-- Changes of canonical records on their way to the team's own addresses (`on_change` of a kind), one row per change and
-- address, written by a trigger in the transaction of the change. Tables of kinds without `on_change` have no trigger.
--
-- queued ──▶ delivered              the address took it; the row stays for a week
--        └─▶ queued, next_try_at    it did not; later changes of the same record wait behind it
--        └─▶ dead                   after the last try, with a row in dead_letter; later changes go on
CREATE TABLE integrations.delivery (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- of one record's changes: in their order
    message_id   uuid NOT NULL DEFAULT gen_random_uuid(),           -- the same at each try: who gets it twice can tell
    kind         text NOT NULL,
    record_id    uuid NOT NULL,
    target       text NOT NULL,                                     -- which address: 'env NAME' or 'file PATH' of its `url`
    change       text NOT NULL CHECK (change IN ('created', 'updated', 'deleted')),
    before       jsonb,                                             -- null where it was created
    after        jsonb NOT NULL,
    status       text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'delivered', 'dead')),
    tries        integer NOT NULL DEFAULT 0,
    next_try_at  timestamptz,
    reason       text,                                              -- of the last try that failed; holds no secret
    changed_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE INDEX delivery_queue ON integrations.delivery (target, record_id, id) WHERE status = 'queued';
CREATE INDEX delivery_finished ON integrations.delivery (finished_at) WHERE status = 'delivered';

-- After each statement on a canonical table with `on_change`; the arguments are its targets.
CREATE FUNCTION integrations.queue_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO integrations.delivery (kind, record_id, target, change, after)
    SELECT TG_TABLE_NAME, n.id, t.target, 'created', to_jsonb(n) - '{edit_stamp,edited_at}'::text[]
    FROM fresh n CROSS JOIN unnest(TG_ARGV) AS t(target);
    RETURN NULL;
END $$;

-- A version that moved is a change (stamp_edit); a deleted record that is back was created anew.
CREATE FUNCTION integrations.queue_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO integrations.delivery (kind, record_id, target, change, before, after)
    SELECT TG_TABLE_NAME, n.id, t.target,
        CASE WHEN n.deleted_at IS NOT NULL AND o.deleted_at IS NULL THEN 'deleted'
             WHEN n.deleted_at IS NULL AND o.deleted_at IS NOT NULL THEN 'created' ELSE 'updated' END,
        to_jsonb(o) - '{edit_stamp,edited_at}'::text[], to_jsonb(n) - '{edit_stamp,edited_at}'::text[]
    FROM fresh n JOIN stale o ON o.id = n.id AND o.version <> n.version CROSS JOIN unnest(TG_ARGV) AS t(target);
    RETURN NULL;
END $$;
