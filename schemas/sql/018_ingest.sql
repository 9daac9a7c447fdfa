-- Idempotency keys of POST /v1/sources/{source}/events (docs/INGEST.md): what was answered to a key, so that
-- the same request again is answered with it and writes nothing.
--
-- Invariant: no event of a request with a key is given to Kafka before the row of its key is committed, and a row
-- goes away, within the 24 hours that it is good for, only where it is certain that no event was written. So
-- the events of a key are written once at the most. What is written and not noted, because of a crash, stays
-- 'sending': nobody knows, and nobody writes it again.

SET LOCAL search_path = dovetail_internal;

CREATE TABLE ingest_key (
    caller      text COLLATE "C" NOT NULL, -- name of the token; empty: there are none
    source      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    request     bytea NOT NULL, -- SHA-256 of the body and of what else decides what is written
    attempt     text COLLATE "C" NOT NULL, -- random: who reserved it
    state       text NOT NULL CHECK (state IN ('sending', 'done', 'unknown')),
    status      integer, -- of the answer
    answer      text,
    reserved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, source, key),
    CHECK ((state = 'done') = (status IS NOT NULL AND answer IS NOT NULL))
);
CREATE INDEX ingest_key_age ON ingest_key (reserved_at);
