/* Parsing and type-checking expressions: recursive descent, one function for each level of
 * PostgreSQL's operator precedence (documentation, 4.1.6), loosest first.
 *
 * Invariant: whatever is accepted has one type for every node, so that evaluation never meets a
 * wrong one. Faults name the column; nesting and list lengths are bounded. One thread. */
#include "core/expressions/expression_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/functions/functions.h"
#include "core/functions/regex.h"

enum { NESTING_MAX = 200 };

static parse_level parse_and, parse_not, parse_is, parse_comparison, parse_range, parse_sum,
    parse_product, parse_power, parse_sign, parse_postfix;

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
    enum status status = fault_at_column(parser, parser->lexer.token.column, format, arguments);
    va_end(arguments);
    return status;
}

enum status expression_fault_at(struct expression_parser *parser, size_t column, const char *format,
                                ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum status status = fault_at_column(parser, column, format, arguments);
    va_end(arguments);
    return status;
}

enum status expression_advance(struct expression_parser *parser)
{
    return expression_lexer_advance(&parser->lexer, parser->arena, parser->error);
}

bool expression_next_is(const struct expression_parser *parser, const char *word)
{
    const struct token *token = &parser->lexer.token;
    return (token->kind == TOKEN_NAME || token->kind == TOKEN_SYMBOL) &&
           strcmp(token->text, word) == 0;
}

enum status expression_parser_accept(struct expression_parser *parser, const char *word,
                                     bool *accepted)
{
    *accepted = expression_next_is(parser, word);
    return *accepted ? expression_advance(parser) : STATUS_OK;
}

enum status expression_parser_expect(struct expression_parser *parser, const char *word)
{
    if (!expression_next_is(parser, word)) {
        const struct token *token = &parser->lexer.token;
        return expression_parser_fault(parser, "wants %s, found %s%s%s", word,
                                       token->kind == TOKEN_END ? "the end" : "\"", token->text,
                                       token->kind == TOKEN_END ? "" : "\"");
    }
    return expression_advance(parser);
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
    return expression_advance(parser);
}

/* --- levels --- */

enum status expression_parse_nested(struct expression_parser *parser, parse_level *level,
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
    size_t column = parser->lexer.token.column;
    enum status status = expression_parse_nested(parser, expression_parse_any, out);
    if (status == STATUS_OK && (*out)->type == TYPE_INTERVAL) {
        return expression_fault_at(parser, column,
                                   "an interval is no result; EXTRACT(epoch FROM ...) gives its "
                                   "seconds");
    }
    if (status == STATUS_OK && (*out)->kind == EXPRESSION_UNTYPED_NULL) {
        return expression_new_constant(parser, value_null(VALUE_STRING), out);
    }
    return status;
}

enum status expression_parse_condition(struct expression_parser *parser, const char *what,
                                       struct expression **out)
{
    size_t column = parser->lexer.token.column;
    enum status status = expression_parse_nested(parser, expression_parse_any, out);
    return status == STATUS_OK ? expression_want_boolean(parser, out, column, what) : status;
}

/* child (word child)*, all boolean. */
static enum status parse_junction(struct expression_parser *parser, const char *word,
                                  const char *shown, parse_level *child,
                                  expression_function *evaluate, struct expression **out)
{
    struct node_list list = {0};
    size_t column = parser->lexer.token.column;

    enum status status = child(parser, out);
    while (status == STATUS_OK && expression_next_is(parser, word)) {
        if (list.count == 0) {
            status = expression_want_boolean(parser, out, column, shown);
            status = status == STATUS_OK ? expression_list_add(parser, &list, *out) : status;
        }
        status = status == STATUS_OK ? expression_advance(parser) : status;
        column = parser->lexer.token.column;
        struct expression *next = NULL;
        status = status == STATUS_OK ? child(parser, &next) : status;
        status =
            status == STATUS_OK ? expression_want_boolean(parser, &next, column, shown) : status;
        status = status == STATUS_OK ? expression_list_add(parser, &list, next) : status;
    }
    if (status != STATUS_OK || list.count == 0) {
        return status;
    }
    return expression_new_over(parser, evaluate, VALUE_BOOLEAN, list.nodes, list.count, out);
}

