/* Parsing and type-checking expressions: recursive descent, one function for each level of
 * PostgreSQL's operator precedence (documentation, 4.1.6), loosest first.
 *
 * Invariant: whatever is accepted has one type for every node, so that evaluation never meets a
 * wrong one. Faults name the column; nesting and list lengths are bounded. One thread. */
#include "core/expression_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/definition.h"
#include "core/expression_node.h"
#include "core/timestamp.h"

/* Evaluation recurses as deep as the tree, at some hundred bytes of stack a node: NODE_MAX bounds
 * that for chains, which nest without parentheses. */
enum { NESTING_MAX = 200, CHILD_MAX = 1000, NODE_MAX = 5000 };

/* A list of nodes that grows while it is parsed. */
struct node_list {
    struct expression **nodes;
    size_t count;
    size_t capacity;
};

typedef enum status parse_level(struct expression_parser *parser, struct expression **out);

static parse_level parse_or, parse_and, parse_not, parse_is, parse_comparison, parse_range,
    parse_concatenation, parse_sum, parse_product, parse_sign, parse_primary;

/* --- faults and tokens --- */

static enum status fault_at_column(struct expression_parser *parser, size_t column,
                                   const char *format, va_list arguments)
{
    char text[2 * ERROR_TEXT_BYTES]; /* error_set cuts it, between two characters */
    vsnprintf(text, sizeof text, format, arguments);
    return error_set(parser->error, STATUS_REJECT, "column %zu: %s", column, text);
}

enum status expression_parser_fault(struct expression_parser *parser, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum status status =
        fault_at_column(parser, parser->lexer.token.column, format, arguments);
    va_end(arguments);
    return status;
}

static enum status PRINTF_LIKE(3, 4)
    fault(struct expression_parser *parser, size_t column, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum status status = fault_at_column(parser, column, format, arguments);
    va_end(arguments);
    return status;
}

static enum status advance(struct expression_parser *parser)
{
    return expression_lexer_advance(&parser->lexer, parser->arena, parser->error);
}

static bool next_is(const struct expression_parser *parser, const char *word)
{
    const struct token *token = &parser->lexer.token;
    return (token->kind == TOKEN_NAME || token->kind == TOKEN_SYMBOL) &&
           strcmp(token->text, word) == 0;
}

enum status expression_parser_accept(struct expression_parser *parser, const char *word,
                                     bool *accepted)
{
    *accepted = next_is(parser, word);
    return *accepted ? advance(parser) : STATUS_OK;
}

enum status expression_parser_expect(struct expression_parser *parser, const char *word)
{
    if (!next_is(parser, word)) {
        const struct token *token = &parser->lexer.token;
        return expression_parser_fault(parser, "wants %s, found %s%s%s", word,
                                       token->kind == TOKEN_END ? "the end" : "\"",
                                       token->text, token->kind == TOKEN_END ? "" : "\"");
    }
    return advance(parser);
}

enum status expression_parser_expect_end(struct expression_parser *parser)
{
    if (parser->lexer.token.kind != TOKEN_END) {
        return expression_parser_fault(parser, "the expression should end before \"%s\"",
                                       parser->lexer.token.text);
    }
    return STATUS_OK;
}

enum status expression_parser_init(struct expression_parser *parser, const char *text,
                                   const struct source *source, struct arena *arena,
                                   struct error *error)
{
    *parser = (struct expression_parser){.source = source, .arena = arena, .error = error};
    expression_lexer_init(&parser->lexer, text);
    return advance(parser);
}

/* --- nodes --- */

