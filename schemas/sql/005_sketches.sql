-- Merging and finishing states of measures in dovetail.<view>, where PostgreSQL has no aggregate for
-- them: the same values as core/measures/distinct.c, hyperloglog.c and percentile.c give, in exact
-- arithmetic. Each takes the states of one group, whose order makes no difference.
--
-- A reader of a view calls them with his own rights and may have none on this schema, so they call
-- nothing of it.

SET LOCAL search_path = dovetail_internal;

-- count(DISTINCT x): arrays as text, so that one function does for every type; equal values have equal
-- texts. NULL is a state that was beyond its limit already.
CREATE FUNCTION distinct_count(states text[], value_limit bigint, byte_limit bigint, measure text)
    RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    value_count bigint;
    byte_count  bigint;
BEGIN
    IF array_position(states, NULL) IS NULL THEN
        SELECT count(*), coalesce(sum(octet_length(d.value)), 0) INTO value_count, byte_count
        FROM (SELECT DISTINCT v.value COLLATE "C" AS value
              FROM unnest(states) AS s (state), unnest(s.state::text[]) AS v (value)) AS d;
        IF value_count <= value_limit AND (byte_limit IS NULL OR byte_count <= byte_limit) THEN
            RETURN value_count;
        END IF;
    END IF;
    RAISE EXCEPTION 'measure "%": a group has more than % distinct values%', measure, value_limit,
        CASE WHEN byte_limit IS NOT NULL THEN ', or 16 MiB of them' ELSE '' END
        USING ERRCODE = 'program_limit_exceeded',
              HINT = 'Leave the measure or the group out, define it with a higher limit, '
                     'count(DISTINCT x, limit), or use approx_count_distinct(x).';
END
$$;

-- approx_count_distinct(x): HyperLogLogs of 2^14 registers of 5 bits in the storage format of the
-- extension hll, which is not needed. 0x11 EMPTY, 0x12 EXPLICIT, 0x13 SPARSE, 0x14 FULL.
CREATE FUNCTION hll_cardinality(states bytea[]) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashes bytea[];
    empty  bigint;
    total  numeric; -- of 2^-rank, in units of 2^-64
    power  numeric;
    sigma  numeric;
    factor numeric := 1;
BEGIN
    SELECT array_agg(DISTINCT substr(s.state, 4 + 8 * i, 8)) INTO hashes
    FROM unnest(states) AS s (state), generate_series(0, (length(s.state) - 3) / 8 - 1) AS i
    WHERE get_byte(s.state, 0) = 18;
    IF coalesce(cardinality(hashes), 0) <= 128
       AND NOT EXISTS (SELECT FROM unnest(states) AS s (state)
                       WHERE get_byte(s.state, 0) IN (19, 20)) THEN
        RETURN coalesce(cardinality(hashes), 0);
    END IF;

    WITH ranks (register, rank) AS (
        -- of a hash: the low 14 bits; the place of the lowest 1 in the 50 bits above, or 0
        SELECT ((get_byte(h.hash, 6) & 63) << 8) | get_byte(h.hash, 7),
               least(31, strpos(reverse(left((('x' || encode(h.hash, 'hex'))::bit(64))::text, 50)),
                                '1'))
        FROM unnest(hashes) AS h (hash)
        UNION ALL
        -- SPARSE: pairs of 19 bits, of which the first 14 are the register
        SELECT p.pair >> 5, p.pair & 31
        FROM (SELECT state || decode('000000', 'hex'), length(state) FROM unnest(states) AS s (state)
              WHERE get_byte(state, 0) = 19) AS s (state, size),
             generate_series(0, (s.size - 3) * 8 / 19 * 19 - 19, 19) AS i,
             LATERAL (SELECT ((get_byte(s.state, 3 + i / 8) << 23)
                              | (get_byte(s.state, 4 + i / 8) << 15)
                              | (get_byte(s.state, 5 + i / 8) << 7)
                              | (get_byte(s.state, 6 + i / 8) >> 1)) >> (12 - i % 8)
                             & 524287) AS p (pair)
        UNION ALL
        -- FULL: registers of 5 bits
        SELECT i, ((get_byte(s.state, 3 + i * 5 / 8) << 8) | get_byte(s.state, 4 + i * 5 / 8))
                  >> (11 - i * 5 % 8) & 31
        FROM (SELECT state || decode('00', 'hex') FROM unnest(states) AS s (state)
              WHERE get_byte(state, 0) = 20) AS s (state),
             generate_series(0, 16383) AS i
    ), registers AS (
        SELECT max(rank) AS rank FROM ranks GROUP BY register
    )
    SELECT 16384 - count(*), coalesce(sum(((1::bigint << (62 - rank)))::numeric * 4), 0)
    INTO empty, total FROM registers WHERE rank > 0;

    IF empty = 16384 THEN
        RETURN 0;
    END IF;
    power := empty::numeric * 1125899906842624; -- 2^50
    sigma := power;
    LOOP
        power := div(power * power, 18446744073709551616);
        EXIT WHEN power = 0;
        sigma := sigma + power * factor;
        factor := factor * 2;
    END LOOP;
    total := total + sigma * 16384;
    -- 2^64 / (2 ln 2), times 2^29; half up
    RETURN least(div(13306513097844322492::numeric * 536870912 + total, 2 * total),
                 9223372036854775807)::bigint;
END
$$;

-- approx_percentile(x, q): DDSketches, arrays of key and count as text. `bits` is their precision;
-- `whole`: of integers.
CREATE FUNCTION sketch_percentile(states text[], share numeric, bits integer, whole boolean)
    RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chosen    bigint;
    exponent  integer;
    digits    bigint; -- the leading bits + 1 binary ones
    shift     integer;
    middle    numeric;
    magnitude integer; -- of its first digit, as a power of ten
BEGIN
    SELECT b.key INTO chosen
    FROM (SELECT p.pairs[2 * i - 1] AS key,
                 sum(sum(p.pairs[2 * i])) OVER (ORDER BY p.pairs[2 * i - 1]) AS seen,
                 sum(sum(p.pairs[2 * i])) OVER () AS total
          FROM (SELECT state::bigint[] AS pairs FROM unnest(states) AS s (state) OFFSET 0) AS p,
               generate_series(1, cardinality(p.pairs) / 2) AS i
          GROUP BY p.pairs[2 * i - 1]) AS b
    WHERE b.seen >= share * b.total
    ORDER BY b.key
    LIMIT 1;
    IF chosen IS NULL OR chosen = 0 THEN
        RETURN chosen;
    END IF;
    exponent := ((abs(chosen) - 1) >> bits) - 127;
    digits := (1::bigint << bits) + ((abs(chosen) - 1) & ((1::bigint << bits) - 1));

    IF whole THEN
        IF exponent = 63 THEN
            RETURN -9223372036854775808;
        END IF;
        RETURN sign(chosen)::bigint * CASE
            WHEN exponent < bits THEN digits >> (bits - exponent)
            ELSE (digits << (exponent - bits)) + ((1::bigint << (exponent - bits)) - 1) / 2 END;
    END IF;

    shift := exponent - bits - 1;
    middle := (2 * digits + 1) * CASE
        WHEN shift >= 0 THEN power(2::numeric, shift)
        ELSE power(5::numeric, -shift) * ('1e' || shift)::numeric END;
    magnitude := CASE
        WHEN middle >= 1 THEN length(trunc(middle)::text) - 1
        ELSE -1 - length(substring(middle::text FROM '^0[.](0*)')) END;
    RETURN trim_scale(sign(chosen)::numeric * round(middle, 5 - magnitude));
END
$$;
