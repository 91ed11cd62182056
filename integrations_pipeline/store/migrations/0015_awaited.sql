-- After a wait, at a source that says how much is left, one request goes first and the others wait for what it is told.
ALTER TABLE integrations.rate_limit ADD COLUMN awaited boolean NOT NULL DEFAULT false;

-- Takes one request from all buckets at once, if it may be sent within `ahead` seconds; answers whether it was taken and
-- after how many seconds it may be sent (or would). Buckets come sorted by name, so that no two callers deadlock.
-- interval: seconds per request; tolerance: how early a request may come, (burst - 1) * interval for the caller's
-- priority. A slot that lies ahead is booked at the time it is used, in every bucket: none is overdrawn by the delay.
-- A slot beyond a wait that was told isn't booked: what comes after it is known only when it is over.
-- learned: the row of what the source told. careful: whether anything of it holds now. number: the grant's own.
CREATE OR REPLACE FUNCTION integrations.reserve(
    of_connection text, buckets text[], intervals double precision[], tolerances double precision[],
    ahead double precision, learned text,
    OUT taken boolean, OUT wait double precision, OUT careful boolean, OUT number bigint
) LANGUAGE plpgsql AS $$
DECLARE
    tats double precision[] := '{}';
    found_tat double precision;
    moment double precision;
    told double precision;
    l integrations.rate_limit;
    blocked boolean;
BEGIN
    FOR i IN 1 .. cardinality(buckets) LOOP
        SELECT tat INTO found_tat FROM integrations.rate_limit
            WHERE connection = of_connection AND bucket = buckets[i] FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO integrations.rate_limit (connection, bucket, tat) VALUES (of_connection, buckets[i], 0)
                ON CONFLICT (connection, bucket) DO UPDATE SET tat = rate_limit.tat RETURNING tat INTO found_tat;
        END IF;
        tats := tats || found_tat;
    END LOOP;
    SELECT * INTO l FROM integrations.rate_limit WHERE connection = of_connection AND bucket = learned FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO integrations.rate_limit (connection, bucket, tat) VALUES (of_connection, learned, 0)
            ON CONFLICT (connection, bucket) DO UPDATE SET tat = rate_limit.tat RETURNING * INTO l;
    END IF;
    told := coalesce((SELECT told_until FROM integrations.rate_limit
        WHERE connection = of_connection AND bucket = ''), 0);
    moment := extract(epoch FROM clock_timestamp());    -- after the locks, so that waiting for them is no lost time
    wait := greatest(told - moment, 0);
    FOR i IN 1 .. cardinality(buckets) LOOP
        -- A time further ahead than anybody books means that the clock was set back.
        tats[i] := least(tats[i], moment + tolerances[i] + 2 * intervals[i] + 86400);
        -- When a wait that was told is over, the bucket starts empty.
        tats[i] := greatest(tats[i], moment, CASE WHEN told > moment THEN told + tolerances[i] ELSE 0 END);
        wait := greatest(wait, tats[i] - tolerances[i] - moment);
    END LOOP;
    -- What was learned is forgotten after an hour without a refusal, or when the declared limits are as strict.
    IF l.slowed_at < moment - 3600 OR l.pace < 0.001 OR l.pace <= (SELECT max(one) FROM unnest(intervals) AS one) THEN
        l.pace := 0;
    ELSE
        wait := greatest(wait, least(l.tat, moment + 2 * l.pace + 86400) - moment);
    END IF;
    IF l.awaited AND l.left_until <= moment THEN    -- the answer told nothing, or hasn't come
        l.awaited := false;
        l.left_until := 0;
    END IF;
    blocked := told > moment OR (l.left_until > moment AND l.left_requests < 1);
    IF blocked THEN
        wait := greatest(wait, CASE WHEN l.left_requests < 1 THEN l.left_until - moment ELSE 0 END);
    END IF;
    careful := l.pace > 0 OR l.left_until > moment - 3600 OR told > moment;
    taken := wait <= ahead AND NOT blocked;
    number := l.number + 1;
    IF taken THEN
        FOR i IN 1 .. cardinality(buckets) LOOP
            UPDATE integrations.rate_limit SET tat = greatest(tats[i], moment + wait) + intervals[i]
                WHERE connection = of_connection AND bucket = buckets[i];
        END LOOP;
        -- An idle time ends a stretch: it says nothing of how fast is too fast.
        IF moment - greatest(l.granted_at, told) > greatest(5, 3 * l.pace) THEN
            l.stretch_at := moment;
            l.granted := 0;
            l.stretch_granted := 0;
        END IF;
        -- The first after a wait, at a source that says how much is left: its answer will tell for how many there is
        -- room. Until then, or for a quarter of a second, the others stay behind.
        IF NOT l.awaited AND l.left_until > moment - 3600 AND l.granted_at < greatest(told, l.left_until)
            AND greatest(told, l.left_until) <= moment THEN
            l.awaited := true;
            l.left_requests := 1;
            l.left_until := moment + wait + 0.25;
        END IF;
        UPDATE integrations.rate_limit r SET tat = moment + wait + l.pace, pace = l.pace * (1 - 1 / 400.0),
            number = r.number + 1, stretch_at = l.stretch_at, granted = l.granted + 1, stretch_granted = l.stretch_granted,
            granted_at = moment + wait,
            awaited = l.awaited, left_until = l.left_until, left_requests = l.left_requests - CASE WHEN l.left_until > moment + wait THEN 1 ELSE 0 END
            WHERE r.connection = of_connection AND r.bucket = learned;
    END IF;
END $$;

-- The source said, in its answer to the grant of this number, how many requests it will still answer and for how long that
-- counts; null seconds: there are plenty. It can't know of those granted since.
CREATE OR REPLACE FUNCTION integrations.note_left(
    of_connection text, learned text, requests double precision, seconds double precision, answered bigint
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO integrations.rate_limit AS r (connection, bucket, tat, left_requests, left_until)
    VALUES (of_connection, learned, 0, requests, coalesce(extract(epoch FROM clock_timestamp()) + seconds, 0))
    ON CONFLICT (connection, bucket) DO UPDATE SET awaited = false, left_until = excluded.left_until,
        left_requests = excluded.left_requests - greatest(r.number - coalesce(answered, r.number), 0)
$$;
