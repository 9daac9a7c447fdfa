-- For `dovetail verify` only: arithmetic of numeric with the limits of Dovetail's decimals.
--
-- A decimal has at most 38 digits, at most 38 of them behind the point; an expression whose exact
-- result needs more fails for that record. PostgreSQL's numeric goes far beyond. With this schema
-- before pg_catalog in the search_path, an expression over numeric has the same values and fails
-- where Dovetail's does. Nothing else uses it.

CREATE SCHEMA dovetail_verify;
SET LOCAL search_path = dovetail_verify;

CREATE FUNCTION in_range(result numeric) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF scale(result) > 38 THEN
        RAISE numeric_value_out_of_range;
    END IF;
    IF abs(result) >= ('1e' || (38 - scale(result)))::numeric THEN
        RAISE numeric_value_out_of_range;
    END IF;
    RETURN result;
END
$$;

CREATE FUNCTION add(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.numeric_add(a, b));
CREATE FUNCTION subtract(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.numeric_sub(a, b));
CREATE FUNCTION multiply(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.numeric_mul(a, b));
CREATE FUNCTION divide(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT
    RETURN dovetail_verify.in_range(pg_catalog.numeric_div(a, b));

CREATE OPERATOR + (FUNCTION = add, LEFTARG = numeric, RIGHTARG = numeric);
CREATE OPERATOR - (FUNCTION = subtract, LEFTARG = numeric, RIGHTARG = numeric);
CREATE OPERATOR * (FUNCTION = multiply, LEFTARG = numeric, RIGHTARG = numeric);
CREATE OPERATOR / (FUNCTION = divide, LEFTARG = numeric, RIGHTARG = numeric);
