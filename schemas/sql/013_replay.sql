-- Dead letters whose records were produced into their topic again (docs/ARCHITECTURE.md, "Replaying dead
-- letters").

SET LOCAL search_path = dovetail_internal;

-- Records that went, or are to go, in one Kafka transaction. 'sending': an interrupted replay leaves it open
-- whether the topic has them; the next replay finds out, by reading the topic from from_offsets on.
CREATE TABLE replay_batch (
    batch        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic        text COLLATE "C" NOT NULL,
    from_offsets bigint[] NOT NULL, -- ends of the topic's partitions before
    state        text NOT NULL CHECK (state IN ('sending', 'sent')),
    replayed_at  timestamptz NOT NULL DEFAULT now()
);

-- The records, by where they stood first, and the letter that each was taken from.
CREATE TABLE replay (
    topic            text COLLATE "C" NOT NULL,
    partition        integer NOT NULL,
    record_offset    bigint NOT NULL,
    recorded_at      text COLLATE "C" NOT NULL, -- the broker's time of the record, as the letter has it
    batch            bigint NOT NULL REFERENCES replay_batch ON DELETE CASCADE,
    letter_topic     text COLLATE "C" NOT NULL,
    letter_partition integer NOT NULL,
    letter_offset    bigint NOT NULL,
    PRIMARY KEY (topic, partition, record_offset, recorded_at)
);
CREATE INDEX replay_batch_records ON replay (batch);
