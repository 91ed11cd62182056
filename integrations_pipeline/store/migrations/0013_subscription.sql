-- What was registered at providers so that they send their webhooks here. One row per connection and event subscribed to
-- ('' where one call covers all): none → subscribed → renewed before expires_at …, or → removed by `disconnect`.
CREATE TABLE integrations.subscription (
    connection text NOT NULL,
    event      text NOT NULL,
    value      bytea NOT NULL,              -- JSON of what `keep` kept, encrypted as in integrations.token
    key_name   text NOT NULL,               -- which key that was; gives nothing of it away
    url        text NOT NULL,               -- the address that was registered
    declared   text NOT NULL,               -- digest of the call that did it: another one means to subscribe anew
    expires_at timestamptz,                 -- when the provider ends it; null where it names no end
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection, event)
);
