-- A table that was never analyzed is taken for some ten pages of rows by PostgreSQL. This one has
-- a single row for ever, so autovacuum never comes to it, and every statement that joins it seemed
-- a thousand times as large as it is: PostgreSQL then compiled it (jit), which takes a second.
ANALYZE dovetail_internal.current_run;
