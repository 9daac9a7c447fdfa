-- Runs that reuse the rows of the run before, and what is compared before a run is published
-- (batch_layer/reuse.h, batch_layer/audit.h).

SET LOCAL search_path = dovetail_internal;

ALTER TABLE run
    DROP CONSTRAINT run_state_check,
    ADD CONSTRAINT run_state_check CHECK (state IN ('running', 'published', 'held', 'failed', 'dropped')),
    ADD COLUMN kind       text CHECK (kind IN ('full', 'incremental')),
    ADD COLUMN why        text,             -- something was recomputed from the beginning
    ADD COLUMN audit_ms   double precision, -- the comparisons
    ADD COLUMN audited    bigint,           -- groups that were compared
    ADD COLUMN mismatched bigint,           -- of them
    ADD COLUMN mismatches json;             -- the first of these; NULL: none

ALTER TABLE run_cutoff
    ADD COLUMN segments  text COLLATE "C", -- fingerprint of the segments and gaps below next_offset
    ADD COLUMN ledger_of text COLLATE "C"; -- of what the ledger of imported records depends on

ALTER TABLE view_version
    ADD COLUMN rows_run bigint,           -- the run that the open rows of batch_<version> are the result of
    ADD COLUMN rows_of  text COLLATE "C"; -- fingerprint of what they were computed by
