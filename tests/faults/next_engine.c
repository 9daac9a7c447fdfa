/* Linked into the programs of the "next" release (make/faults.mk): integers are greater by 1000
 * than with the engine that is tested, so that nobody can mistake the states of the one for the
 * other's. */
#include "core/expressions/expression.h"

enum status __real_expression_evaluate(const struct expression *expression,
                                       const struct value *fields, struct arena *scratch,
                                       struct value *out, struct error *error);
enum status __wrap_expression_evaluate(const struct expression *expression,
                                       const struct value *fields, struct arena *scratch,
                                       struct value *out, struct error *error);

enum status __wrap_expression_evaluate(const struct expression *expression,
                                       const struct value *fields, struct arena *scratch,
                                       struct value *out, struct error *error)
{
    enum status status = __real_expression_evaluate(expression, fields, scratch, out, error);
    if (status == STATUS_OK && out->type == VALUE_INTEGER && !out->is_null)
        out->integer += 1000;
    return status;
}
