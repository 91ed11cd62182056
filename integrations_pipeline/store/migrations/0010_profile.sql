-- Drift: what a stream's accepted rows usually look like, one row per field path, and what differs from it.

CREATE TABLE integrations.profile (
    connection text NOT NULL,
    stream     text NOT NULL,
    path       text NOT NULL,                   -- properties.email
    rows       bigint NOT NULL,                 -- looked at since the path was first met
    filled     bigint NOT NULL,                 -- of them with a value that isn't null
    missing    bigint NOT NULL,                 -- in a row without one, the last ones
    types      jsonb NOT NULL,                  -- {"text": 12}: JSON's types, counted
    "values"   jsonb,                           -- the distinct ones while they are few, else null
    PRIMARY KEY (connection, stream, path)
);

-- A difference from the profile. open → ended (gone, back, or named by the file) | accepted (by a person: the profile
-- takes it over). One that comes again after it ended is a new finding.
CREATE TABLE integrations.drift (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection text NOT NULL,
    stream     text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('new_field', 'vanished_field', 'changed_type', 'new_value')),
    path       text NOT NULL,
    severity   text NOT NULL CHECK (severity IN ('warning', 'error')),  -- error: the mapping reads the field
    found      jsonb NOT NULL,                  -- the new types or values
    samples    jsonb NOT NULL,                  -- of what looks personal the form only
    rows       bigint NOT NULL,                 -- that showed it,
    looked     bigint NOT NULL,                 -- of those looked at
    calm       bigint NOT NULL,                 -- looked at since then
    status     text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'ended', 'accepted')),
    reason     text,
    run_id     uuid,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz
);
CREATE UNIQUE INDEX drift_open ON integrations.drift (connection, stream, kind, path) WHERE status = 'open';
