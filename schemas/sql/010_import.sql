-- Imported records: history from before the topic, in the archive as partition -1 of the topic, with
-- offsets of its own from 0 on. It has segments and cut-offs like every partition and no position,
-- because no speed layer reads it (docs/ARCHITECTURE.md, "Imports").

SET LOCAL search_path = dovetail_internal;

-- What was imported. A row comes with the manifest rows of its segments, in one transaction.
CREATE TABLE import (
    import        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    file          text NOT NULL,             -- as it was called, for people
    format        text NOT NULL CHECK (format IN ('json', 'csv')),
    checksum      text COLLATE "C" NOT NULL, -- of the decompressed content; hashed again where the source has a mask
    start_offset  bigint NOT NULL,
    end_offset    bigint NOT NULL,           -- one offset for each record, good or bad
    dead_lettered bigint NOT NULL,           -- letters that the import wrote
    imported_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (topic, checksum),
    CHECK (0 <= start_offset AND start_offset <= end_offset)
);

-- The ledger of the imported records below a run's cut-off: of partition -1 only.
ALTER TABLE run_cutoff
    ADD COLUMN consumed      bigint,
    ADD COLUMN counted       bigint,
    ADD COLUMN filtered      bigint,
    ADD COLUMN duplicate     bigint,
    ADD COLUMN dead_lettered bigint,
    ADD CONSTRAINT ledger CHECK (consumed = counted + filtered + duplicate + dead_lettered);

-- Imported records that a run publishes for a topic: its cut-off of partition -1.
CREATE FUNCTION imported_below(of_run bigint, of_topic text) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN COALESCE((SELECT c.next_offset FROM dovetail_internal.run_cutoff AS c
                     WHERE c.run = of_run AND c.topic = of_topic AND c.partition = -1), 0);

-- As before; but a version that no run has folded lacks the imported records of the served run, too.
CREATE OR REPLACE FUNCTION version_reached(of_version integer) RETURNS boolean
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
          AND (k.speed_from > p.base_offset OR c.next_offset > p.base_offset))
      AND dovetail_internal.imported_below(served, (
        SELECT s.topic FROM dovetail_internal.view_version AS v
        JOIN dovetail_internal.source AS s USING (source) WHERE v.version = of_version)) = 0;
END
$$;
