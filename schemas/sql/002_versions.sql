-- When a view version can be read, and what everybody must agree on when reading it.

SET LOCAL search_path = dovetail_internal;

ALTER TABLE view_version
    ADD COLUMN built_run     bigint,      -- first run whose batch rows this version has; NULL: none yet
    ADD COLUMN current_since timestamptz, -- NULL: never was current
    ADD COLUMN retired_at    timestamptz;

-- Can the version be read under the current run? Its cut-offs must have reached the version's speed
-- rows, and below them its batch rows must be there: built by that run or an earlier one, or not
-- needed because the run has no records of the topic.
-- (PL/pgSQL, because every query of a view asks it and this keeps its plans.)
CREATE FUNCTION version_reached(of_version integer) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    served bigint := (SELECT run FROM dovetail_internal.current_run);
    built  bigint := (SELECT built_run FROM dovetail_internal.view_version WHERE version = of_version);
BEGIN
    IF built <= served THEN
        RETURN NOT EXISTS (
            SELECT FROM dovetail_internal.coverage AS k
            JOIN dovetail_internal.position AS p USING (topic, partition)
            LEFT JOIN dovetail_internal.run_cutoff AS c
              ON c.run = served AND c.topic = k.topic AND c.partition = k.partition
            WHERE k.version = of_version
              AND COALESCE(c.next_offset, p.base_offset) < k.speed_from);
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM dovetail_internal.coverage AS k
        JOIN dovetail_internal.position AS p USING (topic, partition)
        LEFT JOIN dovetail_internal.run_cutoff AS c
          ON c.run = served AND c.topic = k.topic AND c.partition = k.partition
        WHERE k.version = of_version
          AND (k.speed_from > p.base_offset OR c.next_offset > p.base_offset));
END
$$;

-- The current run, for dovetail.<view>; fails where the version cannot be read under it. A STABLE
-- function sees the snapshot of the statement that calls it. It runs as its owner, because readers
-- of a view need no right to the tables behind it.
CREATE FUNCTION readable_run(of_version integer) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF dovetail_internal.version_reached(of_version) THEN
        RETURN (SELECT run FROM dovetail_internal.current_run);
    END IF;
    RAISE EXCEPTION 'this view has no rows for the current run yet'
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Run dovetail-batch run, or go back to the latest run.';
END
$$;

-- The watermark of a topic: the least of its partitions' greatest event times, partitions without
-- any event left out. NULL before the first event. Windows that end after it are provisional.
CREATE FUNCTION watermark(of_topic text) RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(GREATEST(p.watermark, c.watermark))
    FROM dovetail_internal.position AS p
    LEFT JOIN dovetail_internal.run_cutoff AS c
      ON c.run = (SELECT run FROM dovetail_internal.current_run)
     AND c.topic = p.topic AND c.partition = p.partition
    WHERE p.topic = of_topic
$$;
