/* The state that variances and regressions share: how many pairs (x, y) there were, and exact sums
 * of x, x², y, y² and xy, as far as a kind needs them.
 *
 * Monoid: everything is addition of exact numbers. Over integers sums have 192 bits, which 2^63
 * products of 64-bit integers cannot fill; where a decimal takes part, see decimal_moment.h. The
 * formula runs once, in finish, over numerics without a bound, so results have PostgreSQL's digits.
 */
#ifndef DOVETAIL_MEASURES_MOMENTS_H
#define DOVETAIL_MEASURES_MOMENTS_H

#include "core/numbers/decimal_moment.h"
#include "core/measures/measure.h"
#include "core/numbers/numeric.h"

/* A kind of one argument has x only. The order matters: a state ends behind the last one needed. */
enum moment { MOMENT_X, MOMENT_XX, MOMENT_Y, MOMENT_YY, MOMENT_XY, MOMENT_COUNT };

enum {
    NEEDS_X = 1 << MOMENT_X,
    NEEDS_XX = 1 << MOMENT_XX,
    NEEDS_Y = 1 << MOMENT_Y,
    NEEDS_YY = 1 << MOMENT_YY,
    NEEDS_XY = 1 << MOMENT_XY,
};

/* What a formula works with. Sums that the kind does not need are zero. */
struct moment_values {
    int64_t count;
    struct numeric n; /* the same */
    struct numeric sum[MOMENT_COUNT];
};

struct moment_kind {
    struct measure_kind base; /* first: a measure's kind points to it */
    size_t argument_count;    /* 1: x; 2: y, x */
    unsigned needs;
    /* Writes the result; false: it is NULL. */
    bool (*compute)(const struct moment_values *values, struct numeric *result);
    const char *sql; /* see measure_kind */
    const char *oracle_sql;
};

enum status moments_bind(struct measure *measure, struct error *error);
void moments_init(const struct measure *measure, void *state);
enum status moments_fold(const struct measure *measure, void *state, const struct value *arguments,
                         const struct measure_origin *origin, struct arena *arena,
                         struct error *error);
enum status moments_merge(const struct measure *measure, void *into, const void *from,
                          struct arena *arena, struct error *error);
enum status moments_encode(const struct measure *measure, const void *state,
                           struct pgbinary_writer *writer, struct error *error);
enum status moments_decode(const struct measure *measure, void *state,
                           const struct pgbinary_field *fields, struct arena *arena,
                           struct error *error);
enum status moments_finish(const struct measure *measure, const void *state, struct arena *arena,
                           struct value *out, const char **wide_text, struct error *error);
int64_t moments_count(const void *state);
const char *moments_sql(const struct measure *measure);
const char *moments_oracle_sql(const struct measure *measure);

#define MOMENT_FUNCTIONS                                                                           \
    .bind = moments_bind, .init = moments_init, .fold = moments_fold, .merge = moments_merge,      \
    .encode = moments_encode, .decode = moments_decode, .finish = moments_finish,                  \
    .sql = moments_sql, .oracle_sql = moments_oracle_sql

/* result = n × ab - a × b, of which every variance and covariance is a quotient. */
void moments_spread(const struct moment_values *values, enum moment ab, enum moment a,
                    enum moment b, struct numeric *result);

/* The same in SQL, over the texts of the sums. The operators are named in full, because those of
 * `dovetail verify` have the limits of expressions. */
#define SQL_TIMES " OPERATOR(pg_catalog.*) "
#define SQL_MINUS " OPERATOR(pg_catalog.-) "
#define SQL_OVER " OPERATOR(pg_catalog./) "
#define SQL_PRODUCT(a, b) "(" a SQL_TIMES b ")"
#define SQL_DIFFERENCE(a, b) "(" a SQL_MINUS b ")"
#define SQL_SPREAD(n, ab, a, b) SQL_DIFFERENCE(SQL_PRODUCT(n, ab), SQL_PRODUCT(a, b))
/* NULL where the divisor is zero. */
#define SQL_QUOTIENT(a, b) "(" a SQL_OVER "nullif(" b ", 0))"

#endif
