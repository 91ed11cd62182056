-- The rate limiter: a generic cell rate algorithm, one row per bucket, shared by all processes of a connection.
-- The row named '' of a connection holds only told_until.

-- Takes one request from all buckets at once, if it may be sent within `ahead` seconds; answers whether it was taken and
-- after how many seconds it may be sent (or would). Buckets come sorted by name, so that no two callers deadlock.
-- interval: seconds per request; tolerance: how early a request may come, (burst - 1) * interval for the caller's
-- priority. A slot that lies ahead is booked at the time it is used, in every bucket: none is overdrawn by the delay.
CREATE FUNCTION integrations.reserve(
    of_connection text, buckets text[], intervals double precision[], tolerances double precision[],
    ahead double precision, OUT taken boolean, OUT wait double precision
) LANGUAGE plpgsql AS $$
DECLARE
    tats double precision[] := '{}';
    found_tat double precision;
    moment double precision;
    told double precision;
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
    taken := wait <= ahead;
    IF taken THEN
        FOR i IN 1 .. cardinality(buckets) LOOP
            UPDATE integrations.rate_limit SET tat = greatest(tats[i], moment + wait) + intervals[i]
                WHERE connection = of_connection AND bucket = buckets[i];
        END LOOP;
    END IF;
END $$;
