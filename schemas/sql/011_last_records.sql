-- The last record that each layer has of a partition, by offset and the broker's timestamp: another record at
-- that offset is another log's, of a topic that was deleted and made anew.

SET LOCAL search_path = dovetail_internal;

ALTER TABLE position
    ADD COLUMN last_offset       bigint, -- of the last record below P; NULL: not known
    ADD COLUMN last_timestamp_ms bigint;

-- The last archived one. A row may be older than the archive's end, never newer.
CREATE TABLE archived_last (
    topic             text COLLATE "C" NOT NULL,
    partition         integer NOT NULL,
    last_offset       bigint NOT NULL,
    last_timestamp_ms bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

ALTER TABLE halt ADD COLUMN new_log boolean NOT NULL DEFAULT false; -- another record was found there
