/* The kinds of measures there are; core/measures/measure.c lists them. */
#ifndef DOVETAIL_MEASURES_KINDS_H
#define DOVETAIL_MEASURES_KINDS_H

#include "core/measures/measure.h"
#include "core/measures/moments.h"

extern const struct measure_kind measure_count;
extern const struct measure_kind measure_sum;
extern const struct measure_kind measure_avg;
extern const struct measure_kind measure_min;
extern const struct measure_kind measure_max;
extern const struct measure_kind measure_count_distinct;
extern const struct measure_kind measure_approx_count_distinct;
extern const struct measure_kind measure_approx_percentile;
extern const struct measure_kind measure_histogram;

/* A text for measure->sql_text or oracle_text, in the measure's arena; NULL when out of memory. In
 * text.c. */
const char *measure_text(struct measure *measure, const char *format, ...) PRINTF_LIKE(2, 3);

extern const struct measure_kind measure_bool_and;
extern const struct measure_kind measure_bool_or;
extern const struct moment_kind measure_var_pop;
extern const struct moment_kind measure_var_samp;
extern const struct moment_kind measure_variance;
extern const struct moment_kind measure_stddev_pop;
extern const struct moment_kind measure_stddev_samp;
extern const struct moment_kind measure_stddev;
extern const struct moment_kind measure_covar_pop;
extern const struct moment_kind measure_covar_samp;
extern const struct moment_kind measure_corr;
extern const struct moment_kind measure_regr_count;
extern const struct moment_kind measure_regr_avgx;
extern const struct moment_kind measure_regr_avgy;
extern const struct moment_kind measure_regr_sxx;
extern const struct moment_kind measure_regr_syy;
extern const struct moment_kind measure_regr_sxy;
extern const struct moment_kind measure_regr_slope;
extern const struct moment_kind measure_regr_intercept;
extern const struct moment_kind measure_regr_r2;
extern const struct measure_kind measure_first;
extern const struct measure_kind measure_last;
extern const struct measure_kind measure_arg_min;
extern const struct measure_kind measure_arg_max;

/* One value that a state keeps. A string lives in the arena, in a buffer that grows by doubling, so
 * that a group costs at most twice its longest winner; a decimal is trimmed. Initialised with a
 * typed NULL and zeroes. */
struct kept_value {
    struct value value;
    char *buffer; /* of a string's bytes */
    size_t capacity;
};

enum status kept_value_set(struct kept_value *kept, const struct value *value, struct arena *arena,
                           struct error *error) MUST_CHECK;

/* The state of sum and avg: an exact sum and how many values are in it. Integers are added in 128
 * bits, which 2^64 of them cannot fill; decimals in 384 (see decimal_wide.h). */
struct exact_sum {
    int64_t count; /* of values that were not NULL */
    bool is_wide;  /* which of the two is in use: fixed by the argument's type */
    union {
        int128 integer;
        struct decimal_wide decimal;
    };
};

/* Shared by sum and avg, in sum.c. Bytes of the state for the measure's argument type. */
size_t exact_sum_bytes(const struct measure *measure);
void exact_sum_init(const struct measure *measure, void *state);
enum status exact_sum_fold(const struct measure *measure, void *state,
                           const struct value *arguments, const struct measure_origin *origin,
                           struct arena *arena, struct error *error);
enum status exact_sum_merge(const struct measure *measure, void *into, const void *from,
                            struct arena *arena, struct error *error);
void exact_sum_widen(const struct exact_sum *sum, struct decimal_wide *out);
/* From a numeric column; refuses a fraction in an integer sum. */
enum status exact_sum_decode(const struct measure *measure, struct exact_sum *sum,
                             const struct pgbinary_field *field, struct error *error) MUST_CHECK;
/* A wide decimal as a result: value or text, see measure_kind.finish. */
enum status exact_sum_result(struct decimal_wide *wide, struct arena *arena, struct value *out,
                             const char **wide_text, struct error *error) MUST_CHECK;

#endif