enum status expression_parse_any(struct expression_parser *parser, struct expression **out)
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
    status = expression_parse_nested(parser, parse_not, &child);
    status = status == STATUS_OK ? expression_want_boolean(parser, &child, column, "NOT") : status;
    status = status == STATUS_OK ? expression_new(parser, expression_not, VALUE_BOOLEAN, 1, out)
                                 : status;
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

    if (expression_next_is(parser, "null")) {
        evaluate = expression_is_null;
    } else if (expression_next_is(parser, "true") || expression_next_is(parser, "false")) {
        evaluate = expression_is_boolean;
        wanted = expression_next_is(parser, "true");
        status = expression_want_boolean(parser, &pair[0], column, "IS TRUE/FALSE");
        if (status != STATUS_OK) {
            return status;
        }
    } else if (expression_next_is(parser, "distinct")) {
        enum value_type type;
        status = expression_advance(parser);
        status = status == STATUS_OK ? expression_parser_expect(parser, "from") : status;
        status = status == STATUS_OK ? parse_comparison(parser, &pair[1]) : status;
        status = status == STATUS_OK
                     ? expression_unify(parser, pair, 2, column, "IS DISTINCT FROM", &type)
                     : status;
        status = status == STATUS_OK
                     ? expression_new(parser, expression_is_distinct, VALUE_BOOLEAN, 2, out)
                     : status;
        if (status == STATUS_OK) {
            memcpy((*out)->children, pair, sizeof pair);
            (*out)->test.negated = negated;
        }
        if (status == STATUS_OK &&
            expression_next_is(parser, "is")) { /* as in PostgreSQL's grammar */
            return expression_parser_fault(parser, "IS DISTINCT FROM wants parentheses before IS");
        }
        return status;
    } else {
        return expression_parser_fault(parser, "IS wants NULL, TRUE, FALSE or DISTINCT FROM");
    }
    status = expression_advance(parser);
    status = status == STATUS_OK ? expression_new(parser, evaluate, VALUE_BOOLEAN, 1, out) : status;
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

    while (status == STATUS_OK && expression_next_is(parser, "is")) {
        bool negated;
        status = expression_advance(parser);
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
    status = expression_advance(parser);
    status = status == STATUS_OK ? parse_range(parser, &pair[1]) : status;
    status = status == STATUS_OK ? expression_unify(parser, pair, 2, column, "comparison", &type)
                                 : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (comparison_of(&parser->lexer.token, &(enum comparison){0})) {
        return expression_parser_fault(parser, "comparisons cannot be chained; use AND");
    }
    status = expression_new(parser, expression_compare, VALUE_BOOLEAN, 2, out);
    if (status == STATUS_OK) {
        memcpy((*out)->children, pair, sizeof pair);
        (*out)->comparison = comparison;
    }
    return status;
}

enum status expression_parse_list(struct expression_parser *parser, struct node_list *list)
{
    enum status status = STATUS_OK;

    for (bool more = true; status == STATUS_OK && more;) {
        struct expression *member = NULL;
        status = expression_parse_nested(parser, expression_parse_any, &member);
        status = status == STATUS_OK ? expression_list_add(parser, list, member) : status;
        status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    }
    return status;
}

/* IN ( a, b, ... ) after the operand, the word being consumed. */
static enum status parse_in(struct expression_parser *parser, struct expression *operand,
                            size_t column, bool negated, struct expression **out)
{
    struct node_list list = {0};
    enum value_type type;

    enum status status = expression_list_add(parser, &list, operand);
    status = status == STATUS_OK ? expression_parser_expect(parser, "(") : status;
    status = status == STATUS_OK ? expression_parse_list(parser, &list) : status;
    status = status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
    status = status == STATUS_OK
                 ? expression_unify(parser, list.nodes, list.count, column, "IN", &type)
                 : status;
    status = status == STATUS_OK ? expression_new_over(parser, expression_in, VALUE_BOOLEAN,
                                                       list.nodes, list.count, out)
                                 : status;
    if (status == STATUS_OK) {
        (*out)->test.negated = negated;
    }
    return status;
}

/* BETWEEN low AND high after the operand. */
static enum status parse_between(struct expression_parser *parser, struct expression *operand,
                                 size_t column, bool negated, struct expression **out)
{
    struct expression *nodes[3] = {operand, NULL, NULL};
    enum value_type type;

    enum status status = expression_parse_concatenation(parser, &nodes[1]);
    status = status == STATUS_OK ? expression_parser_expect(parser, "and") : status;
    status = status == STATUS_OK ? expression_parse_concatenation(parser, &nodes[2]) : status;
    status =
        status == STATUS_OK ? expression_unify(parser, nodes, 3, column, "BETWEEN", &type) : status;
    status = status == STATUS_OK
                 ? expression_new_over(parser, expression_between, VALUE_BOOLEAN, nodes, 3, out)
                 : status;
    if (status == STATUS_OK) {
        (*out)->test.negated = negated;
    }
    return status;
}

