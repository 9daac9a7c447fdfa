/* Finding functions, and evaluating calls of them. Any thread. */
#include "core/functions/functions.h"

#include <string.h>

#include "core/functions/conversion.h"

const struct function *const function_tables[] = {
    other_functions, number_functions, string_functions, time_functions, NULL,
};

/* What is a form of its own, or means something else in PostgreSQL than an expression may. */
const struct function other_functions[] = {
    {"COALESCE", .gives = "their type", .form = "COALESCE(a, b, ...)",
     .meaning = "the first that is not NULL"},
    {"NULLIF", .gives = "their type", .form = "NULLIF(a, b)",
     .meaning = "NULL where `a = b`, else `a`"},
    {"LEAST", .gives = "their type", .form = "LEAST(a, b, ...)",
     .meaning = "the least that is not NULL"},
    {"GREATEST", .gives = "their type", .form = "GREATEST(a, b, ...)",
     .meaning = "the greatest that is not NULL"},
    {"CAST", .gives = "the type", .form = "CAST(x AS type)",
     .meaning = "`x::type` is the same; see below"},
    {"now", .meaning = "an expression must not depend on anything but its record"},
    {"random", .meaning = "an expression must not depend on anything but its record"},
    {"clock_timestamp", .meaning = "an expression must not depend on anything but its record"},
    {.name = NULL},
};

const struct function *function_find(const char *name)
{
    for (size_t i = 0; function_tables[i] != NULL; i++) {
        for (const struct function *row = function_tables[i]; row->name != NULL; row++) {
            if (strcmp(row->name, name) == 0) {
                return row;
            }
        }
    }
    return NULL;
}

char function_letter(const struct expression *expression)
{
    if (expression->kind == EXPRESSION_UNTYPED_NULL) {
        return '?';
    }
    switch (expression->type) {
    case VALUE_STRING:
        return 's';
    case VALUE_INTEGER:
        return expression->is_int4 ? 'j' : 'i';
    case VALUE_DECIMAL:
        return 'd';
    case VALUE_BOOLEAN:
        return 'b';
    case VALUE_TIMESTAMP:
        return 't';
    default:
        return expression->type == TYPE_INTERVAL ? 'v' : '-';
    }
}

enum value_type function_type_of_letter(char letter)
{
    switch (letter) {
    case 'i':
    case 'j':
    case 'k':
        return VALUE_INTEGER;
    case 'd':
    case 'n':
        return VALUE_DECIMAL;
    case 'b':
        return VALUE_BOOLEAN;
    case 't':
        return VALUE_TIMESTAMP;
    case 'v':
        return TYPE_INTERVAL;
    default:
        return VALUE_STRING;
    }
}

enum { CALL_ARGUMENT_MAX = 4 }; /* of functions that do not evaluate their arguments themselves */

enum status expression_call(const struct expression *node, struct evaluation *in, struct value *out)
{
    struct value arguments[CALL_ARGUMENT_MAX];
    bool met_null = false;

    for (size_t i = 0; i < node->child_count; i++) {
        enum status status = expression_run(node->children[i], in, &arguments[i]);
        if (status != STATUS_OK) {
            return status;
        }
        met_null = met_null || arguments[i].is_null;
    }
    if (met_null) {
        *out = value_null(node->type);
        return STATUS_OK;
    }
    return node->function->evaluate(node, arguments, in, out);
}

enum status function_new_string(struct evaluation *in, size_t length, char **data,
                                struct value *out)
{
    if (length > STRING_BYTES_MAX) {
        return expression_fail(in, "", "string out of range: more than %d bytes", STRING_BYTES_MAX);
    }
    *data = arena_alloc(in->scratch, length + 1);
    if (*data == NULL) {
        return error_no_memory(in->error);
    }
    (*data)[length] = '\0';
    *out = value_string(*data, length);
    return STATUS_OK;
}
