-- Lookups: reference tables that are joined to the rows of a view.

SET LOCAL search_path = dovetail_internal;

-- What the current version's lookups were found to be (core/catalog/catalog_lookup.h): JSON, NULL without any.
-- The views lookup_<version>_<number> and dovetail.<view> were made from it.
ALTER TABLE view_version ADD COLUMN lookups text COLLATE "C";

-- Fails where two rows of a reference table could have the same key: they would multiply the rows that
-- are joined to them, and count records twice. A STABLE function sees the snapshot of the statement
-- that calls it. It calls nothing of this schema, on which a reader of a view may have no right.
CREATE FUNCTION lookup_is_unique(reference regclass, key_column name) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_index AS i
               JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = reference AND a.attname = key_column AND i.indnkeyatts = 1
                 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL) THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'lookup: column "%" of table % has no unique index any more', key_column, reference
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Two rows with one key would count records twice: create the index again.';
END
$$;