static enum status new_node(struct expression_parser *parser, expression_function *evaluate,
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

static enum status new_constant(struct expression_parser *parser, struct value value,
                                struct expression **out)
{
    enum status status = new_node(parser, expression_constant, value.type, 0, out);
    if (status == STATUS_OK) {
        (*out)->kind = EXPRESSION_CONSTANT;
        (*out)->constant = value;
    }
    return status;
}

static enum status list_add(struct expression_parser *parser, struct node_list *list,
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

static enum status node_of_list(struct expression_parser *parser, expression_function *evaluate,
                                enum value_type type, const struct node_list *list,
                                struct expression **out)
{
    enum status status = new_node(parser, evaluate, type, list->count, out);
    if (status == STATUS_OK) {
        memcpy((*out)->children, list->nodes, list->count * sizeof(struct expression *));
    }
    return status;
}

/* --- types --- */

static bool is_numeric(enum value_type type)
{
    return type == VALUE_INTEGER || type == VALUE_DECIMAL;
}

static bool is_untyped_text(const struct expression *node)
{
    return node->kind == EXPRESSION_CONSTANT && node->type == VALUE_STRING;
}

/* The type that a list of expressions has together, as PostgreSQL resolves CASE, COALESCE and
 * comparisons; false where there is none. */
static bool common_type(struct expression *const *nodes, size_t count, enum value_type *out)
{
    bool found = false;

    for (size_t i = 0; i < count; i++) {
        if (nodes[i]->kind == EXPRESSION_UNTYPED_NULL || is_untyped_text(nodes[i])) {
            continue;
        }
        if (!found) {
            *out = nodes[i]->type;
            found = true;
        } else if (is_numeric(*out) && is_numeric(nodes[i]->type)) {
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

/* A text as a timestamp, where PostgreSQL reads the same: it refuses offsets of 16 hours and more,
 * and rounds what is finer than a microsecond, which an event's time is not. */
static bool timestamp_of(const struct value *text, int64_t *time_us)
{
    const char *data = text->string.data;
    size_t length = text->string.length;

    if (timestamp_parse_date_or_rfc3339(data, length, time_us) != TIMESTAMP_OK) {
        return false;
    }
    const char *point = memchr(data, '.', length);
    size_t digits = point == NULL ? 0 : strspn(point + 1, "0123456789");
    bool has_offset = length > 10 && data[length - 3] == ':' && data[length - 6] != ':';
    return digits <= 6 && !(has_offset && memcmp(data + length - 5, "16", 2) >= 0);
}

/* Makes *node of `type`, which common_type has chosen. False where it cannot be. */
static enum status coerce(struct expression_parser *parser, enum value_type type,
                          struct expression **node, bool *possible)
{
    *possible = true;
    if ((*node)->kind == EXPRESSION_UNTYPED_NULL) {
        return new_constant(parser, value_null(type), node);
    }
    if ((*node)->type == type) {
        return STATUS_OK;
    }
    if (type == VALUE_DECIMAL && (*node)->type == VALUE_INTEGER) {
        if ((*node)->kind == EXPRESSION_CONSTANT) {
            struct value integer = (*node)->constant;
            return new_constant(parser, value_decimal(decimal_from_int64(integer.integer)), node);
        }
        struct expression *child = *node;
        enum status status = new_node(parser, expression_to_decimal, VALUE_DECIMAL, 1, node);
        if (status == STATUS_OK) {
            (*node)->children[0] = child;
        }
        return status;
    }
    if (type == VALUE_TIMESTAMP && is_untyped_text(*node)) {
        int64_t time_us;
        if (timestamp_of(&(*node)->constant, &time_us)) {
            return new_constant(parser, value_timestamp(time_us), node);
        }
    }
    *possible = false;
    return STATUS_OK;
}

static enum status unify(struct expression_parser *parser, struct expression **nodes, size_t count,
                         size_t column, const char *what, enum value_type *type)
{
    bool possible = common_type(nodes, count, type);

    for (size_t i = 0; possible && i < count; i++) {
        enum status status = coerce(parser, *type, &nodes[i], &possible);
        if (status != STATUS_OK) {
            return status;
        }
        if (!possible && *type == VALUE_TIMESTAMP && is_untyped_text(nodes[i])) {
            return fault(parser, column, "%s: '%s' is not a time such as '2001-01-01' or "
                         "'2001-01-01T00:00:00Z'", what, nodes[i]->constant.string.data);
        }
    }
    if (possible) {
        return STATUS_OK;
    }
    for (size_t i = 1; i < count; i++) { /* name the first two that differ */
        if (nodes[i]->type != nodes[0]->type) {
            return fault(parser, column, "%s: the types %s and %s do not go together", what,
                         value_type_name(nodes[0]->type), value_type_name(nodes[i]->type));
        }
    }
    return fault(parser, column, "%s: the types do not go together", what);
}

static enum status want_boolean(struct expression_parser *parser, struct expression **node,
                                size_t column, const char *what)
{
    bool possible;
    enum status status = coerce(parser, VALUE_BOOLEAN, node, &possible);
    if (status == STATUS_OK && !possible) {
        return fault(parser, column, "%s wants a boolean, found type %s", what,
                     value_type_name((*node)->type));
    }
    return status;
}

/* --- levels --- */

static enum status parse_nested(struct expression_parser *parser, parse_level *level,
                                struct expression **out)
{
    if (++parser->depth > NESTING_MAX) {
        return expression_parser_fault(parser, "nested more than %d deep", NESTING_MAX);
    }
    enum status status = level(parser, out);
    parser->depth--;
    return status;
}

enum status expression_parse(struct expression_parser *parser, struct expression **out)
{
    enum status status = parse_nested(parser, parse_or, out);
    if (status == STATUS_OK && (*out)->kind == EXPRESSION_UNTYPED_NULL) {
        return new_constant(parser, value_null(VALUE_STRING), out);
    }
    return status;
}

enum status expression_parse_condition(struct expression_parser *parser, const char *what,
                                       struct expression **out)
{
    size_t column = parser->lexer.token.column;
    enum status status = parse_nested(parser, parse_or, out);
    return status == STATUS_OK ? want_boolean(parser, out, column, what) : status;
}

/* child (word child)*, all boolean. */
static enum status parse_junction(struct expression_parser *parser, const char *word,
                                  const char *shown, parse_level *child,
                                  expression_function *evaluate, struct expression **out)
{
    struct node_list list = {0};
    size_t column = parser->lexer.token.column;

    enum status status = child(parser, out);
    while (status == STATUS_OK && next_is(parser, word)) {
        if (list.count == 0) {
            status = want_boolean(parser, out, column, shown);
            status = status == STATUS_OK ? list_add(parser, &list, *out) : status;
        }
        status = status == STATUS_OK ? advance(parser) : status;
        column = parser->lexer.token.column;
        struct expression *next = NULL;
        status = status == STATUS_OK ? child(parser, &next) : status;
        status = status == STATUS_OK ? want_boolean(parser, &next, column, shown) : status;
        status = status == STATUS_OK ? list_add(parser, &list, next) : status;
    }
    if (status != STATUS_OK || list.count == 0) {
        return status;
    }
    return node_of_list(parser, evaluate, VALUE_BOOLEAN, &list, out);
}

static enum status parse_or(struct expression_parser *parser, struct expression **out)
{
    return parse_junction(parser, "or", "OR", parse_and, expression_or, out);
}

static enum status parse_and(struct expression_parser *parser, struct expression **out)
{
    return parse_junction(parser, "and", "AND", parse_not, expression_and, out);
}

static enum status parse_not(struct expression_parser *parser, struct expression **out)
{
    bool negated;
    struct expression *child;

    enum status status = expression_parser_accept(parser, "not", &negated);
    if (status != STATUS_OK || !negated) {
        return status == STATUS_OK ? parse_is(parser, out) : status;
    }
    size_t column = parser->lexer.token.column;
    status = parse_nested(parser, parse_not, &child);
    status = status == STATUS_OK ? want_boolean(parser, &child, column, "NOT") : status;
    status = status == STATUS_OK ? new_node(parser, expression_not, VALUE_BOOLEAN, 1, out) : status;
    if (status == STATUS_OK) {
        (*out)->children[0] = child;
    }
    return status;
}

/* What may follow IS [NOT]. */
static enum status parse_is_test(struct expression_parser *parser, struct expression *child,
                                 bool negated, size_t column, struct expression **out)
{
    expression_function *evaluate = NULL;
    bool wanted = false;
    struct expression *pair[2] = {child, NULL};
    enum status status;

    if (next_is(parser, "null")) {
        evaluate = expression_is_null;
    } else if (next_is(parser, "true") || next_is(parser, "false")) {
        evaluate = expression_is_boolean;
        wanted = next_is(parser, "true");
        status = want_boolean(parser, &pair[0], column, "IS TRUE/FALSE");
        if (status != STATUS_OK) {
            return status;
        }
    } else if (next_is(parser, "distinct")) {
        enum value_type type;
        status = advance(parser);
        status = status == STATUS_OK ? expression_parser_expect(parser, "from") : status;
        status = status == STATUS_OK ? parse_comparison(parser, &pair[1]) : status;
        status = status == STATUS_OK ? unify(parser, pair, 2, column, "IS DISTINCT FROM", &type)
                                     : status;
        status = status == STATUS_OK
                     ? new_node(parser, expression_is_distinct, VALUE_BOOLEAN, 2, out)
                     : status;
        if (status == STATUS_OK) {
            memcpy((*out)->children, pair, sizeof pair);
            (*out)->test.negated = negated;
        }
        if (status == STATUS_OK && next_is(parser, "is")) { /* as in PostgreSQL's grammar */
            return expression_parser_fault(parser, "IS DISTINCT FROM wants parentheses before IS");
        }
        return status;
    } else {
        return expression_parser_fault(parser, "IS wants NULL, TRUE, FALSE or DISTINCT FROM");
    }
    status = advance(parser);
    status = status == STATUS_OK ? new_node(parser, evaluate, VALUE_BOOLEAN, 1, out) : status;
    if (status == STATUS_OK) {
        (*out)->children[0] = pair[0];
        (*out)->test.wanted = wanted;
        (*out)->test.negated = negated;
    }
    return status;
}

static enum status parse_is(struct expression_parser *parser, struct expression **out)
{
    size_t column = parser->lexer.token.column;
    enum status status = parse_comparison(parser, out);

    while (status == STATUS_OK && next_is(parser, "is")) {
        bool negated;
        status = advance(parser);
        status = status == STATUS_OK ? expression_parser_accept(parser, "not", &negated) : status;
        status = status == STATUS_OK ? parse_is_test(parser, *out, negated, column, out) : status;
    }
    return status;
}

static bool comparison_of(const struct token *token, enum comparison *out)
{
    static const char *const symbols[] = {"=", "<>", "<", "<=", ">", ">="};

    for (size_t i = 0; token->kind == TOKEN_SYMBOL && i < 6; i++) {
        if (strcmp(token->text, symbols[i]) == 0) {
            *out = (enum comparison)i;
            return true;
        }
    }
    return false;
}

static enum status parse_comparison(struct expression_parser *parser, struct expression **out)
{
    struct expression *pair[2];
    enum comparison comparison;
    enum value_type type;

    enum status status = parse_range(parser, out);
    if (status != STATUS_OK || !comparison_of(&parser->lexer.token, &comparison)) {
        return status;
    }
    size_t column = parser->lexer.token.column;
    pair[0] = *out;
    status = advance(parser);
    status = status == STATUS_OK ? parse_range(parser, &pair[1]) : status;
    status = status == STATUS_OK ? unify(parser, pair, 2, column, "comparison", &type) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (comparison_of(&parser->lexer.token, &(enum comparison){0})) {
        return expression_parser_fault(parser, "comparisons cannot be chained; use AND");
    }
    status = new_node(parser, expression_compare, VALUE_BOOLEAN, 2, out);
    if (status == STATUS_OK) {
        memcpy((*out)->children, pair, sizeof pair);
        (*out)->comparison = comparison;
    }
    return status;
}

/* IN ( a, b, ... ) after the operand. */
static enum status parse_in(struct expression_parser *parser, struct expression *operand,
                            size_t column, struct expression **out)
{
    struct node_list list = {0};
    enum value_type type;
    bool more = true;

    enum status status = list_add(parser, &list, operand);
    status = status == STATUS_OK ? expression_parser_expect(parser, "(") : status;
    while (status == STATUS_OK && more) {
        struct expression *member = NULL;
        status = parse_nested(parser, parse_or, &member);
        status = status == STATUS_OK ? list_add(parser, &list, member) : status;
        status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    }
    status = status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
    status = status == STATUS_OK ? unify(parser, list.nodes, list.count, column, "IN", &type)
                                 : status;
    return status == STATUS_OK ? node_of_list(parser, expression_in, VALUE_BOOLEAN, &list, out)
                               : status;
}

/* BETWEEN low AND high after the operand. */
static enum status parse_between(struct expression_parser *parser, struct expression *operand,
                                 size_t column, struct expression **out)
{
    struct expression *nodes[3] = {operand, NULL, NULL};
    enum value_type type;

    enum status status = parse_concatenation(parser, &nodes[1]);
    status = status == STATUS_OK ? expression_parser_expect(parser, "and") : status;
    status = status == STATUS_OK ? parse_concatenation(parser, &nodes[2]) : status;
    status = status == STATUS_OK ? unify(parser, nodes, 3, column, "BETWEEN", &type) : status;
    status = status == STATUS_OK ? new_node(parser, expression_between, VALUE_BOOLEAN, 3, out)
                                 : status;
    if (status == STATUS_OK) {
        memcpy((*out)->children, nodes, sizeof nodes);
    }
    return status;
}

static enum status parse_range(struct expression_parser *parser, struct expression **out)
{
    bool negated, in, between;

    enum status status = parse_concatenation(parser, out);
    if (status != STATUS_OK || !(next_is(parser, "not") || next_is(parser, "in") ||
                                 next_is(parser, "between"))) {
        return status;
    }
    size_t column = parser->lexer.token.column;
    status = expression_parser_accept(parser, "not", &negated);
    status = status == STATUS_OK ? expression_parser_accept(parser, "in", &in) : status;
    if (status == STATUS_OK && in) {
        status = parse_in(parser, *out, column, out);
    } else if (status == STATUS_OK) {
        status = expression_parser_accept(parser, "between", &between);
        if (status == STATUS_OK && !between) {
            return expression_parser_fault(parser, "wants IN or BETWEEN after NOT");
        }
        status = status == STATUS_OK ? parse_between(parser, *out, column, out) : status;
    }
    if (status == STATUS_OK) {
        (*out)->test.negated = negated;
    }
    return status;
}

static enum status parse_concatenation(struct expression_parser *parser, struct expression **out)
{
    enum status status = parse_sum(parser, out);

    while (status == STATUS_OK && next_is(parser, "||")) {
        struct expression *pair[2] = {*out, NULL};
        size_t column = parser->lexer.token.column;
        bool left = false, right = false;
        status = advance(parser);
        status = status == STATUS_OK ? parse_sum(parser, &pair[1]) : status;
        status = status == STATUS_OK ? coerce(parser, VALUE_STRING, &pair[0], &left) : status;
        status = status == STATUS_OK ? coerce(parser, VALUE_STRING, &pair[1], &right) : status;
        if (status == STATUS_OK && !(left && right)) {
            return fault(parser, column, "|| wants strings, found type %s",
                         value_type_name(pair[left ? 1 : 0]->type));
        }
        status = status == STATUS_OK
                     ? new_node(parser, expression_concatenate, VALUE_STRING, 2, out)
                     : status;
        if (status == STATUS_OK) {
            memcpy((*out)->children, pair, sizeof pair);
        }
    }
    return status;
}

static enum status arithmetic_node(struct expression_parser *parser, char operator,
                                   struct expression **pair, size_t column,
                                   struct expression **out)
{
    enum value_type type;

    for (int i = 0; i < 2; i++) { /* `delay + NULL`: NULL takes the neighbour's type */
        bool untyped = pair[i]->kind == EXPRESSION_UNTYPED_NULL;
        if (untyped ? pair[1 - i]->kind == EXPRESSION_UNTYPED_NULL : !is_numeric(pair[i]->type)) {
            return fault(parser, column, "%c wants numbers, found %s%s", operator,
                         untyped ? "" : "type ",
                         untyped ? "NULL" : value_type_name(pair[i]->type));
        }
    }
    enum status status = unify(parser, pair, 2, column, "arithmetic", &type);
    if (status == STATUS_OK) {
        status = new_node(parser,
                          type == VALUE_INTEGER ? expression_integer_arithmetic
                                                : expression_decimal_arithmetic,
                          type, 2, out);
    }
    if (status == STATUS_OK) {
        memcpy((*out)->children, pair, 2 * sizeof *pair);
        (*out)->operator= operator;
    }
    return status;
}

/* child (one of `operators` child)*, left to right. */
static enum status parse_arithmetic(struct expression_parser *parser, const char *operators,
                                    parse_level *child, struct expression **out)
{
    enum status status = child(parser, out);

    while (status == STATUS_OK && parser->lexer.token.kind == TOKEN_SYMBOL &&
           parser->lexer.token.length == 1 &&
           strchr(operators, parser->lexer.token.text[0]) != NULL) {
        struct expression *pair[2] = {*out, NULL};
        char operator = parser->lexer.token.text[0];
        size_t column = parser->lexer.token.column;
        status = advance(parser);
        status = status == STATUS_OK ? child(parser, &pair[1]) : status;
        status = status == STATUS_OK ? arithmetic_node(parser, operator, pair, column, out)
                                     : status;
    }
    return status;
}

static enum status parse_sum(struct expression_parser *parser, struct expression **out)
{
    return parse_arithmetic(parser, "+-", parse_product, out);
}

static enum status parse_product(struct expression_parser *parser, struct expression **out)
{
    return parse_arithmetic(parser, "*/%", parse_sign, out);
}

/* PostgreSQL negates a number's digits before it chooses their type: 9223372036854775808 is a
 * numeric, and -9223372036854775808 a bigint. */
static enum status negate_literal(struct expression_parser *parser, struct expression *literal,
                                  struct expression **out)
{
    struct value value = literal->constant;
    struct decimal decimal =
        value.type == VALUE_INTEGER ? decimal_from_int64(value.integer) : value.decimal;
    int64_t integer;

    decimal = decimal_negate(&decimal);
    value = decimal_to_int64(&decimal, &integer) ? value_integer(integer) : value_decimal(decimal);
    enum status status = new_constant(parser, value, out);
    if (status == STATUS_OK) {
        (*out)->is_whole_literal = true;
    }
    return status;
}

static enum status parse_sign(struct expression_parser *parser, struct expression **out)
{
    bool minus, plus = false;
    struct expression *child;
    size_t column = parser->lexer.token.column;

    enum status status = expression_parser_accept(parser, "-", &minus);
    if (status == STATUS_OK && !minus) {
        status = expression_parser_accept(parser, "+", &plus);
    }
    if (status != STATUS_OK || !(minus || plus)) {
        return status == STATUS_OK ? parse_primary(parser, out) : status;
    }
    status = parse_nested(parser, parse_sign, &child);
    if (status == STATUS_OK && !is_numeric(child->type)) {
        bool untyped = child->kind == EXPRESSION_UNTYPED_NULL;
        return fault(parser, column, "a sign wants a number, found %s%s", untyped ? "" : "type ",
                     untyped ? "NULL" : value_type_name(child->type));
    }
    if (status == STATUS_OK && plus) {
        child->is_whole_literal = false;
    }
    if (status != STATUS_OK || plus) {
        *out = child;
        return status;
    }
    if (child->kind == EXPRESSION_CONSTANT && child->is_whole_literal) {
        return negate_literal(parser, child, out);
    }
    status = new_node(parser,
                      child->type == VALUE_INTEGER ? expression_negate_integer
                                                   : expression_negate_decimal,
                      child->type, 1, out);
    if (status == STATUS_OK) {
        (*out)->children[0] = child;
    }
    return status;
}

/* --- primaries --- */

static enum status parse_number(struct expression_parser *parser, struct expression **out)
{
    const struct token *token = &parser->lexer.token;
    struct decimal decimal;
    int64_t integer;

    if (decimal_parse(token->text, token->length, &decimal) != DECIMAL_OK) {
        return expression_parser_fault(parser, "the number has more than %d digits",
                                       DECIMAL_MAX_DIGITS);
    }
    bool is_whole = strpbrk(token->text, ".eE") == NULL;
    bool is_integer = is_whole && decimal_to_int64(&decimal, &integer);
    enum status status =
        new_constant(parser, is_integer ? value_integer(integer) : value_decimal(decimal), out);
    if (status == STATUS_OK) {
        (*out)->is_whole_literal = is_whole;
    }
    return status == STATUS_OK ? advance(parser) : status;
}

static enum status parse_field(struct expression_parser *parser, struct expression **out)
{
    const struct token *token = &parser->lexer.token;
    const struct source *source = parser->source;

    if (token->kind == TOKEN_NAME && expression_word_is_reserved(token->text)) {
        return expression_parser_fault(
            parser, "\"%s\" is a reserved word of SQL; a field of that name is written in double "
                    "quotes", token->text);
    }
    for (size_t i = 0; i < source->field_count; i++) {
        if (strcmp(source->fields[i].name, token->text) == 0) {
            enum status status =
                new_node(parser, expression_field, source->fields[i].type, 0, out);
            if (status == STATUS_OK) {
                (*out)->kind = EXPRESSION_FIELD;
                (*out)->field = i;
                status = advance(parser);
            }
            return status;
        }
    }
    return expression_parser_fault(parser, "source \"%s\" has no field \"%s\"", source->name,
                                   token->text);
}

/* COALESCE ( a, b, ... ), the word being consumed. */
static enum status parse_coalesce(struct expression_parser *parser, size_t column,
                                  struct expression **out)
{
    struct node_list list = {0};
    enum value_type type = VALUE_STRING;
    bool more = true;

    enum status status = expression_parser_expect(parser, "(");
    while (status == STATUS_OK && more) {
        struct expression *member = NULL;
        status = parse_nested(parser, parse_or, &member);
        status = status == STATUS_OK ? list_add(parser, &list, member) : status;
        status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    }
    status = status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
    status = status == STATUS_OK ? unify(parser, list.nodes, list.count, column, "COALESCE", &type)
                                 : status;
    return status == STATUS_OK ? node_of_list(parser, expression_coalesce, type, &list, out)
                               : status;
}

/* Collects [operand] (WHEN condition THEN result)+ [ELSE result] END. */
static enum status parse_case_parts(struct expression_parser *parser, struct node_list *conditions,
                                    struct node_list *results, bool has_operand)
{
    enum status status = STATUS_OK;
    bool more = true;

    while (status == STATUS_OK && more) {
        struct expression *condition = NULL, *result = NULL;
        status = expression_parser_expect(parser, "when");
        size_t column = parser->lexer.token.column;
        status = status == STATUS_OK ? parse_nested(parser, parse_or, &condition) : status;
        if (status == STATUS_OK && !has_operand) {
            status = want_boolean(parser, &condition, column, "WHEN");
        }
        status = status == STATUS_OK ? list_add(parser, conditions, condition) : status;
        status = status == STATUS_OK ? expression_parser_expect(parser, "then") : status;
        status = status == STATUS_OK ? parse_nested(parser, parse_or, &result) : status;
        status = status == STATUS_OK ? list_add(parser, results, result) : status;
        more = next_is(parser, "when");
    }
    bool has_else = false;
    struct expression *otherwise = NULL;
    status = status == STATUS_OK ? expression_parser_accept(parser, "else", &has_else) : status;
    if (status == STATUS_OK && has_else) {
        status = parse_nested(parser, parse_or, &otherwise);
    } else if (status == STATUS_OK) {
        status = new_constant(parser, value_null(VALUE_STRING), &otherwise);
        if (status == STATUS_OK) {
            otherwise->kind = EXPRESSION_UNTYPED_NULL;
        }
    }
    status = status == STATUS_OK ? list_add(parser, results, otherwise) : status;
    return status == STATUS_OK ? expression_parser_expect(parser, "end") : status;
}

static enum status parse_case(struct expression_parser *parser, size_t column,
                              struct expression **out)
{
    struct node_list conditions = {0}, results = {0}, all = {0};
    struct expression *operand = NULL;
    enum value_type type = VALUE_STRING, compared;
    enum status status = STATUS_OK;
    bool has_operand = !next_is(parser, "when");

    if (has_operand) {
        status = parse_nested(parser, parse_or, &operand);
        status = status == STATUS_OK ? list_add(parser, &conditions, operand) : status;
    }
    status = status == STATUS_OK ? parse_case_parts(parser, &conditions, &results, has_operand)
                                 : status;
    if (status == STATUS_OK && has_operand) {
        status = unify(parser, conditions.nodes, conditions.count, column, "CASE", &compared);
    }
    status = status == STATUS_OK
                 ? unify(parser, results.nodes, results.count, column, "CASE", &type)
                 : status;
    size_t first = has_operand ? 1 : 0;
    if (status == STATUS_OK && has_operand) {
        status = list_add(parser, &all, conditions.nodes[0]);
    }
    for (size_t i = 0; status == STATUS_OK && i < results.count; i++) {
        if (i + first < conditions.count) {
            status = list_add(parser, &all, conditions.nodes[i + first]);
        }
        status = status == STATUS_OK ? list_add(parser, &all, results.nodes[i]) : status;
    }
    status = status == STATUS_OK ? node_of_list(parser, expression_case, type, &all, out) : status;
    if (status == STATUS_OK) {
        (*out)->has_operand = has_operand;
    }
    return status;
}

/* TRUE, FALSE, NULL, CASE, COALESCE or a field. */
static enum status parse_word(struct expression_parser *parser, struct expression **out)
{
    size_t column = parser->lexer.token.column;
    bool is_true, is_false = false, is_null = false, is_case = false, is_coalesce = false;

    enum status status = expression_parser_accept(parser, "true", &is_true);
    if (status == STATUS_OK && !is_true) {
        status = expression_parser_accept(parser, "false", &is_false);
    }
    if (status == STATUS_OK && (is_true || is_false)) {
        return new_constant(parser, value_boolean(is_true), out);
    }
    status = status == STATUS_OK ? expression_parser_accept(parser, "null", &is_null) : status;
    if (status == STATUS_OK && is_null) {
        status = new_constant(parser, value_null(VALUE_STRING), out);
        if (status == STATUS_OK) {
            (*out)->kind = EXPRESSION_UNTYPED_NULL;
        }
        return status;
    }
    status = status == STATUS_OK ? expression_parser_accept(parser, "case", &is_case) : status;
    if (status == STATUS_OK && is_case) {
        return parse_case(parser, column, out);
    }
    status = status == STATUS_OK ? expression_parser_accept(parser, "coalesce", &is_coalesce)
                                 : status;
    if (status == STATUS_OK && is_coalesce) {
        return parse_coalesce(parser, column, out);
    }
    return status == STATUS_OK ? parse_field(parser, out) : status;
}

static enum status parse_primary(struct expression_parser *parser, struct expression **out)
{
    const struct token *token = &parser->lexer.token;
    bool parenthesis;
    enum status status;

    switch (token->kind) {
    case TOKEN_NUMBER:
        return parse_number(parser, out);
    case TOKEN_STRING:
        status = new_constant(parser, value_string(token->text, token->length), out);
        return status == STATUS_OK ? advance(parser) : status;
    case TOKEN_NAME:
        return parse_word(parser, out);
    case TOKEN_QUOTED_NAME:
        return parse_field(parser, out);
    case TOKEN_SYMBOL:
    case TOKEN_END:
        break;
    }
    status = expression_parser_accept(parser, "(", &parenthesis);
    if (status == STATUS_OK && !parenthesis) {
        return expression_parser_fault(parser, "wants a value, found %s",
                                       token->kind == TOKEN_END ? "the end" : token->text);
    }
    status = status == STATUS_OK ? parse_nested(parser, parse_or, out) : status;
    return status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
}
