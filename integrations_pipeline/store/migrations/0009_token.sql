-- What sources granted at run time: access tokens, rotated refresh tokens, session values and cookies. One row per
-- connection, none → granted → granted anew …, or → refused until its secrets change (noted inside the value).
CREATE TABLE integrations.token (
    connection text PRIMARY KEY,
    value      bytea NOT NULL,              -- JSON, encrypted (Fernet) with INTEGRATIONS_KEY or the state folder's token.key
    key_name   text NOT NULL,               -- which key that was; gives nothing of it away
    seed       text NOT NULL,               -- SHA-256 of the first refresh token, to notice that it was replaced; else ''
    expires_at timestamptz,                 -- when it will be renewed; null where the source names no end
    updated_at timestamptz NOT NULL DEFAULT now()
);
