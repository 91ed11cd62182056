-- The limiter learns from the source's answers: a row '~ …' per connection and kind of request holds what they told.
--
-- pace: seconds from one request to the next, 0 where nothing was learned. A refusal ("too many requests") makes it longer,
-- each grant a little shorter. left_requests: what the source says it will still answer before left_until.
-- A stretch is a run of grants without idleness and without refusal: granted of them since stretch_at.
ALTER TABLE integrations.rate_limit
    ADD COLUMN pace double precision NOT NULL DEFAULT 0,
    ADD COLUMN slowed_at double precision NOT NULL DEFAULT 0,
    ADD COLUMN stretch_at double precision NOT NULL DEFAULT 0,
    ADD COLUMN number bigint NOT NULL DEFAULT 0,            -- of the latest grant
    ADD COLUMN granted integer NOT NULL DEFAULT 0,
    ADD COLUMN granted_at double precision NOT NULL DEFAULT 0,
    ADD COLUMN stretch_granted integer NOT NULL DEFAULT 0,  -- granted before the latest refusal, since stretch_at
    ADD COLUMN left_requests double precision NOT NULL DEFAULT 0,
    ADD COLUMN left_until double precision NOT NULL DEFAULT 0;

DROP FUNCTION integrations.reserve;

-- Takes one request from all buckets at once, if it may be sent within `ahead` seconds; answers whether it was taken and
-- after how many seconds it may be sent (or would). Buckets come sorted by name, so that no two callers deadlock.
-- interval: seconds per request; tolerance: how early a request may come, (burst - 1) * interval for the caller's
-- priority. A slot that lies ahead is booked at the time it is used, in every bucket: none is overdrawn by the delay.
-- learned: the row of what the source told. careful: whether anything of it holds now. number: the grant's own.
CREATE FUNCTION integrations.reserve(
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
    IF l.left_until > moment AND l.left_requests < 1 THEN
        wait := greatest(wait, l.left_until - moment);
    END IF;
    careful := l.pace > 0 OR l.left_until > moment OR told > moment;
    taken := wait <= ahead;
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
        UPDATE integrations.rate_limit r SET tat = moment + wait + l.pace, pace = l.pace * (1 - 1 / 400.0),
            number = r.number + 1, stretch_at = l.stretch_at, granted = l.granted + 1, stretch_granted = l.stretch_granted,
            granted_at = moment + wait,
            left_requests = l.left_requests - CASE WHEN l.left_until > moment + wait THEN 1 ELSE 0 END
            WHERE r.connection = of_connection AND r.bucket = learned;
    END IF;
END $$;

-- The source said "too many requests", and when it may be asked again. Nobody is granted one before; afterwards the pace
-- is what the stretch up to that time came to, and a bit. While a wait is told already, the answer is to a request sent
-- before: it teaches nothing new. uncounted: grants since `since` seconds that `reserve` wasn't asked for.
CREATE FUNCTION integrations.refused(
    of_connection text, learned text, wait double precision, uncounted integer, since double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment double precision;
    told double precision;
    answered integer;
    anew boolean;
    l integrations.rate_limit;
BEGIN
    INSERT INTO integrations.rate_limit (connection, bucket, tat) VALUES (of_connection, learned, 0)
        ON CONFLICT (connection, bucket) DO NOTHING;
    SELECT * INTO l FROM integrations.rate_limit WHERE connection = of_connection AND bucket = learned FOR UPDATE;
    INSERT INTO integrations.rate_limit (connection, bucket, tat) VALUES (of_connection, '', 0)
        ON CONFLICT (connection, bucket) DO NOTHING;
    moment := extract(epoch FROM clock_timestamp());
    SELECT told_until INTO told FROM integrations.rate_limit
        WHERE connection = of_connection AND bucket = '' FOR UPDATE;
    UPDATE integrations.rate_limit SET told_until = greatest(told_until, moment + wait)
        WHERE connection = of_connection AND bucket = '';
    IF told <= moment THEN
        IF uncounted > 0 AND l.granted = 0 AND l.stretch_granted = 0 THEN
            l.stretch_at := moment - since;
        END IF;
        answered := l.granted + uncounted - 1;  -- without the one that was refused
        anew := answered >= 3;
        IF anew AND l.stretch_granted > 0 THEN
            l.stretch_at := greatest(told, l.stretch_at);   -- it began when the latest wait was over
            l.stretch_granted := 0;
        END IF;
        l.stretch_granted := l.stretch_granted + greatest(answered, 0);
        -- A hundred answers before a long wait need no pace: keeping to the wait is enough, and quicker.
        IF l.stretch_granted >= 3 AND NOT (l.stretch_granted >= 100 AND wait >= 60) THEN
            l.pace := least(60, greatest(l.pace * CASE WHEN anew THEN 1.25 ELSE 1 END,
                1.05 * (moment + wait - l.stretch_at) / l.stretch_granted));
            l.slowed_at := moment;
        END IF;
        UPDATE integrations.rate_limit SET pace = l.pace, slowed_at = l.slowed_at, stretch_at = l.stretch_at,
            stretch_granted = l.stretch_granted, granted = 0, granted_at = moment
            WHERE connection = of_connection AND bucket = learned;
    END IF;
END $$;

-- The source said, in its answer to the grant of this number, how many requests it will still answer and for how long that
-- counts. It can't know of those granted since.
CREATE FUNCTION integrations.note_left(
    of_connection text, learned text, requests double precision, seconds double precision, answered bigint
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO integrations.rate_limit AS r (connection, bucket, tat, left_requests, left_until)
    VALUES (of_connection, learned, 0, requests, extract(epoch FROM clock_timestamp()) + seconds)
    ON CONFLICT (connection, bucket) DO UPDATE SET left_until = excluded.left_until,
        left_requests = excluded.left_requests - greatest(r.number - coalesce(answered, r.number), 0)
$$;
