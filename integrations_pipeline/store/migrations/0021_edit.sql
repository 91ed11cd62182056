-- Edits that came through the gateway, so that whoever made one can follow it. What it became is told by the outbox.
CREATE TABLE integrations.edit (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind            text NOT NULL,
    record_id       uuid NOT NULL,
    operation       text NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
    stamp           xid8 NOT NULL DEFAULT pg_current_xact_id(),     -- as the record's edit_stamp
    edited_at       timestamptz NOT NULL DEFAULT now(),             -- as the record's edited_at
    idempotency_key text,                                           -- of a create: the same key makes no second record
    request_hash    bytea                                           -- what was asked for with it
);
CREATE UNIQUE INDEX edit_idempotency ON integrations.edit (kind, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX edit_age ON integrations.edit (edited_at);
