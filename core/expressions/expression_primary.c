/* Parsing what needs no precedence: literals, fields, CASE, COALESCE and their like.
 *
 * One thread. Faults name the column. */
#include "core/expressions/expression_build.h"

#include <string.h>

#include "core/definitions/definition.h"

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
    enum status status = expression_new_constant(
        parser, is_integer ? value_integer(integer) : value_decimal(decimal), out);
    if (status == STATUS_OK) {
        (*out)->is_whole_literal = is_whole;
    }
    return status == STATUS_OK ? expression_advance(parser) : status;
}

/* The field of that name, `name` being consumed. */
static enum status new_field(struct expression_parser *parser, const struct token *name,
                             struct expression **out)
{
    const struct source *source = parser->source;

    if (name->kind == TOKEN_NAME && expression_word_is_reserved(name->text)) {
        return expression_fault_at(parser, name->column,
                                   "\"%s\" is a reserved word of SQL; a field of that name is "
                                   "written in double quotes",
                                   name->text);
    }
    for (size_t i = 0; i < source->field_count; i++) {
        if (strcmp(source->fields[i].name, name->text) == 0) {
            enum status status =
                expression_new(parser, expression_field, source->fields[i].type, 0, out);
            if (status == STATUS_OK) {
                (*out)->kind = EXPRESSION_FIELD;
                (*out)->field = i;
            }
            return status;
        }
    }
    return expression_fault_at(parser, name->column, "source \"%s\" has no field \"%s\"",
                               source->name, name->text);
}

static enum status new_untyped_null(struct expression_parser *parser, struct expression **out)
{
    enum status status = expression_new_constant(parser, value_null(VALUE_STRING), out);
    if (status == STATUS_OK) {
        (*out)->kind = EXPRESSION_UNTYPED_NULL;
    }
    return status;
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
        status = status == STATUS_OK
                     ? expression_parse_nested(parser, expression_parse_any, &condition)
                     : status;
        if (status == STATUS_OK && !has_operand) {
            status = expression_want_boolean(parser, &condition, column, "WHEN");
        }
        status = status == STATUS_OK ? expression_list_add(parser, conditions, condition) : status;
        status = status == STATUS_OK ? expression_parser_expect(parser, "then") : status;
        status = status == STATUS_OK
                     ? expression_parse_nested(parser, expression_parse_any, &result)
                     : status;
        status = status == STATUS_OK ? expression_list_add(parser, results, result) : status;
        more = expression_next_is(parser, "when");
    }
    bool has_else = false;
    struct expression *otherwise = NULL;
    status = status == STATUS_OK ? expression_parser_accept(parser, "else", &has_else) : status;
    if (status == STATUS_OK && has_else) {
        status = expression_parse_nested(parser, expression_parse_any, &otherwise);
    } else if (status == STATUS_OK) {
        status = new_untyped_null(parser, &otherwise);
    }
    status = status == STATUS_OK ? expression_list_add(parser, results, otherwise) : status;
    return status == STATUS_OK ? expression_parser_expect(parser, "end") : status;
}

static enum status parse_case(struct expression_parser *parser, size_t column,
                              struct expression **out)
{
    struct node_list conditions = {0}, results = {0}, all = {0};
    struct expression *operand = NULL;
    enum value_type type = VALUE_STRING, compared;
    enum status status = STATUS_OK;
    bool has_operand = !expression_next_is(parser, "when");

    if (has_operand) {
        status = expression_parse_nested(parser, expression_parse_any, &operand);
        status = status == STATUS_OK ? expression_list_add(parser, &conditions, operand) : status;
    }
    status =
        status == STATUS_OK ? parse_case_parts(parser, &conditions, &results, has_operand) : status;
    if (status == STATUS_OK && has_operand) {
        bool is_text =
            operand->kind == EXPRESSION_UNTYPED_NULL || expression_is_untyped_text(operand);
        status =
            expression_unify(parser, conditions.nodes, conditions.count, column, "CASE", &compared);
        if (status == STATUS_OK && is_text && compared != VALUE_STRING) {
            /* PostgreSQL makes it a text before it looks at the others */
            status = expression_fault_at(
                parser, column, "CASE: a literal after CASE is a string, and a WHEN is not");
        }
    }
    status = status == STATUS_OK ? expression_unify_results(parser, results.nodes, results.count,
                                                            column, "CASE", &type)
                                 : status;
    size_t first = has_operand ? 1 : 0;
    if (status == STATUS_OK && has_operand) {
        status = expression_list_add(parser, &all, conditions.nodes[0]);
    }
    for (size_t i = 0; status == STATUS_OK && i < results.count; i++) {
        if (i + first < conditions.count) {
            status = expression_list_add(parser, &all, conditions.nodes[i + first]);
        }
        status = status == STATUS_OK ? expression_list_add(parser, &all, results.nodes[i]) : status;
    }
    status = status == STATUS_OK
                 ? expression_new_over(parser, expression_case, type, all.nodes, all.count, out)
                 : status;
    if (status == STATUS_OK) {
        expression_set_width(*out, results.nodes, results.count);
        (*out)->has_operand = has_operand;
    }
    return status;
}

/* TRUE, FALSE, NULL, CASE; *found is false where `word`, which is consumed, is none of them. */
static enum status parse_keyword(struct expression_parser *parser, const struct token *word,
                                 struct expression **out, bool *found)
{
    bool is_true = strcmp(word->text, "true") == 0;

    *found = true;
    if (is_true || strcmp(word->text, "false") == 0) {
        return expression_new_constant(parser, value_boolean(is_true), out);
    }
    if (strcmp(word->text, "null") == 0) {
        return new_untyped_null(parser, out);
    }
    if (strcmp(word->text, "case") == 0) {
        return parse_case(parser, word->column, out);
    }
    *found = false;
    return STATUS_OK;
}

/* A keyword, a call, a typed literal or a field. */
static enum status parse_word(struct expression_parser *parser, struct expression **out)
{
    const struct token word = parser->lexer.token;
    bool found;

    enum status status = expression_advance(parser);
    status = status == STATUS_OK ? parse_keyword(parser, &word, out, &found) : status;
    if (status != STATUS_OK || found) {
        return status;
    }
    if (expression_next_is(parser, "(")) {
        return expression_parse_call(parser, &word, out);
    }
    status = expression_parse_typed_literal(parser, &word, out, &found);
    return status != STATUS_OK || found ? status : new_field(parser, &word, out);
}

enum status expression_parse_primary(struct expression_parser *parser, struct expression **out)
{
    const struct token token = parser->lexer.token;
    bool parenthesis;
    enum status status;

    switch (token.kind) {
    case TOKEN_NUMBER:
        return parse_number(parser, out);
    case TOKEN_STRING:
        status = expression_new_constant(parser, value_string(token.text, token.length), out);
        return status == STATUS_OK ? expression_advance(parser) : status;
    case TOKEN_NAME:
        return parse_word(parser, out);
    case TOKEN_QUOTED_NAME:
        status = expression_advance(parser);
        return status == STATUS_OK ? new_field(parser, &token, out) : status;
    case TOKEN_SYMBOL:
    case TOKEN_END:
        break;
    }
    status = expression_parser_accept(parser, "(", &parenthesis);
    if (status == STATUS_OK && !parenthesis) {
        return expression_parser_fault(parser, "wants a value, found %s",
                                       token.kind == TOKEN_END ? "the end" : token.text);
    }
    status =
        status == STATUS_OK ? expression_parse_nested(parser, expression_parse_any, out) : status;
    return status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
}
