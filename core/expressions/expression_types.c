/* Nodes of expressions, and the types PostgreSQL gives them (documentation, chapter 10).
 *
 * Invariant: whatever is accepted has one type for every node, so that evaluation never meets a
 * wrong one; integers of 32 bits are told from those of 64. One thread. */
#include "core/expressions/expression_build.h"

#include <string.h>

#include "core/functions/conversion.h"
#include "core/time/timestamp.h"

/* Evaluation recurses as deep as the tree, at some hundred bytes of stack a node: NODE_MAX bounds
 * that for chains, which nest without parentheses. */
enum { CHILD_MAX = 1000, NODE_MAX = 5000 };

enum status expression_new(struct expression_parser *parser, expression_function *evaluate,
                           enum value_type type, size_t child_count, struct expression **out)
{
    if (++parser->node_count > NODE_MAX) {
        return expression_parser_fault(parser, "more than %d parts in one expression", NODE_MAX);
    }
    struct expression *node = arena_alloc(parser->arena, sizeof *node);
    struct expression **children =
        arena_alloc(parser->arena, (child_count + 1) * sizeof(struct expression *));

    if (node == NULL || children == NULL) {
        return error_no_memory(parser->error);
    }
    *node = (struct expression){.evaluate = evaluate,
                                .kind = EXPRESSION_OTHER,
                                .type = type,
                                .children = children,
                                .child_count = child_count};
    *out = node;
    return STATUS_OK;
}

enum status expression_new_constant(struct expression_parser *parser, struct value value,
                                    struct expression **out)
{
    enum status status = expression_new(parser, expression_constant, value.type, 0, out);
    if (status == STATUS_OK) {
        (*out)->kind = EXPRESSION_CONSTANT;
        (*out)->constant = value;
        (*out)->is_int4 = value.type == VALUE_INTEGER &&
                          (value.is_null || value.integer == (int32_t)value.integer);
    }
    return status;
}

enum status expression_list_add(struct expression_parser *parser, struct node_list *list,
                                struct expression *node)
{
    if (list->count == CHILD_MAX) {
        return expression_parser_fault(parser, "more than %d parts", CHILD_MAX);
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        struct expression **nodes =
            arena_alloc(parser->arena, capacity * sizeof(struct expression *));
        if (nodes == NULL) {
            return error_no_memory(parser->error);
        }
        if (list->count != 0) {
            memcpy(nodes, list->nodes, list->count * sizeof(struct expression *));
        }
        list->nodes = nodes;
        list->capacity = capacity;
    }
    list->nodes[list->count++] = node;
    return STATUS_OK;
}

enum status expression_new_over(struct expression_parser *parser, expression_function *evaluate,
                                enum value_type type, struct expression *const *children,
                                size_t count, struct expression **out)
{
    enum status status = expression_new(parser, evaluate, type, count, out);
    if (status == STATUS_OK && count != 0) {
        memcpy((*out)->children, children, count * sizeof(struct expression *));
    }
    return status;
}

/* --- types --- */

bool expression_is_numeric(enum value_type type)
{
    return type == VALUE_INTEGER || type == VALUE_DECIMAL;
}

bool expression_is_untyped_text(const struct expression *node)
{
    return node->kind == EXPRESSION_CONSTANT && node->type == VALUE_STRING;
}

void expression_set_width(struct expression *node, struct expression *const *parts, size_t count)
{
    node->is_int4 = node->type == VALUE_INTEGER;
    for (size_t i = 0; i < count; i++) {
        node->is_int4 = node->is_int4 && (parts[i]->type != VALUE_INTEGER || parts[i]->is_int4);
    }
}

/* The type that a list of expressions has together, as PostgreSQL resolves CASE, COALESCE and
 * comparisons; false where there is none. */
static bool common_type(struct expression *const *nodes, size_t count, enum value_type *out)
{
    bool found = false;

    for (size_t i = 0; i < count; i++) {
        if (nodes[i]->kind == EXPRESSION_UNTYPED_NULL || expression_is_untyped_text(nodes[i])) {
            continue;
        }
        if (!found) {
            *out = nodes[i]->type;
            found = true;
        } else if (expression_is_numeric(*out) && expression_is_numeric(nodes[i]->type)) {
            *out = *out == VALUE_DECIMAL ? VALUE_DECIMAL : nodes[i]->type;
        } else if (*out != nodes[i]->type) {
            return false;
        }
    }
    if (!found) {
        *out = VALUE_STRING; /* only literals: text */
    }
    return true;
}

