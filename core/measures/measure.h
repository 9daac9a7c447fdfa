/* Measures: what a view computes for each group and window.
 *
 * Invariant: the state of every measure is a commutative monoid. merge is associative and
 * commutative, init is its neutral element, and equal multisets of folded records give equal states
 * to the byte of their encoding, however they were split and ordered. All exactness at the seam
 * rests on this.
 *
 * A kind of measure is one file in core/measures/ with one struct measure_kind, listed in
 * measure.c. States live in memory of the caller, `state_bytes` long and aligned as a type of that
 * size can be, to STATE_ALIGNMENT at the most; what does not fit there (strings) is kept in the
 * arena that comes with each call and lives as long as the
 * state. A measure is immutable and shared by all threads; a state has one owner at a time. */
#ifndef DOVETAIL_MEASURE_H
#define DOVETAIL_MEASURE_H

#include "core/expressions/expression.h"
#include "core/postgres/pgbinary.h"
#include "core/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    STATE_ALIGNMENT = 16,
    MEASURE_ARGUMENT_MAX = 4,
    MEASURE_PARAMETER_MAX = 64,
    MEASURE_COLUMN_MAX = 8
};

struct measure;

/* A column of PostgreSQL that holds (part of) the state. Its name is the measure's, followed by
 * '$' and the suffix where there is one. */
struct measure_column {
    const char *suffix; /* NULL for the only or main column */
    uint32_t oid;
    const char *sql_type;
};

/* Where a folded record stood, for measures that break ties by it. */
struct measure_origin {
    int64_t time_us;
    int32_t partition;
    int64_t offset;
};

struct measure_kind {
    const char *name; /* the SQL function's */
    const char *help; /* one line for the documentation */
    bool distinct;    /* of two kinds with one name, the one for name(DISTINCT x) */
    /* Arguments from this one on (counted from 0) must be constants and become parameters; 0: none.
     * An array [a, b, ...] gives a parameter for each element. */
    size_t first_parameter;

    /* Checks the arguments' types and fills result_type, state_bytes, columns and private.
     * Errors are about the call as a whole. */
    enum status (*bind)(struct measure *measure, struct error *error);

    void (*init)(const struct measure *measure, void *state);
    /* Folds one record in. `arguments` has argument_count evaluated values. Fails only for want of
     * memory: every sum has room for every value. */
    enum status (*fold)(const struct measure *measure, void *state, const struct value *arguments,
                        const struct measure_origin *origin, struct arena *arena,
                        struct error *error);
    enum status (*merge)(const struct measure *measure, void *into, const void *from,
                         struct arena *arena, struct error *error);
    /* Appends one field for each column. */
    enum status (*encode)(const struct measure *measure, const void *state,
                          struct pgbinary_writer *writer, struct error *error);
    /* Reads one field for each column into an initialised state; refuses what encode cannot have
     * written. Strings are copied into the arena. */
    enum status (*decode)(const struct measure *measure, void *state,
                          const struct pgbinary_field *fields, struct arena *arena,
                          struct error *error);
    /* The result. Strings are borrowed from the state. A decimal result of more than 38 digits does
     * not fit struct value: then *wide_text is its text (trimmed), allocated in the arena, and *out
     * has no meaning; otherwise *wide_text is NULL. */
    enum status (*finish)(const struct measure *measure, const void *state, struct arena *arena,
                          struct value *out, const char **wide_text, struct error *error);

    /* The result in SQL over a group of rows of states: in the template every `{}` stands for the
     * quoted name of the column without suffix, `{n}` for the one with suffix "n", `{'}` for the
     * measure's name as a literal. Equal to merge and finish, value for value. Example:
     * "trim_scale(sum({sum}) / nullif(sum({n}), 0))". */
    const char *(*sql)(const struct measure *measure);

    /* The result over raw records, for `dovetail verify`: in the template {1}, {2}, ... stand for
     * the arguments' texts as written, {filter} for the FILTER clause as written, or nothing. The
     * columns _time_us, _partition and _offset say where a record stood. It shares nothing with the
     * above. NULL, or returning NULL: the measure's own text is PostgreSQL's, too. */
    const char *(*oracle_sql)(const struct measure *measure);
};

struct measure {
    const struct measure_kind *kind;
    struct expression *arguments[MEASURE_ARGUMENT_MAX];
    size_t argument_count;                            /* 0 for count(*) */
    const char *argument_texts[MEASURE_ARGUMENT_MAX]; /* as written */
    struct expression *filter;                        /* NULL: every record */
    const char *filter_text;                          /* as written: "FILTER (WHERE ...)", or "" */
    struct value parameters[MEASURE_PARAMETER_MAX];
    size_t parameter_count;
    bool has_array;                /* of parameters: [a, b] instead of a, b */
    enum value_type argument_type; /* of the first argument */
    enum value_type result_type;
    size_t state_bytes; /* a multiple of the state's alignment */
    struct measure_column columns[MEASURE_COLUMN_MAX];
    size_t column_count;
    const char *sql_text; /* bind may keep templates that depend on the parameters here */
    const char *oracle_text;
    /* The field that is the only argument, any where there is none, or SIZE_MAX: saves evaluation.
     */
    size_t plain_field;
    struct arena arena; /* owns the expressions */
};

/* Parses and binds `text`, such as "sum(delay) FILTER (WHERE delay > 0)". */
enum status measure_create(const char *text, const struct source *source, struct measure **out,
                           struct error *error) MUST_CHECK;
void measure_destroy(struct measure *measure);

/* What one record gives one measure. */
struct measure_input {
    bool skip;                     /* the filter refused the record */
    const struct value *arguments; /* of the fields, or evaluated[] */
    struct value evaluated[MEASURE_ARGUMENT_MAX];
};

/* Evaluates filter and arguments, so that whatever can fail has failed before any state is touched.
 * STATUS_REJECT: an expression failed on this record. */
enum status measure_prepare(const struct measure *measure, const struct value *fields,
                            struct arena *scratch, struct measure_input *input,
                            struct error *error) MUST_CHECK;

/* All kinds, ended by NULL: for documentation and tests. */
const struct measure_kind *const *measure_kinds(void);

#ifdef __cplusplus
}
#endif
#endif
