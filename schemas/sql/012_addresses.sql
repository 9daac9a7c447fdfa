-- Rows of the speed layer that are never updated have no address: core/catalog/catalog_tables.c.
--
-- Only the writer uses the index of addresses. Pages are filled: a row that is updated finds room where
-- its earlier states were.

SET LOCAL search_path = dovetail_internal;

DO $$
DECLARE
    version integer;
BEGIN
    FOR version IN SELECT v.version FROM view_version AS v
                   WHERE to_regclass('dovetail_internal.speed_' || v.version) IS NOT NULL
                   ORDER BY v.version
    LOOP
        EXECUTE format('ALTER TABLE speed_%1$s DROP CONSTRAINT speed_%1$s_address,'
                       ' ALTER COLUMN _group_id DROP NOT NULL, RESET (fillfactor)', version);
        EXECUTE format('CREATE UNIQUE INDEX speed_%1$s_address ON speed_%1$s'
                       ' (_partition, _slice_start, _group_id) WHERE _group_id IS NOT NULL', version);
    END LOOP;
END
$$;