/* LIKE pattern [ESCAPE character] after the operand. The escape character is applied to the pattern
 * first, so that a bad one fails where the operand is NULL, too. */
static enum status parse_like(struct expression_parser *parser, struct expression *operand,
                              size_t column, const char *function, struct expression **out)
{
    struct expression *pattern[2], *nodes[2] = {operand, NULL};
    bool escape = false;

    enum status status = expression_parse_concatenation(parser, &nodes[1]);
    status = status == STATUS_OK ? expression_parser_accept(parser, "escape", &escape) : status;
    if (status == STATUS_OK && escape) {
        pattern[0] = nodes[1];
        status = expression_parse_concatenation(parser, &pattern[1]);
        status = status == STATUS_OK
                     ? expression_new_call(parser, "ESCAPE", column, pattern, 2, &nodes[1])
                     : status;
    }
    return status == STATUS_OK ? expression_new_call(parser, function, column, nodes, 2, out)
                               : status;
}

static enum status parse_range(struct expression_parser *parser, struct expression **out)
{
    bool negated, is = false;

    enum status status = expression_parse_concatenation(parser, out);
    size_t column = parser->lexer.token.column;
    status = status == STATUS_OK ? expression_parser_accept(parser, "not", &negated) : status;
    status = status == STATUS_OK ? expression_parser_accept(parser, "in", &is) : status;
    if (status != STATUS_OK || is) {
        return status == STATUS_OK ? parse_in(parser, *out, column, negated, out) : status;
    }
    status = expression_parser_accept(parser, "between", &is);
    if (status != STATUS_OK || is) {
        return status == STATUS_OK ? parse_between(parser, *out, column, negated, out) : status;
    }
    status = expression_parser_accept(parser, "like", &is);
    if (status != STATUS_OK || is) {
        const char *function = negated ? "NOT LIKE" : "LIKE";
        return status == STATUS_OK ? parse_like(parser, *out, column, function, out) : status;
    }
    status = expression_parser_accept(parser, "ilike", &is);
    if (status != STATUS_OK || is) {
        const char *function = negated ? "NOT ILIKE" : "ILIKE";
        return status == STATUS_OK ? parse_like(parser, *out, column, function, out) : status;
    }
    if (negated) {
        return expression_parser_fault(parser, "wants IN, BETWEEN, LIKE or ILIKE after NOT");
    }
    return STATUS_OK;
}

static bool is_text(const struct expression *node)
{
    return node->type == VALUE_STRING; /* untyped NULL, too */
}

/* a || b: PostgreSQL wants one string, and makes the other one as a cast would. */
static enum status concatenation_node(struct expression_parser *parser, struct expression **pair,
                                      size_t column, struct expression **out)
{
    if ((!is_text(pair[0]) && !is_text(pair[1])) || pair[0]->type == TYPE_INTERVAL ||
        pair[1]->type == TYPE_INTERVAL) {
        return expression_fault_at(parser, column, "|| wants strings, found types %s and %s",
                                   expression_type_name(pair[0]->type),
                                   expression_type_name(pair[1]->type));
    }
    enum status status = expression_to_text(parser, &pair[0]);
    status = status == STATUS_OK ? expression_to_text(parser, &pair[1]) : status;
    return status == STATUS_OK
               ? expression_new_over(parser, expression_concatenate, VALUE_STRING, pair, 2, out)
               : status;
}

/* x ~ 'pattern': compiled now, so that it must be a literal. */
static enum status match_node(struct expression_parser *parser, struct expression **pair,
                              size_t column, bool negated, struct expression **out)
{
    const struct regex *regex;
    bool possible;

    enum status status = expression_coerce(parser, VALUE_STRING, &pair[0], &possible);
    if (status == STATUS_OK && !possible) {
        return expression_fault_at(parser, column, "~ wants a string, found type %s",
                                   expression_type_name(pair[0]->type));
    }
    if (status == STATUS_OK && !expression_is_untyped_text(pair[1])) {
        return expression_fault_at(parser, column, "~ wants a string literal as its pattern");
    }
    status = status == STATUS_OK
                 ? regex_compile(pair[1]->constant.string.data, pair[1]->constant.string.length,
                                 parser->arena, &regex, parser->error)
                 : status;
    if (status == STATUS_REJECT) {
        return error_wrap(parser->error, "column %zu", column);
    }
    status = status == STATUS_OK
                 ? expression_new_over(parser, regex_evaluate, VALUE_BOOLEAN, pair, 1, out)
                 : status;
    if (status == STATUS_OK) {
        (*out)->match.regex = regex;
        (*out)->match.negated = negated;
    }
    return status;
}

