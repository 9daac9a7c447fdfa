-- Records that are gone, and partitions that stand still because of it (docs/ARCHITECTURE.md, "Recovery").

SET LOCAL search_path = dovetail_internal;

-- Offsets that neither Kafka nor the archive has any more, and that an operator gave up with
-- `dovetail resume --accept-gap`: both layers pass over them. from_offset = to_offset where a topic was made
-- anew and nothing below was lost: both go on at that offset once the new log has grown there.
CREATE TABLE gap (
    source       text COLLATE "C" NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    from_offset  bigint NOT NULL,
    to_offset    bigint NOT NULL,
    speed_offset bigint NOT NULL, -- P then: what the speed layer had counted of it leaves with the next run
    reason       text NOT NULL CHECK (reason IN ('retention', 'new log')),
    accepted_by  text NOT NULL DEFAULT session_user,
    accepted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, from_offset),
    CHECK (from_offset <= to_offset)
);

-- Partitions that a layer cannot go on with. The others go on. A row of the speed layer's is true while
-- next_offset is P: whoever moves P on has got over it.
CREATE TABLE halt (
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    layer       text NOT NULL CHECK (layer IN ('speed', 'batch')),
    next_offset bigint NOT NULL, -- P, or the archive's end
    message     text NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, layer)
);

CREATE VIEW halted AS
    SELECT h.* FROM halt AS h JOIN position AS p USING (topic, partition)
    WHERE h.layer = 'batch' OR h.next_offset = p.next_offset;
