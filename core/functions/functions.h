/* The functions of expressions: one table, which resolves calls, evaluates them and is the list in
 * docs/VIEWS.md.
 *
 * Rows of one name stand together and are tried in order, so the narrower comes first, as
 * PostgreSQL would choose. Immutable; any thread. */
#ifndef DOVETAIL_FUNCTIONS_H
#define DOVETAIL_FUNCTIONS_H

#include "core/expressions/expression_node.h"

enum {
    FUNCTION_ARGUMENT_MAX = 100, /* PostgreSQL's limit */
    STRING_BYTES_MAX = 16 * 1024 * 1024,
};

/* All arguments are evaluated first, and none is NULL, unless the function takes NULLs. */
typedef enum status function_evaluate(const struct expression *node, const struct value *arguments,
                                      struct evaluation *in, struct value *out);

struct function {
    const char *name; /* in capitals: not called by name, but by a form of its own */
    /* One letter for each argument: s string, j integer of 32 bits, k the same or NULL, i any
     * integer, d decimal, n a number that becomes a decimal, b boolean, t timestamp, v interval, a
     * anything; a
     * * at the end: any number of the last. NULL: any. */
    const char *arguments;
    char result; /* one of those letters */
    function_evaluate *evaluate;
    expression_function *evaluate_whole; /* instead: evaluates the arguments itself */
    const char *form;                    /* for docs/VIEWS.md; NULL where a row above says it */
    const char *gives;                   /* for docs/VIEWS.md; NULL: the type of `result` */
    const char *meaning;                 /* for docs/VIEWS.md; of a row that has no evaluator and
                                            no form: why the call is refused */
};

/* The tables, each ended by a row without a name. */
extern const struct function number_functions[], string_functions[], time_functions[],
    other_functions[];

/* All of them, and NULL. */
extern const struct function *const function_tables[];

/* The first row of that name, or NULL. The next rows of the name follow it. */
const struct function *function_find(const char *name);

/* The letter of an expression's type, as in `arguments`; ? for NULL without a type. */
char function_letter(const struct expression *expression);
enum value_type function_type_of_letter(char letter);

/* --- shared by evaluators and casts --- */

/* A string of `length` bytes in scratch, at most STRING_BYTES_MAX; the caller fills *data. */
enum status function_new_string(struct evaluation *in, size_t length, char **data,
                                struct value *out) MUST_CHECK;

/* LIKE: value, pattern. ESCAPE: pattern, escape character. */
function_evaluate function_like, function_ilike, function_not_like, function_not_ilike,
    function_escape;

/* Small letters for capital ones, of ASCII only, as under the collation "C". */
enum status function_lower(const struct value *string, struct evaluation *in,
                           struct value *out) MUST_CHECK;

#endif
