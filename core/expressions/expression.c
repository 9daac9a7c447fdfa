/* Evaluating expressions.
 *
 * Every form of expression has one function here, which evaluates its children in the order
 * PostgreSQL's executor does: AND, OR, CASE, COALESCE and IN stop as soon as the answer is known,
 * so that `x <> 0 AND 1 / x > 2` does not fail. The only failures are those that SQL has too,
 * division by zero and numbers out of range (STATUS_REJECT), and being out of memory. Nothing is
 * shared: any number of threads may evaluate one expression. */
#include "core/expressions/expression.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/expressions/expression_node.h"
#include "core/expressions/expression_parser.h"
#include "core/functions/functions.h"
#include "core/time/timezone.h"

enum status expression_create(const char *text, const struct source *source,
                              struct expression **out, struct error *error)
{
    struct expression_parser parser;
    struct arena *arena = calloc(1, sizeof *arena);

    *out = NULL;
    if (arena == NULL) {
        return error_no_memory(error);
    }
    arena_init(arena);
    struct expression *root = NULL;
    enum status status = expression_parser_init(&parser, text, source, arena, error);
    if (status == STATUS_OK) {
        status = expression_parse(&parser, &root);
    }
    if (status == STATUS_OK) {
        status = expression_parser_expect_end(&parser);
    }
    if (status != STATUS_OK) {
        arena_deinit(arena);
        free(arena);
        return status;
    }
    root->owner = arena;
    *out = root;
    return STATUS_OK;
}

void expression_destroy(struct expression *expression)
{
    if (expression != NULL && expression->owner != NULL) {
        struct arena *arena = expression->owner; /* the node itself lives in it */
        arena_deinit(arena);
        free(arena);
    }
}

enum value_type expression_type(const struct expression *expression)
{
    return expression->type;
}

bool expression_is_constant(const struct expression *expression)
{
    if (expression->kind == EXPRESSION_FIELD) {
        return false;
    }
    for (size_t i = 0; i < expression->child_count; i++) {
        if (!expression_is_constant(expression->children[i])) {
            return false;
        }
    }
    return true;
}

uint64_t expression_zone_digest(const struct expression *expression)
{
    uint64_t digest = expression->zone == NULL ? 0 : time_zone_digest(expression->zone);

    for (size_t i = 0; i < expression->child_count; i++) {
        digest = digest * 31 + expression_zone_digest(expression->children[i]);
    }
    return digest;
}

enum status expression_evaluate(const struct expression *expression, const struct value *fields,
                                struct arena *scratch, struct value *out, struct error *error)
{
    struct evaluation in = {.fields = fields, .scratch = scratch, .error = error};
    return expression_run(expression, &in, out);
}

enum status expression_field(const struct expression *node, struct evaluation *in,
                             struct value *out)
{
    *out = in->fields[node->field];
    return STATUS_OK;
}

enum status expression_constant(const struct expression *node, struct evaluation *in,
                                struct value *out)
{
    (void)in;
    *out = node->constant;
    return STATUS_OK;
}

const char *expression_type_name(enum value_type type)
{
    return type == TYPE_INTERVAL ? "interval" : value_type_name(type);
}

enum status expression_fail(struct evaluation *in, const char *sqlstate, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    enum status status = error_set(in->error, STATUS_REJECT, "%s", text);
    if (in->error != NULL) {
        snprintf(in->error->sqlstate, sizeof in->error->sqlstate, "%s", sqlstate);
    }
    return status;
}

enum status expression_fail_integer(struct evaluation *in)
{
    return expression_fail(in, "22003", "integer out of range");
}

enum status expression_fail_decimal(struct evaluation *in, enum decimal_status status)
{
    if (status == DECIMAL_DIVISION_BY_ZERO) {
        return expression_fail(in, "22012", "division by zero");
    }
    return expression_fail(in, "", "decimal out of range: more than %d digits", DECIMAL_MAX_DIGITS);
}

/* Whether the node's integers have the bits for it. */
static bool has_width(const struct expression *node, int64_t integer)
{
    return !node->is_int4 || integer == (int32_t)integer;
}

