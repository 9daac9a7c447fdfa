-- The fingerprint of the key that masks a source's values: nobody may go on with another key.

ALTER TABLE dovetail_internal.source ADD COLUMN mask_fingerprint text COLLATE "C";
