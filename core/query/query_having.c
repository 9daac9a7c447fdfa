/* Comparisons with results: `having`.
 *
 * Invariant: numbers are compared as decimals of any length, digit by digit, so that no bound is
 * rounded and none is too long. A measure that is compared need not be in the answer. Pure. */
#include "core/query/query_internal.h"

#include <string.h>

enum { NUMBER_TEXT_MAX = 400 }; /* digits of the widest result, and some */

/* -12.50: digits, with a point between two of them or none. */
static bool is_number(const char *text)
{
    size_t digits = strspn(text += *text == '-' ? 1 : 0, "0123456789");
    if (digits == 0 || strlen(text) > NUMBER_TEXT_MAX)
        return false;
    text += digits;
    if (*text == '.') {
        digits = strspn(++text, "0123456789");
        text += digits;
    }
    return digits > 0 && *text == '\0';
}

static enum status take_text(const struct view_measure *measure, const char *text,
                             struct query_condition *condition, struct error *error)
{
    char name[64];
    enum value_type type = measure->measure->result_type;
    if (type == VALUE_INTEGERS)
        return error_set(error, STATUS_REJECT,
                         "having: \"%s\" is a list: it can only be compared with null",
                         measure->name);
    if (type == VALUE_INTEGER || type == VALUE_DECIMAL) {
        condition->number = text;
        if (!is_number(text))
            return error_set(error, STATUS_REJECT,
                             "having: \"%s\" is a number, and \"%s\" is none, such as -12.5",
                             measure->name, query_shown(text, name, sizeof name));
        return STATUS_OK;
    }
    enum status status = value_parse(type, text, strlen(text), &condition->value, error);
    return status == STATUS_OK ? status : error_wrap(error, "having: %s", measure->name);
}

enum status query_choose_having(struct query_plan *plan, const struct query_request *request,
                                struct arena *arena, struct error *error)
{
    const struct view *shape = &plan->shape;
    plan->having = arena_alloc(arena, request->having_count * sizeof *plan->having);
    if (plan->having == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < request->having_count; i++) {
        const struct query_having *having = &request->having[i];
        struct query_condition *condition = &plan->having[i];
        *condition = (struct query_condition){.comparison = having->comparison};
        while (strcmp(shape->measures[condition->measure].name, having->measure) != 0)
            condition->measure++; /* choose_measures has seen to it that it is there */
        enum status status = having->text == NULL ? STATUS_OK
                                                  : take_text(&shape->measures[condition->measure],
                                                              having->text, condition, error);
        if (status != STATUS_OK)
            return status;
    }
    plan->having_count = request->having_count;
    return STATUS_OK;
}

static bool holds(const struct query_condition *condition, const struct query_row *row)
{
    const struct value *result = &row->results[condition->measure];
    const char *wide_text = row->wide_texts[condition->measure];
    bool is_null = wide_text == NULL && result->is_null;
    if (condition->comparison == QUERY_NULL)
        return is_null;
    if (is_null || condition->comparison == QUERY_NOT_NULL)
        return !is_null;
    int order = condition->number != NULL
                    ? query_compare_number(result, wide_text, condition->number)
                    : value_compare(result, &condition->value);
    switch (condition->comparison) {
    case QUERY_EQUAL:
        return order == 0;
    case QUERY_UNEQUAL:
        return order != 0;
    case QUERY_LESS:
        return order < 0;
    case QUERY_LESS_OR_EQUAL:
        return order <= 0;
    case QUERY_GREATER:
        return order > 0;
    default:
        return order >= 0;
    }
}

bool query_passes_having(const struct query_plan *plan, const struct query_row *row)
{
    for (size_t i = 0; i < plan->having_count; i++)
        if (!holds(&plan->having[i], row))
            return false;
    return true;
}
