-- Calendar windows: when local days begin, in the time zones that PostgreSQL knows.

SET LOCAL search_path = dovetail_internal;

-- How far clocks of a zone are ahead of UTC.
CREATE FUNCTION zone_offset(at timestamptz, zone text) RETURNS interval
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC');

-- The first instant at which calendars in the zone show this day or a later one.
--
-- That is midnight, but where clocks jump over midnight or go back to it: there PostgreSQL's own
-- answer is a time that does not exist moved on, or the second of two midnights. So where the offset
-- changed not long ago, the stretches of one offset are walked through: from each change the next
-- one is found by bisection between hours with different offsets.
CREATE FUNCTION day_start(day date, zone text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    midnight  timestamptz := day::timestamp AT TIME ZONE zone;
    stretch   timestamptz := midnight - interval '50 hours';
    current   interval := dovetail_internal.zone_offset(stretch, zone);
    hour      timestamptz;
    low       timestamptz;
    high      timestamptz;
    middle    timestamptz;
    start     timestamptz;
BEGIN
    IF current = dovetail_internal.zone_offset(midnight, zone)
       AND current = dovetail_internal.zone_offset(midnight - interval '25 hours', zone) THEN
        RETURN midnight;
    END IF;
    FOR hour IN SELECT pg_catalog.generate_series(stretch + interval '1 hour',
                                                  midnight + interval '50 hours', interval '1 hour')
    LOOP
        CONTINUE WHEN dovetail_internal.zone_offset(hour, zone) = current;
        low := hour - interval '1 hour';
        high := hour;
        WHILE high - low > interval '1 second' LOOP
            middle := pg_catalog.date_trunc('second', low + (high - low) / 2);
            IF dovetail_internal.zone_offset(middle, zone) = current THEN
                low := middle;
            ELSE
                high := middle;
            END IF;
        END LOOP;
        -- [stretch, high) has one offset
        start := GREATEST(stretch, (day::timestamp - current) AT TIME ZONE 'UTC');
        IF start < high THEN
            RETURN start;
        END IF;
        stretch := high;
        current := dovetail_internal.zone_offset(high, zone);
    END LOOP;
    RETURN GREATEST(stretch, (day::timestamp - current) AT TIME ZONE 'UTC');
END
$$;

-- The end of the calendar window that starts at `start`: it has `days` days, counted from
-- `origin_day` days after 1970-01-01, or `months` months.
CREATE FUNCTION calendar_end(start timestamptz, zone text, days integer, origin_day integer,
                             months integer) RETURNS timestamptz
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN dovetail_internal.day_start(
        CASE WHEN days > 0 THEN
            (start AT TIME ZONE zone)::date + days
            - ((((start AT TIME ZONE zone)::date - date '1970-01-01' - origin_day) % days + days) % days)
        ELSE
            (pg_catalog.date_trunc('month', start AT TIME ZONE zone) + pg_catalog.make_interval(months =>
                months - (extract(month FROM start AT TIME ZONE zone)::integer - 1) % months))::date
        END, zone);
