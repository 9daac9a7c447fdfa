-- What a segment's records are, apart from how their file was compressed: a segment that is fetched from Kafka
-- again must have the same. NULL: archived before this was noted.

SET LOCAL search_path = dovetail_internal;

ALTER TABLE segment ADD COLUMN content text COLLATE "C"; -- XXH3-128 of offsets, timestamps and values
