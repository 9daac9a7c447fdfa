/* What `dovetail verify` computes measures with that PostgreSQL does not have: see measure_kind's
 * oracle_sql. */
#ifndef DOVETAIL_CLI_VERIFY_MEASURES_H
#define DOVETAIL_CLI_VERIFY_MEASURES_H

/* Temporary functions, written a second time in PL/pgSQL over raw values: they know nothing of
 * states and merging. */
extern const char verify_measure_functions_sql[];

#endif
