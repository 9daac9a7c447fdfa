-- Dovetail's own tables. `dovetail init` runs every file of this folder in order, once each.
--
-- Two schemas: "dovetail" has what people read (one SQL view for each view), "dovetail_internal" has
-- what the layers keep. Offsets are Kafka's; every range of offsets is half-open [start, end).
-- The tables of states, speed_<version> and batch_<version>, are made for each view version
-- (core/catalog/catalog.c), because their columns depend on the view.

CREATE SCHEMA IF NOT EXISTS dovetail;
CREATE SCHEMA IF NOT EXISTS dovetail_internal;
SET LOCAL search_path = dovetail_internal;

-- One row: who this deployment is. The consumer group is named after it, so that two databases that
-- read one topic never share a group by accident.
CREATE TABLE deployment (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    deployment_id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO deployment DEFAULT VALUES;

CREATE TABLE source (
    source        text COLLATE "C" PRIMARY KEY,
    topic         text COLLATE "C" NOT NULL UNIQUE, -- one source for each topic
    definition    json NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);

-- A view version never changes: a changed definition is a new version. state: 'building' until the
-- first run that covers it is published, then 'current', then 'retired'.
CREATE TABLE view_version (
    version           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view              text COLLATE "C" NOT NULL,
    source            text COLLATE "C" NOT NULL REFERENCES source,
    definition        json NOT NULL,
    source_definition json NOT NULL, -- as it was when this version was registered
    canonical         text COLLATE "C" NOT NULL, -- what it computes; equal text, equal rows
    state             text NOT NULL CHECK (state IN ('building', 'current', 'retired')),
    registered_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX view_version_current ON view_version (view) WHERE state = 'current';
CREATE UNIQUE INDEX view_version_building ON view_version (view) WHERE state = 'building';

-- P, the speed layer's position, with its fence and its ledger. One row for each partition.
--
-- Only the owner moves it, with UPDATE ... WHERE next_offset = <expected> AND owner_epoch = <mine>.
-- Everybody else who needs the owner to look again (a new owner, `dovetail init` with a new view
-- version, a batch run that plans a cut) adds one to owner_epoch.
CREATE TABLE position (
    topic         text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    base_offset   bigint NOT NULL,  -- where the history of this partition begins
    next_offset   bigint NOT NULL,  -- P: every record below it is in the speed rows
    slice_start   bigint NOT NULL,  -- start of the open slice: the newest offset a cut-off may take
    cut_requested boolean NOT NULL DEFAULT false, -- a batch run asks for a new slice
    owner_epoch   bigint NOT NULL DEFAULT 0,
    owner         text COLLATE "C",
    owner_pid     integer,          -- backend of the owner's session
    watermark     timestamptz,      -- greatest event time seen
    as_of         timestamptz,      -- P includes every record that was in the log then
    consumed      bigint NOT NULL DEFAULT 0,
    counted       bigint NOT NULL DEFAULT 0,
    filtered      bigint NOT NULL DEFAULT 0,
    duplicate     bigint NOT NULL DEFAULT 0,
    dead_lettered bigint NOT NULL DEFAULT 0,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition),
    CONSTRAINT ledger CHECK (consumed = counted + filtered + duplicate + dead_lettered),
    CHECK (base_offset <= slice_start AND slice_start <= next_offset)
) WITH (fillfactor = 50);

-- Offsets above P that a batch run has taken as a cut-off: the speed layer must start a slice exactly
-- there. Whoever adds one also adds one to owner_epoch, so that every later flush knows of it.
CREATE TABLE planned_cut (
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    at_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition, at_offset)
);

-- Where the speed rows of a view version begin: P at the moment the version was registered. The
-- version can be read only under a run whose cut-offs have reached it.
CREATE TABLE coverage (
    version    integer NOT NULL REFERENCES view_version ON DELETE CASCADE,
    topic      text COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    speed_from bigint NOT NULL,
    PRIMARY KEY (version, topic, partition)
);

-- What one view version did with the records of a partition, from coverage.speed_from up to P.
CREATE TABLE view_ledger (
    version   integer NOT NULL REFERENCES view_version ON DELETE CASCADE,
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    counted   bigint NOT NULL DEFAULT 0,
    filtered  bigint NOT NULL DEFAULT 0,
    rejected  bigint NOT NULL DEFAULT 0, -- valid records that this view's expressions failed on
    PRIMARY KEY (version, topic, partition)
) WITH (fillfactor = 50);

-- The archive's manifest. A file without a row here does not exist; segments of a partition follow
-- each other without a gap from position.base_offset on.
CREATE TABLE segment (
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    start_offset bigint NOT NULL,
    end_offset   bigint NOT NULL,
    file         text COLLATE "C" NOT NULL, -- relative to the archive directory
    record_count bigint NOT NULL,
    file_bytes   bigint NOT NULL,
    raw_bytes    bigint NOT NULL,           -- of the records' values
    checksum     text COLLATE "C" NOT NULL, -- XXH3-128 of the file, hexadecimal
    archived_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, start_offset),
    UNIQUE (topic, partition, end_offset),
    CHECK (start_offset < end_offset)
);

-- Batch runs. Run 0 has no rows: before the first run everything is the speed layer's.
CREATE TABLE run (
    run          bigint GENERATED BY DEFAULT AS IDENTITY (START WITH 1) PRIMARY KEY,
    state        text NOT NULL CHECK (state IN ('running', 'published', 'failed', 'dropped')),
    reason       text NOT NULL,             -- who asked: 'initial', 'command', 'schedule'
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    records      bigint NOT NULL DEFAULT 0, -- folded
    rows_changed bigint NOT NULL DEFAULT 0,
    load_ms      double precision, -- archive: Kafka to segments
    prepare_ms   double precision, -- cut-offs, definitions, segment list
    process_ms   double precision, -- segments to states
    store_ms     double precision, -- states to PostgreSQL, publish
    message      text
);
INSERT INTO run (run, state, reason, finished_at) VALUES (0, 'published', 'initial', now());

-- C, the cut-offs of each run. A partition without a row has base_offset.
CREATE TABLE run_cutoff (
    run         bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    as_of       timestamptz, -- C includes every record that was in the log then
    watermark   timestamptz, -- greatest event time below C
    PRIMARY KEY (run, topic, partition)
);

-- One row: the run that is served. Publishing and rolling back are an update of this row.
CREATE TABLE current_run (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    run bigint NOT NULL REFERENCES run
);
INSERT INTO current_run (run) VALUES (0);