enum status expression_parse_concatenation(struct expression_parser *parser,
                                           struct expression **out)
{
    enum status status = parse_sum(parser, out);

    while (status == STATUS_OK &&
           (expression_next_is(parser, "||") || expression_next_is(parser, "~") ||
            expression_next_is(parser, "!~"))) {
        struct expression *pair[2] = {*out, NULL};
        size_t column = parser->lexer.token.column;
        char operator= parser->lexer.token.text[0];
        status = expression_advance(parser);
        status = status == STATUS_OK ? parse_sum(parser, &pair[1]) : status;
        if (status == STATUS_OK && operator== '|') {
            status = concatenation_node(parser, pair, column, out);
        } else if (status == STATUS_OK) {
            status = match_node(parser, pair, column, operator== '!', out);
        }
    }
    return status;
}

static enum status arithmetic_node(struct expression_parser *parser, char operator,
                                   struct expression ** pair, size_t column,
                                   struct expression **out)
{
    enum value_type type;
    bool found = false;

    enum status status = expression_time_arithmetic(parser, operator, pair, column, out, &found);
    if (status != STATUS_OK || found) {
        return status;
    }
    for (int i = 0; i < 2; i++) { /* `delay + NULL`: NULL takes the neighbour's type */
        bool untyped = pair[i]->kind == EXPRESSION_UNTYPED_NULL;
        if (untyped ? pair[1 - i]->kind == EXPRESSION_UNTYPED_NULL
                    : !expression_is_numeric(pair[i]->type)) {
            return expression_fault_at(parser, column, "%c wants numbers, found %s%s", operator,
                                       untyped ? "" : "type ",
                                       untyped ? "NULL" : expression_type_name(pair[i]->type));
        }
    }
    status = expression_unify(parser, pair, 2, column, "arithmetic", &type);
    if (status == STATUS_OK) {
        status = expression_new_over(parser,
                                     type == VALUE_INTEGER ? expression_integer_arithmetic
                                                           : expression_decimal_arithmetic,
                                     type, pair, 2, out);
    }
    if (status == STATUS_OK) {
        expression_set_width(*out, pair, 2);
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
        char operator= parser->lexer.token.text[0];
        size_t column = parser->lexer.token.column;
        status = expression_advance(parser);
        status = status == STATUS_OK ? child(parser, &pair[1]) : status;
        if (status == STATUS_OK) {
            status = operator== '^' ? expression_new_call(parser, "^", column, pair, 2, out)
                                    : arithmetic_node(parser, operator, pair, column, out);
        }
    }
    return status;
}

static enum status parse_sum(struct expression_parser *parser, struct expression **out)
{
    return parse_arithmetic(parser, "+-", parse_product, out);
}

static enum status parse_product(struct expression_parser *parser, struct expression **out)
{
    return parse_arithmetic(parser, "*/%", parse_power, out);
}

/* From left to right, too, and looser than a sign: -2.0 ^ 2 is 4. */
static enum status parse_power(struct expression_parser *parser, struct expression **out)
{
    return parse_arithmetic(parser, "^", parse_sign, out);
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
    enum status status = expression_new_constant(parser, value, out);
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
        return status == STATUS_OK ? parse_postfix(parser, out) : status;
    }
    status = expression_parse_nested(parser, parse_sign, &child);
    if (status == STATUS_OK && !expression_is_numeric(child->type)) {
        bool untyped = child->kind == EXPRESSION_UNTYPED_NULL;
        return expression_fault_at(parser, column, "a sign wants a number, found %s%s",
                                   untyped ? "" : "type ",
                                   untyped ? "NULL" : expression_type_name(child->type));
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
    status = expression_new_over(parser,
                                 child->type == VALUE_INTEGER ? expression_negate_integer
                                                              : expression_negate_decimal,
                                 child->type, &child, 1, out);
    if (status == STATUS_OK) {
        (*out)->is_int4 = child->is_int4;
    }
    return status;
}

/* x::type */
static enum status parse_postfix(struct expression_parser *parser, struct expression **out)
{
    size_t column = parser->lexer.token.column;
    bool cast = true;

    enum status status = expression_parse_primary(parser, out);
    while (status == STATUS_OK && cast) {
        status = expression_parser_accept(parser, "::", &cast);
        if (status == STATUS_OK && cast) {
            status = expression_parse_cast(parser, *out, column, out);
        }
    }
    parser->last_operand = status == STATUS_OK ? *out : NULL;
    return status;
}
