-- Rows whose key can't be read: which record each is, nobody can tell, so a full refresh that brings one it hadn't met
-- can't know which record is gone.
ALTER TABLE integrations.quarantine ADD COLUMN refresh_id uuid;                      -- the full refresh that met it last,
ALTER TABLE integrations.quarantine ADD COLUMN met integer NOT NULL DEFAULT 0;       -- how often,
ALTER TABLE integrations.quarantine ADD COLUMN met_before integer NOT NULL DEFAULT 0; -- and how often the one before did

-- Live records that such a refresh lacked: kept until they are seen again, or no row without a key is left.
CREATE TABLE integrations.missing (
    connection  text NOT NULL,
    stream      text NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (connection, stream, external_id)
);
