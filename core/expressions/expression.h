/* Expressions: a typed subset of standard SQL over a source's fields.
 *
 * Parsed and type-checked once, then immutable and evaluated from any number of threads. What they
 * mean is what PostgreSQL means by the same text: three-valued logic, exact numerics, integer
 * division that truncates, errors for division by zero and for integers out of range. */
#ifndef DOVETAIL_EXPRESSION_H
#define DOVETAIL_EXPRESSION_H

#include "core/base/arena.h"
#include "core/value.h"

#ifdef __cplusplus
extern "C" {
#endif

struct source;
struct expression;
struct expression_parser; /* see core/expressions/expression_parser.h */

/* Parses all of `text`. Faults are STATUS_REJECT and begin "column N: ". */
enum status expression_create(const char *text, const struct source *source,
                              struct expression **out, struct error *error) MUST_CHECK;
void expression_destroy(struct expression *expression);

enum value_type expression_type(const struct expression *expression);

/* False where no record can make it NULL, judged by its form: which fields it uses, and how. */
bool expression_is_nullable(const struct expression *expression, const struct source *source);

/* `fields` has one value for each of the source's fields. Strings in *out are borrowed from the
 * fields, the expression or `scratch`, which the caller resets between records. STATUS_REJECT: the
 * record makes the expression fail (the text says how), as it would make the SQL statement fail. */
enum status expression_evaluate(const struct expression *expression, const struct value *fields,
                                struct arena *scratch, struct value *out,
                                struct error *error) MUST_CHECK;

/* Of the rules of all time zones that it names: other rules, other digest. 0 where it names none.
 */
uint64_t expression_zone_digest(const struct expression *expression);

#ifdef __cplusplus
}
#endif
#endif
