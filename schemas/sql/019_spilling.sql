-- What a run kept on disk because batch.memory did not hold it, and its peak (batch_layer/spill.h).

SET LOCAL search_path = dovetail_internal;

ALTER TABLE run
    ADD COLUMN spilled_bytes bigint, -- written
    ADD COLUMN spilled_runs  bigint, -- sorted runs
    ADD COLUMN peak_bytes    bigint; -- largest resident size of the process; NULL: not known