enum status expression_negate_integer(const struct expression *node, struct evaluation *in,
                                      struct value *out)
{
    enum status status = expression_run(node->children[0], in, out);
    if (status == STATUS_OK && !out->is_null &&
        (__builtin_sub_overflow(0, out->integer, &out->integer) ||
         !has_width(node, out->integer))) {
        return expression_fail_integer(in);
    }
    return status;
}

enum status expression_negate_decimal(const struct expression *node, struct evaluation *in,
                                      struct value *out)
{
    enum status status = expression_run(node->children[0], in, out);
    if (status == STATUS_OK && !out->is_null) {
        out->decimal = decimal_negate(&out->decimal);
    }
    return status;
}

/* Evaluates both children. True in *is_null where either is NULL. */
static enum status run_both(const struct expression *node, struct evaluation *in,
                            struct value *left, struct value *right, bool *is_null)
{
    enum status status = expression_run(node->children[0], in, left);
    if (status == STATUS_OK) {
        status = expression_run(node->children[1], in, right);
    }
    *is_null = status == STATUS_OK && (left->is_null || right->is_null);
    return status;
}

enum status expression_integer_arithmetic(const struct expression *node, struct evaluation *in,
                                          struct value *out)
{
    struct value left, right;
    bool is_null, overflow = false;
    int64_t result = 0;

    enum status status = run_both(node, in, &left, &right, &is_null);
    if (status != STATUS_OK) {
        return status;
    }
    if (is_null) {
        *out = value_null(VALUE_INTEGER);
        return STATUS_OK;
    }
    int64_t a = left.integer, b = right.integer;
    if (b == 0 && (node->operator== '/' || node->operator== '%')) {
        return expression_fail_decimal(in, DECIMAL_DIVISION_BY_ZERO);
    }
    switch (node->operator) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case '*':
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case '/': /* INT64_MIN / -1 traps on the processor */
        if (b == -1) {
            overflow = __builtin_sub_overflow(0, a, &result);
        } else {
            result = a / b;
        }
        break;
    default:
        result = b == -1 ? 0 : a % b;
        break;
    }
    if (overflow || !has_width(node, result)) {
        return expression_fail_integer(in);
    }
    *out = value_integer(result);
    return STATUS_OK;
}

enum status expression_decimal_arithmetic(const struct expression *node, struct evaluation *in,
                                          struct value *out)
{
    struct value left, right;
    bool is_null;
    enum decimal_status result = DECIMAL_OK;
    struct decimal decimal = {0};

    enum status status = run_both(node, in, &left, &right, &is_null);
    if (status != STATUS_OK) {
        return status;
    }
    if (is_null) {
        *out = value_null(VALUE_DECIMAL);
        return STATUS_OK;
    }
    switch (node->operator) {
    case '+':
        result = decimal_add(&left.decimal, &right.decimal, &decimal);
        break;
    case '-':
        result = decimal_subtract(&left.decimal, &right.decimal, &decimal);
        break;
    case '*':
        result = decimal_multiply(&left.decimal, &right.decimal, &decimal);
        break;
    case '/':
        result = decimal_divide(&left.decimal, &right.decimal, &decimal);
        break;
    default:
        result = decimal_modulo(&left.decimal, &right.decimal, &decimal);
        break;
    }
    if (result != DECIMAL_OK) {
        return expression_fail_decimal(in, result);
    }
    *out = value_decimal(decimal);
    return STATUS_OK;
}

enum status expression_to_decimal(const struct expression *node, struct evaluation *in,
                                  struct value *out)
{
    struct value integer;
    enum status status = expression_run(node->children[0], in, &integer);
    if (status == STATUS_OK) {
        *out = integer.is_null ? value_null(VALUE_DECIMAL)
                               : value_decimal(decimal_from_int64(integer.integer));
    }
    return status;
}

enum status expression_concatenate(const struct expression *node, struct evaluation *in,
                                   struct value *out)
{
    struct value left, right;
    bool is_null;

