-- Every HTTP call that was made to the outside, each try and redirect its own row. Without headers, without secrets.
CREATE TABLE integrations.http_log (
    id             bigint NOT NULL,             -- given by the process that called; a record's decision names it
    at             timestamptz NOT NULL,        -- sent then
    connection     text NOT NULL,               -- '' of changes posted by `on_change`
    stream         text,                        -- null: credentials, a subscription, `check`
    run_id         uuid,                        -- null outside of a run
    method         text NOT NULL,
    url            text NOT NULL,
    attempt        integer NOT NULL,            -- the try of its request
    waited_seconds double precision NOT NULL,   -- held before it
    wait_reason    text,
    status         integer,                     -- null: no whole answer came
    seconds        double precision NOT NULL,   -- to the last byte of the answer
    sent_bytes     bigint NOT NULL,             -- of the bodies, unpacked
    received_bytes bigint NOT NULL,
    request_id     text,                        -- the source's own name of the exchange
    rows           integer,                     -- of a list's page
    outcome        text NOT NULL,               -- ok, end_of_list, ignore, or the class of the error
    error          text,
    request_body   text,                        -- the first characters, of failures; with `log_bodies: all` of all
    response_body  text
);
CREATE INDEX http_log_id ON integrations.http_log (id);
CREATE INDEX http_log_stream ON integrations.http_log (connection, stream, at);
CREATE INDEX http_log_age ON integrations.http_log USING brin (at);
