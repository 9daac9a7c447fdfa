-- For `dovetail verify` only: more of what 003_verify.sql has, for functions.
--
-- Where a function of PostgreSQL's goes beyond what Dovetail's values can hold (38 digits, the years
-- 0001 to 9999, strings of 16 MiB), these fail for the record as Dovetail does.

SET LOCAL search_path = dovetail_verify;

CREATE FUNCTION round(a numeric, digits integer) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.round(a, digits));
CREATE FUNCTION trunc(a numeric, digits integer) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.trunc(a, digits));
CREATE FUNCTION div(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.div(a, b));

CREATE FUNCTION power(a numeric, b numeric) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF b < 0 THEN
        RAISE numeric_value_out_of_range;
    END IF;
    RETURN dovetail_verify.in_range(pg_catalog.power(a, b));
END
$$;
CREATE FUNCTION pow(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.power(a, b);
CREATE OPERATOR ^ (FUNCTION = dovetail_verify.power, LEFTARG = numeric, RIGHTARG = numeric);

CREATE FUNCTION in_range(result timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF result < '0001-01-01T00:00:00Z' OR result >= '10000-01-01T00:00:00Z' THEN
        RAISE datetime_field_overflow;
    END IF;
    RETURN result;
END
$$;

CREATE FUNCTION add(a timestamptz, b interval) RETURNS timestamptz LANGUAGE sql STABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.timestamptz_pl_interval(a, b));
CREATE FUNCTION add(a interval, b timestamptz) RETURNS timestamptz LANGUAGE sql STABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.timestamptz_pl_interval(b, a));
CREATE FUNCTION subtract(a timestamptz, b interval) RETURNS timestamptz LANGUAGE sql STABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.timestamptz_mi_interval(a, b));
CREATE OPERATOR + (FUNCTION = add, LEFTARG = timestamptz, RIGHTARG = interval);
CREATE OPERATOR + (FUNCTION = add, LEFTARG = interval, RIGHTARG = timestamptz);
CREATE OPERATOR - (FUNCTION = subtract, LEFTARG = timestamptz, RIGHTARG = interval);

CREATE FUNCTION date_trunc(unit text, t timestamptz) RETURNS timestamptz LANGUAGE sql STABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.date_trunc(unit, t));

-- Bytes that the padding or the repetition would have at most are looked at before it is made.
CREATE FUNCTION in_bytes(bytes numeric) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF bytes > 16 * 1024 * 1024 THEN
        RAISE string_data_right_truncation;
    END IF;
    RETURN true;
END
$$;
CREATE FUNCTION repeat(s text, n integer) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN dovetail_verify.in_bytes(octet_length(s)::numeric * n)
                THEN pg_catalog.repeat(s, n) END;
CREATE FUNCTION lpad(s text, n integer, c text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN c = '' OR dovetail_verify.in_bytes(n) THEN pg_catalog.lpad(s, n, c) END;
CREATE FUNCTION rpad(s text, n integer, c text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN c = '' OR dovetail_verify.in_bytes(n) THEN pg_catalog.rpad(s, n, c) END;
CREATE FUNCTION lpad(s text, n integer) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.lpad(s, n, ' ');
CREATE FUNCTION rpad(s text, n integer) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.rpad(s, n, ' ');