    enum status status = run_both(node, in, &left, &right, &is_null);
    if (status != STATUS_OK) {
        return status;
    }
    if (is_null) {
        *out = value_null(VALUE_STRING);
        return STATUS_OK;
    }
    char *text;
    status = function_new_string(in, left.string.length + right.string.length, &text, out);
    if (status != STATUS_OK) {
        return status;
    }
    if (left.string.length != 0) {
        memcpy(text, left.string.data, left.string.length);
    }
    if (right.string.length != 0) {
        memcpy(text + left.string.length, right.string.data, right.string.length);
    }
    return STATUS_OK;
}

static bool comparison_holds(enum comparison comparison, int order)
{
    switch (comparison) {
    case COMPARE_EQ:
        return order == 0;
    case COMPARE_NE:
        return order != 0;
    case COMPARE_LT:
        return order < 0;
    case COMPARE_LE:
        return order <= 0;
    case COMPARE_GT:
        return order > 0;
    case COMPARE_GE:
        return order >= 0;
    }
    return false;
}

/* The value of an operand: where it stands, or evaluated into *room. */
static enum status operand(const struct expression *node, struct evaluation *in, struct value *room,
                           const struct value **out)
{
    *out = expression_plain(node, in->fields);
    if (*out != NULL) {
        return STATUS_OK;
    }
    *out = room;
    return expression_run(node, in, room);
}

enum status expression_compare(const struct expression *node, struct evaluation *in,
                               struct value *out)
{
    struct value room[2];
    const struct value *left, *right;

    enum status status = operand(node->children[0], in, &room[0], &left);
    if (status == STATUS_OK) {
        status = operand(node->children[1], in, &room[1], &right);
    }
    if (status == STATUS_OK) {
        *out = left->is_null || right->is_null
                   ? value_null(VALUE_BOOLEAN)
                   : value_boolean(comparison_holds(node->comparison, value_compare(left, right)));
    }
    return status;
}

/* AND stops at the first false, OR at the first true; NULL remembers that it was met. */
static enum status junction(const struct expression *node, struct evaluation *in, bool stops_at,
                            struct value *out)
{
    bool met_null = false;

    for (size_t i = 0; i < node->child_count; i++) {
        struct value child;
        enum status status = expression_run(node->children[i], in, &child);
        if (status != STATUS_OK) {
            return status;
        }
        if (!child.is_null && child.boolean == stops_at) {
            *out = value_boolean(stops_at);
            return STATUS_OK;
        }
        met_null = met_null || child.is_null;
    }
    *out = met_null ? value_null(VALUE_BOOLEAN) : value_boolean(!stops_at);
    return STATUS_OK;
}

enum status expression_and(const struct expression *node, struct evaluation *in, struct value *out)
{
    return junction(node, in, false, out);
}

enum status expression_or(const struct expression *node, struct evaluation *in, struct value *out)
{
    return junction(node, in, true, out);
}

enum status expression_not(const struct expression *node, struct evaluation *in, struct value *out)
{
    enum status status = expression_run(node->children[0], in, out);
    if (status == STATUS_OK && !out->is_null) {
        out->boolean = !out->boolean;
    }
    return status;
}

enum status expression_is_null(const struct expression *node, struct evaluation *in,
                               struct value *out)
{
    struct value child;
    enum status status = expression_run(node->children[0], in, &child);
    if (status == STATUS_OK) {
        *out = value_boolean(child.is_null != node->test.negated);
    }
    return status;
}

enum status expression_is_boolean(const struct expression *node, struct evaluation *in,
                                  struct value *out)
{
    struct value child;
    enum status status = expression_run(node->children[0], in, &child);
    if (status == STATUS_OK) {
        bool is = !child.is_null && child.boolean == node->test.wanted;
        *out = value_boolean(is != node->test.negated);
    }
    return status;
}

enum status expression_is_distinct(const struct expression *node, struct evaluation *in,
                                   struct value *out)
{
    struct value left, right;
    bool is_null;
    enum status status = run_both(node, in, &left, &right, &is_null);
    if (status == STATUS_OK) {
        *out = value_boolean((value_compare(&left, &right) != 0) != node->test.negated);
    }
    return status;
}

/* children[0] IN (children[1], ...): unknown where nothing is equal and something is NULL. */
enum status expression_in(const struct expression *node, struct evaluation *in, struct value *out)
{
    struct value wanted, member;
    bool met_null = false;