/* A text as a timestamp, where PostgreSQL reads the same: it refuses offsets of 16 hours and more
 * and fractions of second 60, and rounds what is finer than a microsecond, which an event's time is
 * not. */
static bool timestamp_of(const struct value *text, int64_t *time_us)
{
    const char *data = text->string.data;
    size_t length = text->string.length;

    if (timestamp_parse_date_or_rfc3339(data, length, time_us) != TIMESTAMP_OK) {
        return false;
    }
    const char *point = memchr(data, '.', length);
    size_t digits = point == NULL ? 0 : strspn(point + 1, "0123456789");
    bool past_60 = digits > 0 && memcmp(point - 2, "60", 2) == 0 && strspn(point + 1, "0") < digits;
    bool has_offset = length > 10 && data[length - 3] == ':' && data[length - 6] != ':';
    return digits <= 6 && !past_60 && !(has_offset && memcmp(data + length - 5, "16", 2) >= 0);
}

/* Makes *node of `type`, which common_type has chosen. False where it cannot be. */
enum status expression_coerce(struct expression_parser *parser, enum value_type type,
                              struct expression **node, bool *possible)
{
    struct expression *child = *node;

    *possible = true;
    if (child->kind == EXPRESSION_UNTYPED_NULL && type != TYPE_INTERVAL) {
        return expression_new_constant(parser, value_null(type), node);
    }
    if (child->type == type) {
        return STATUS_OK;
    }
    if (type == VALUE_DECIMAL && child->type == VALUE_INTEGER) {
        if (child->kind == EXPRESSION_CONSTANT && !child->constant.is_null) {
            struct decimal decimal = decimal_from_int64(child->constant.integer);
            return expression_new_constant(parser, value_decimal(decimal), node);
        }
        return expression_new_over(parser, expression_to_decimal, VALUE_DECIMAL, &child, 1, node);
    }
    if (type == VALUE_TIMESTAMP && expression_is_untyped_text(child)) {
        int64_t time_us;
        if (timestamp_of(&child->constant, &time_us)) {
            return expression_new_constant(parser, value_timestamp(time_us), node);
        }
    }
    *possible = false;
    return STATUS_OK;
}

enum status expression_to_text(struct expression_parser *parser, struct expression **node)
{
    struct expression *child = *node;
    bool possible;

    if (child->type == VALUE_STRING) {
        return expression_coerce(parser, VALUE_STRING, node, &possible);
    }
    enum status status =
        expression_new_over(parser, expression_call, VALUE_STRING, &child, 1, node);
    if (status == STATUS_OK) {
        (*node)->function = conversion_find(function_letter(child), 's');
    }
    return status;
}

enum status expression_unify(struct expression_parser *parser, struct expression **nodes,
                             size_t count, size_t column, const char *what, enum value_type *type)
{
    bool possible = common_type(nodes, count, type);

    for (size_t i = 0; possible && i < count; i++) {
        enum status status = expression_coerce(parser, *type, &nodes[i], &possible);
        if (status != STATUS_OK) {
            return status;
        }
        if (!possible && *type == VALUE_TIMESTAMP && expression_is_untyped_text(nodes[i])) {
            return expression_fault_at(parser, column,
                                       "%s: '%s' is not a time such as '2001-01-01' or "
                                       "'2001-01-01T00:00:00Z'",
                                       what, nodes[i]->constant.string.data);
        }
    }
    if (possible) {
        return STATUS_OK;
    }
    for (size_t i = 1; i < count; i++) { /* name the first two that differ */
        if (nodes[i]->type != nodes[0]->type) {
            return expression_fault_at(parser, column, "%s: the types %s and %s do not go together",
                                       what, expression_type_name(nodes[0]->type),
                                       expression_type_name(nodes[i]->type));
        }
    }
    return expression_fault_at(parser, column, "%s: the types do not go together", what);
}

enum status expression_unify_results(struct expression_parser *parser, struct expression **nodes,
                                     size_t count, size_t column, const char *what,
                                     enum value_type *type)
{
    enum status status = expression_unify(parser, nodes, count, column, what, type);
    if (status == STATUS_OK && *type == TYPE_INTERVAL) {
        return expression_fault_at(parser, column, "%s: intervals are not supported here", what);
    }
    return status;
}

enum status expression_want_boolean(struct expression_parser *parser, struct expression **node,
                                    size_t column, const char *what)
{
    bool possible;
    enum status status = expression_coerce(parser, VALUE_BOOLEAN, node, &possible);
    if (status == STATUS_OK && !possible) {
        return expression_fault_at(parser, column, "%s wants a boolean, found type %s", what,
                                   expression_type_name((*node)->type));
    }
    return status;
}