    enum status status = expression_run(node->children[0], in, &wanted);
    for (size_t i = 1; status == STATUS_OK && i < node->child_count; i++) {
        status = expression_run(node->children[i], in, &member);
        if (status != STATUS_OK) {
            break;
        }
        if (wanted.is_null || member.is_null) {
            met_null = true;
        } else if (value_compare(&wanted, &member) == 0) {
            *out = value_boolean(!node->test.negated);
            return STATUS_OK;
        }
    }
    if (status == STATUS_OK) {
        *out = met_null ? value_null(VALUE_BOOLEAN) : value_boolean(node->test.negated);
    }
    return status;
}

/* x >= low AND x <= high: false as soon as the first is false, even if high is NULL or fails. */
enum status expression_between(const struct expression *node, struct evaluation *in,
                               struct value *out)
{
    struct value value, low, high;
    bool met_null;

    enum status status = expression_run(node->children[0], in, &value);
    if (status == STATUS_OK) {
        status = expression_run(node->children[1], in, &low);
    }
    if (status != STATUS_OK) {
        return status;
    }
    met_null = value.is_null || low.is_null;
    if (!met_null && value_compare(&value, &low) < 0) {
        *out = value_boolean(node->test.negated);
        return STATUS_OK;
    }
    status = expression_run(node->children[2], in, &high);
    if (status != STATUS_OK) {
        return status;
    }
    if (!value.is_null && !high.is_null && value_compare(&value, &high) > 0) {
        *out = value_boolean(node->test.negated);
    } else if (met_null || high.is_null) {
        *out = value_null(VALUE_BOOLEAN);
    } else {
        *out = value_boolean(!node->test.negated);
    }
    return STATUS_OK;
}

/* [operand,] (condition, result)..., else. The parser always supplies the else. */
enum status expression_case(const struct expression *node, struct evaluation *in, struct value *out)
{
    struct value operand = {0}, condition;
    size_t first = node->has_operand ? 1 : 0;

    if (node->has_operand) {
        enum status status = expression_run(node->children[0], in, &operand);
        if (status != STATUS_OK) {
            return status;
        }
    }
    for (size_t i = first; i + 1 < node->child_count; i += 2) {
        enum status status = expression_run(node->children[i], in, &condition);
        if (status != STATUS_OK) {
            return status;
        }
        bool holds = node->has_operand ? !operand.is_null && !condition.is_null &&
                                             value_compare(&operand, &condition) == 0
                                       : !condition.is_null && condition.boolean;
        if (holds) {
            return expression_run(node->children[i + 1], in, out);
        }
    }
    return expression_run(node->children[node->child_count - 1], in, out);
}

enum status expression_coalesce(const struct expression *node, struct evaluation *in,
                                struct value *out)
{
    for (size_t i = 0; i < node->child_count; i++) {
        enum status status = expression_run(node->children[i], in, out);
        if (status != STATUS_OK || !out->is_null) {
            return status;
        }
    }
    return STATUS_OK;
}

/* NULL where both are equal, else the first; both are evaluated. */
enum status expression_nullif(const struct expression *node, struct evaluation *in,
                              struct value *out)
{
    struct value right;
    bool is_null;

    enum status status = run_both(node, in, out, &right, &is_null);
    if (status == STATUS_OK && !is_null && value_compare(out, &right) == 0) {
        *out = value_null(node->type);
    }
    return status;
}

/* LEAST and GREATEST: of those that are not NULL; of equal ones the first. */
enum status expression_extreme(const struct expression *node, struct evaluation *in,
                               struct value *out)
{
    *out = value_null(node->type);
    for (size_t i = 0; i < node->child_count; i++) {
        struct value child;
        enum status status = expression_run(node->children[i], in, &child);
        if (status != STATUS_OK) {
            return status;
        }
        if (child.is_null) {
            continue;
        }
        int order = out->is_null ? 0 : value_compare(&child, out);
        if (out->is_null || (node->greatest ? order > 0 : order < 0)) {
            *out = child;
        }
    }
    return STATUS_OK;
}
