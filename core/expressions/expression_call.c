/* Parsing calls of functions, casts and typed literals.
 *
 * Functions are found in the table (core/functions/functions.h) by name and by the types of their
 * arguments; the forms that SQL gives a grammar of their own are parsed here. One thread. */
#include "core/expressions/expression_build.h"

#include <string.h>

#include "core/functions/conversion.h"
#include "core/functions/functions.h"
#include "core/functions/time_text.h"
#include "core/functions/times.h"
#include "core/time/timezone.h"

/* --- calls of the table's functions --- */

/* Whether an argument of this type can stand for the parameter. */
static bool letter_accepts(char parameter, const struct expression *argument)
{
    char letter = function_letter(argument);

    switch (parameter) {
    case 'a':
        return letter != 'v' && letter != '-';
    case 'n':
        return letter == 'd' || letter == 'i' || letter == 'j';
    case 'i':
        return letter == 'i' || letter == 'j';
    case 's':
        return letter == 's' || letter == '?';
    case 'k':
        return letter == 'j' || letter == '?';
    default:
        return letter == parameter;
    }
}

static bool row_accepts(const struct function *row, struct expression *const *arguments,
                        size_t count)
{
    const char *letters = row->arguments;
    size_t length = letters == NULL ? 0 : strlen(letters);
    bool variadic = length > 0 && letters[length - 1] == '*';
    size_t fixed = variadic ? length - 1 : length;

    if (letters == NULL) {
        return true;
    }
    if (count < fixed || (count > fixed && !variadic)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!letter_accepts(letters[i < fixed ? i : fixed - 1], arguments[i])) {
            return false;
        }
    }
    return true;
}

/* "left(string, integer)": what was asked for. */
static enum status no_such_function(struct expression_parser *parser, const char *name,
                                    size_t column, struct expression *const *arguments,
                                    size_t count)
{
    char types[256] = "";
    bool is_wide = false;

    for (size_t i = 0; i < count; i++) {
        bool untyped = arguments[i]->kind == EXPRESSION_UNTYPED_NULL;
        is_wide = is_wide || function_letter(arguments[i]) == 'i';
        strncat(types, i == 0 ? "" : ", ", sizeof types - strlen(types) - 1);
        strncat(types, untyped ? "NULL" : expression_type_name(arguments[i]->type),
                sizeof types - strlen(types) - 1);
    }
    bool wants_narrow = false;
    for (const struct function *row = function_find(name);
         row != NULL && row->name != NULL && strcmp(row->name, name) == 0; row++) {
        wants_narrow =
            wants_narrow || (row->arguments != NULL && strchr(row->arguments, 'k') != NULL);
    }
    return expression_fault_at(
        parser, column, "there is no %s(%s)%s", name, types,
        is_wide && wants_narrow ? "; where it wants an integer of 32 bits, write CAST(x AS integer)"
                                : "");
}

enum status expression_new_call(struct expression_parser *parser, const char *name, size_t column,
                                struct expression **arguments, size_t count,
                                struct expression **out)
{
    const struct function *row = function_find(name);

    if (row == NULL) {
        return expression_fault_at(parser, column, "there is no function %s", name);
    }
    while (!((row->evaluate != NULL || row->evaluate_whole != NULL || row->form == NULL) &&
             row_accepts(row, arguments, count))) {
        row++;
        if (row->name == NULL || strcmp(row->name, name) != 0) {
            return no_such_function(parser, name, column, arguments, count);
        }
    }
    if (row->evaluate == NULL && row->evaluate_whole == NULL) {
        return expression_fault_at(parser, column, "%s: %s", name, row->meaning);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0, letter = 0; status == STATUS_OK && i < count; i++) {
        bool possible = true;
        if (row->arguments[letter] != 'a') {
            enum value_type type = function_type_of_letter(row->arguments[letter]);
            status = expression_coerce(parser, type, &arguments[i], &possible);
        } else if (arguments[i]->kind == EXPRESSION_UNTYPED_NULL) {
            status = expression_coerce(parser, VALUE_STRING, &arguments[i], &possible);
        }
        letter += row->arguments[letter + 1] != '\0' && row->arguments[letter + 1] != '*';
    }
    status = status == STATUS_OK
                 ? expression_new_over(
                       parser, row->evaluate_whole != NULL ? row->evaluate_whole : expression_call,
                       function_type_of_letter(row->result), arguments, count, out)
                 : status;
    if (status == STATUS_OK) {
        (*out)->function = row;
        (*out)->is_int4 = row->result == 'j';
    }
    return status;
}

static enum status call_over_list(struct expression_parser *parser, const char *name, size_t column,
                                  struct node_list *list, struct expression **out)
{
    if (list->count > FUNCTION_ARGUMENT_MAX) {
        return expression_fault_at(parser, column, "%s has more than %d arguments", name,
                                   FUNCTION_ARGUMENT_MAX);
    }
    return expression_new_call(parser, name, column, list->nodes, list->count, out);
}

/* A node that a function row evaluates over one child. */
static enum status node_of_row(struct expression_parser *parser, const struct function *row,
                               struct expression *child, struct expression **out)
{
    enum status status = expression_new_over(parser, expression_call,
                                             function_type_of_letter(row->result), &child, 1, out);
    if (status == STATUS_OK) {
        (*out)->function = row;
        (*out)->is_int4 = row->result == 'j';
    }
    return status;
}

/* --- COALESCE and its like: the opening parenthesis is consumed, the closing one not --- */

static enum status parse_coalesce(struct expression_parser *parser, const struct token *name,
                                  struct expression **out)
{
    struct node_list list = {0};
    enum value_type type = VALUE_STRING;

    enum status status = expression_parse_list(parser, &list);
    status = status == STATUS_OK ? expression_unify_results(parser, list.nodes, list.count,
                                                            name->column, "COALESCE", &type)
                                 : status;
    status = status == STATUS_OK ? expression_new_over(parser, expression_coalesce, type,
                                                       list.nodes, list.count, out)
                                 : status;
    if (status == STATUS_OK) {
        expression_set_width(*out, list.nodes, list.count);
    }
    return status;
}

static enum status parse_extreme(struct expression_parser *parser, const struct token *name,
                                 struct expression **out)
{
    struct node_list list = {0};
    enum value_type type = VALUE_STRING;
    bool greatest = strcmp(name->text, "greatest") == 0;

    enum status status = expression_parse_list(parser, &list);
    status = status == STATUS_OK
                 ? expression_unify_results(parser, list.nodes, list.count, name->column,
                                            greatest ? "GREATEST" : "LEAST", &type)
                 : status;
    status = status == STATUS_OK ? expression_new_over(parser, expression_extreme, type, list.nodes,
                                                       list.count, out)
                                 : status;
    if (status == STATUS_OK) {
        expression_set_width(*out, list.nodes, list.count);
        (*out)->greatest = greatest;
    }
    return status;
}

static enum status parse_nullif(struct expression_parser *parser, const struct token *name,
                                struct expression **out)
{
    struct node_list list = {0};
    enum value_type type = VALUE_STRING;

    enum status status = expression_parse_list(parser, &list);
    if (status == STATUS_OK && list.count != 2) {
        return expression_fault_at(parser, name->column, "NULLIF wants two arguments");
    }
    bool untyped = status == STATUS_OK && list.nodes[0]->kind == EXPRESSION_UNTYPED_NULL;
    status = status == STATUS_OK
                 ? expression_unify_results(parser, list.nodes, 2, name->column, "NULLIF", &type)
                 : status;
    status = status == STATUS_OK
                 ? expression_new_over(parser, expression_nullif, type, list.nodes, 2, out)
                 : status;
    if (status == STATUS_OK) {
        expression_set_width(*out, list.nodes + (untyped ? 1 : 0), 1);
    }
    return status;
}

/* --- strings with a grammar of their own --- */

/* TRIM([BOTH | LEADING | TRAILING] [[characters] FROM] string[, characters]) */
static enum status parse_trim(struct expression_parser *parser, const struct token *name,
                              struct expression **out)
{
    struct node_list list = {0};
    struct expression *characters = NULL;
    const char *function = "btrim";
    bool found = false, from = false;

    enum status status = expression_parser_accept(parser, "both", &found);
    if (status == STATUS_OK && !found) {
        status = expression_parser_accept(parser, "leading", &found);
        function = found ? "ltrim" : function;
    }
    if (status == STATUS_OK && !found) {
        status = expression_parser_accept(parser, "trailing", &found);
        function = found ? "rtrim" : function;
    }
    status = status == STATUS_OK ? expression_parser_accept(parser, "from", &from) : status;
    if (status == STATUS_OK && !from) {
        status = expression_parse_nested(parser, expression_parse_any, &characters);
        status = status == STATUS_OK ? expression_parser_accept(parser, "from", &from) : status;
        if (status == STATUS_OK && !from) { /* it was the string */
            bool more = false;
            status = expression_list_add(parser, &list, characters);
            status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
            characters = NULL;
            if (status != STATUS_OK || !more) {
                return status == STATUS_OK
                           ? call_over_list(parser, function, name->column, &list, out)
                           : status;
            }
        }
    }
    status = status == STATUS_OK ? expression_parse_list(parser, &list) : status;
    if (status == STATUS_OK && characters != NULL) {
        status = expression_list_add(parser, &list, characters);
    }
    return status == STATUS_OK ? call_over_list(parser, function, name->column, &list, out)
                               : status;
}

/* SUBSTRING(s FROM n [FOR k]), (s FOR k [FROM n]), or with commas. */
static enum status parse_substring(struct expression_parser *parser, const struct token *name,
                                   struct expression **out)
{
    struct node_list list = {0};
    struct expression *from = NULL, *count = NULL;
    bool is = true;

    enum status status = expression_parse_list(parser, &list);
    if (status != STATUS_OK || list.count > 1) {
        return status == STATUS_OK ? call_over_list(parser, name->text, name->column, &list, out)
                                   : status;
    }
    while (status == STATUS_OK && is) {
        bool is_from = expression_next_is(parser, "from");
        struct expression **part = is_from ? &from : &count;
        status = expression_parser_accept(parser, is_from ? "from" : "for", &is);
        if (status == STATUS_OK && is && *part != NULL) {
            return expression_parser_fault(parser, "SUBSTRING has FROM and FOR once each");
        }
        if (status == STATUS_OK && is) {
            status = expression_parse_nested(parser, expression_parse_any, part);
        }
    }
    if (status == STATUS_OK && from == NULL && count != NULL) {
        status = expression_new_constant(parser, value_integer(1), &from);
    }
    if (status == STATUS_OK && from != NULL) {
        status = expression_list_add(parser, &list, from);
    }
    if (status == STATUS_OK && count != NULL) {
        status = expression_list_add(parser, &list, count);
    }
    return status == STATUS_OK ? call_over_list(parser, name->text, name->column, &list, out)
                               : status;
}

/* POSITION(x IN s): PostgreSQL's strpos(s, x). */
static enum status parse_position(struct expression_parser *parser, const struct token *name,
                                  struct expression **out)
{
    struct expression *arguments[2];

    enum status status =
        expression_parse_nested(parser, expression_parse_concatenation, &arguments[1]);
    status = status == STATUS_OK ? expression_parser_expect(parser, "in") : status;
    status = status == STATUS_OK
                 ? expression_parse_nested(parser, expression_parse_concatenation, &arguments[0])
                 : status;
    return status == STATUS_OK
               ? expression_new_call(parser, "strpos", name->column, arguments, 2, out)
               : status;
}

/* --- times with a grammar of their own --- */

/* A word or a string literal that names a field of times. */
static enum status parse_unit(struct expression_parser *parser, const char *what,
                              enum time_unit *unit)
{
    const struct token *token = &parser->lexer.token;
    bool is_name = token->kind == TOKEN_NAME || token->kind == TOKEN_QUOTED_NAME;

    if (!(is_name || token->kind == TOKEN_STRING)) {
        return expression_parser_fault(parser, "%s wants a unit of time", what);
    }
    if (!time_unit_from_name(token->text, token->length, unit)) {
        return expression_parser_fault(parser, "%s: there is no unit \"%s\"", what, token->text);
    }
    return expression_advance(parser);
}

/* A string literal that names a time zone. NULL is UTC. */
static enum status parse_zone(struct expression_parser *parser, const struct time_zone **out)
{
    const struct token *token = &parser->lexer.token;
    struct error fault;

    if (token->kind != TOKEN_STRING || strlen(token->text) != token->length) {
        return expression_parser_fault(parser, "wants a time zone as a string literal, such as "
                                               "'America/New_York'");
    }
    enum status status = time_zone_load(token->text, parser->arena, out, &fault);
    if (status != STATUS_OK) {
        return status == STATUS_REJECT ? expression_parser_fault(parser, "%s", fault.text)
                                       : error_set(parser->error, status, "%s", fault.text);
    }
    *out = *out == time_zone_utc() ? NULL : *out;
    return expression_advance(parser);
}

/* [AT TIME ZONE 'zone'] behind the operand of EXTRACT. It stands closer to an operand than any
 * operator does, so behind `t + interval '1 day'` it is PostgreSQL's, and no time's. */
static enum status parse_at_time_zone(struct expression_parser *parser,
                                      const struct expression *child, const struct time_zone **zone)
{
    bool at;

    enum status status = expression_parser_accept(parser, "at", &at);
    if (status != STATUS_OK || !at) {
        return status;
    }
    if (child != parser->last_operand || child->type != VALUE_TIMESTAMP) {
        return expression_parser_fault(parser, "AT TIME ZONE stands behind a timestamp: a field, a "
                                               "call, or an expression in parentheses");
    }
    status = expression_parser_expect(parser, "time");
    status = status == STATUS_OK ? expression_parser_expect(parser, "zone") : status;
    return status == STATUS_OK ? parse_zone(parser, zone) : status;
}

/* EXTRACT(field FROM time [AT TIME ZONE 'zone']) */
static enum status parse_extract(struct expression_parser *parser, const struct token *name,
                                 struct expression **out)
{
    struct expression *child = NULL;
    const struct time_zone *zone = NULL;
    enum time_unit unit;

    enum status status = parse_unit(parser, "EXTRACT", &unit);
    status = status == STATUS_OK ? expression_parser_expect(parser, "from") : status;
    status = status == STATUS_OK ? expression_parse_nested(parser, expression_parse_any, &child)
                                 : status;
    status = status == STATUS_OK ? parse_at_time_zone(parser, child, &zone) : status;
    if (status != STATUS_OK) {
        return status;
    }
    bool is_interval = child->type == TYPE_INTERVAL;
    if (child->kind == EXPRESSION_UNTYPED_NULL || child->kind == EXPRESSION_INTERVAL_LITERAL ||
        (child->type != VALUE_TIMESTAMP && !is_interval)) {
        return expression_fault_at(parser, name->column,
                                   "EXTRACT wants a timestamp or a difference of two");
    }
    if (is_interval && !time_unit_is_of_interval(unit)) {
        return expression_fault_at(parser, name->column,
                                   "EXTRACT: a difference of times has epoch, day, hour, minute, "
                                   "second, milliseconds and microseconds");
    }
    status = node_of_row(parser, is_interval ? &time_extract_interval : &time_extract_timestamp,
                         child, out);
    if (status == STATUS_OK) {
        (*out)->unit = (int)unit;
        (*out)->zone = zone;
    }
    return status;
}

/* date_trunc('unit', time [, 'zone']) */
static enum status parse_date_trunc(struct expression_parser *parser, const struct token *name,
                                    struct expression **out)
{
    struct expression *child = NULL;
    const struct time_zone *zone = NULL;
    size_t column = parser->lexer.token.column;
    enum time_unit unit;
    bool more = false;

    if (parser->lexer.token.kind != TOKEN_STRING) {
        return expression_parser_fault(parser, "date_trunc wants its unit as a string literal");
    }
    enum status status = parse_unit(parser, "date_trunc", &unit);
    if (status == STATUS_OK && unit > UNIT_MILLENNIUM) {
        return expression_fault_at(parser, column, "date_trunc: this is nothing to truncate to");
    }
    status = status == STATUS_OK ? expression_parser_expect(parser, ",") : status;
    status = status == STATUS_OK ? expression_parse_nested(parser, expression_parse_any, &child)
                                 : status;
    if (status == STATUS_OK &&
        (child->kind == EXPRESSION_UNTYPED_NULL || child->type != VALUE_TIMESTAMP)) {
        return expression_fault_at(parser, name->column, "date_trunc wants a timestamp, found %s",
                                   expression_type_name(child->type));
    }
    status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    status = status == STATUS_OK && more ? parse_zone(parser, &zone) : status;
    status = status == STATUS_OK ? node_of_row(parser, &time_truncate, child, out) : status;
    if (status == STATUS_OK) {
        (*out)->unit = (int)unit;
        (*out)->zone = zone;
    }
    return status;
}

static enum status add_interval(struct expression_parser *parser, struct expression *time,
                                struct expression *interval, bool negated, struct expression **out)
{
    struct expression *pair[2] = {time, interval};
    bool is_literal = interval->kind == EXPRESSION_INTERVAL_LITERAL;

    enum status status =
        expression_new_over(parser, is_literal ? time_add_interval : time_add_difference,
                            VALUE_TIMESTAMP, pair, is_literal ? 1 : 2, out);
    if (status != STATUS_OK) {
        return status;
    }
    if (!is_literal) {
        (*out)->test.negated = negated;
        return STATUS_OK;
    }
    struct interval added = interval->interval;
    if (negated) {
        added = (struct interval){-added.months, -added.days, -added.us};
    }
    (*out)->interval = added;
    return STATUS_OK;
}

enum status expression_time_arithmetic(struct expression_parser *parser, char operator,
                                       struct expression ** pair, size_t column,
                                       struct expression **out, bool *found)
{
    bool is_time[2], is_interval[2];

    for (int i = 0; i < 2; i++) {
        is_time[i] = pair[i]->type == VALUE_TIMESTAMP;
        is_interval[i] = pair[i]->type == TYPE_INTERVAL;
    }
    *found = true;
    if ((operator== '+' || operator== '-') && is_time[0] && is_interval[1]) {
        return add_interval(parser, pair[0], pair[1], operator== '-', out);
    }
    if (operator== '+' && is_interval[0] && is_time[1]) {
        return add_interval(parser, pair[1], pair[0], false, out);
    }
    if (operator== '-' &&(is_time[0] || is_time[1]) &&
        (is_time[0] || expression_is_untyped_text(pair[0])) &&
        (is_time[1] || expression_is_untyped_text(pair[1]))) {
        enum value_type type;
        enum status status = expression_unify(parser, pair, 2, column, "-", &type);
        return status == STATUS_OK
                   ? expression_new_over(parser, time_subtract, TYPE_INTERVAL, pair, 2, out)
                   : status;
    }
    *found = false;
    return STATUS_OK;
}

/* --- types and casts --- */

/* The names by which PostgreSQL and we know a type; the letter as in struct function. */
static const struct {
    const char *name;
    char letter;
} type_names[] = {
    {"text", 's'}, {"bigint", 'i'},      {"int8", 'i'},      {"integer", 'j'}, {"int", 'j'},
    {"int4", 'j'}, {"numeric", 'd'},     {"decimal", 'd'},   {"dec", 'd'},     {"boolean", 'b'},
    {"bool", 'b'}, {"timestamptz", 't'}, {"timestamp", 't'}, /* ... with time zone */
};

static char type_letter(const char *name)
{
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++) {
        if (strcmp(type_names[i].name, name) == 0) {
            return type_names[i].letter;
        }
    }
    return '\0';
}

struct cast_type {
    char letter;
    int32_t precision; /* of a numeric; 0 for any */
    int32_t scale;
};

/* What follows the type's name `name`. */
static enum status parse_time_zone(struct expression_parser *parser, const struct token *name)
{
    enum status status = STATUS_OK;

    if (strcmp(name->text, "timestamp") != 0) {
        return STATUS_OK;
    }
    if (!expression_next_is(parser, "with")) {
        return expression_fault_at(parser, name->column,
                                   "timestamps are with time zone: write timestamptz");
    }
    static const char *const words[] = {"with", "time", "zone"};
    for (size_t i = 0; status == STATUS_OK && i < 3; i++) {
        status = expression_parser_expect(parser, words[i]);
    }
    return status;
}

static enum status parse_small_number(struct expression_parser *parser, int32_t low, int32_t *out)
{
    const struct token *token = &parser->lexer.token;
    struct decimal decimal;
    int64_t number = -1;

    bool is_number = token->kind == TOKEN_NUMBER && strpbrk(token->text, ".eE") == NULL &&
                     decimal_parse(token->text, token->length, &decimal) == DECIMAL_OK &&
                     decimal_to_int64(&decimal, &number);
    if (!is_number || number < low || number > DECIMAL_MAX_DIGITS) {
        return expression_parser_fault(parser, "numeric wants a number of digits from %d to %d",
                                       low, DECIMAL_MAX_DIGITS);
    }
    *out = (int32_t)number;
    return expression_advance(parser);
}

/* A type, with numeric(p[, s]). */
static enum status parse_type(struct expression_parser *parser, struct cast_type *type)
{
    const struct token name = parser->lexer.token;
    bool accepted = false, more = false;

    *type = (struct cast_type){.letter = name.kind == TOKEN_NAME ? type_letter(name.text) : '\0'};
    if (type->letter == '\0') {
        return expression_parser_fault(parser,
                                       "\"%s\" is no type that is supported: text, bigint, "
                                       "integer, numeric, boolean, timestamptz",
                                       name.text);
    }
    enum status status = expression_advance(parser);
    status = status == STATUS_OK ? parse_time_zone(parser, &name) : status;
    if (status == STATUS_OK && type->letter == 'd') {
        status = expression_parser_accept(parser, "(", &accepted);
    }
    if (status != STATUS_OK || !accepted) {
        return status;
    }
    status = parse_small_number(parser, 1, &type->precision);
    status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    if (status == STATUS_OK && more) {
        status = parse_small_number(parser, 0, &type->scale);
    }
    return status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
}

/* Evaluates a node over constants now. */
static enum status fold(struct expression_parser *parser, size_t column, struct expression **node)
{
    struct evaluation in = {.scratch = parser->arena, .error = parser->error};
    struct expression *constant;
    struct value value;

    enum status status = expression_run(*node, &in, &value);
    if (status == STATUS_REJECT) {
        return error_wrap(parser->error, "column %zu", column);
    }
    status = status == STATUS_OK ? expression_new_constant(parser, value, &constant) : status;
    if (status == STATUS_OK) {
        constant->kind = EXPRESSION_OTHER; /* it has a type for good */
        constant->is_int4 = (*node)->is_int4;
        *node = constant;
    }
    return status;
}

/* A literal is read when the expression is; whatever else is cast, for each record. */
static enum status new_cast(struct expression_parser *parser, struct expression *operand,
                            const struct cast_type *type, size_t column, struct expression **out)
{
    bool possible, is_literal = expression_is_untyped_text(operand);
    enum value_type target = function_type_of_letter(type->letter);
    enum status status = STATUS_OK;

    if (operand->kind == EXPRESSION_UNTYPED_NULL) {
        status = expression_coerce(parser, target, &operand, &possible);
        operand->kind = EXPRESSION_OTHER;
        operand->is_int4 = type->letter == 'j';
        *out = operand;
        return status;
    }
    const struct function *row = conversion_find(function_letter(operand), type->letter);
    if (row == NULL) {
        return expression_fault_at(parser, column, "there is no cast from %s to %s",
                                   expression_type_name(operand->type), value_type_name(target));
    }
    status = node_of_row(parser, row, operand, out);
    if (status == STATUS_OK && type->precision != 0) {
        status = node_of_row(parser, &conversion_to_precision, *out, out);
        if (status == STATUS_OK) {
            (*out)->numeric.precision = type->precision;
            (*out)->numeric.scale = type->scale;
        }
    }
    return status == STATUS_OK && is_literal ? fold(parser, column, out) : status;
}

enum status expression_parse_cast(struct expression_parser *parser, struct expression *operand,
                                  size_t column, struct expression **out)
{
    struct cast_type type;
    enum status status = parse_type(parser, &type);
    return status == STATUS_OK ? new_cast(parser, operand, &type, column, out) : status;
}

/* CAST(x AS type) */
static enum status parse_cast_call(struct expression_parser *parser, const struct token *name,
                                   struct expression **out)
{
    struct expression *operand = NULL;

    enum status status = expression_parse_nested(parser, expression_parse_any, &operand);
    status = status == STATUS_OK ? expression_parser_expect(parser, "as") : status;
    return status == STATUS_OK ? expression_parse_cast(parser, operand, name->column, out) : status;
}

/* interval '1 day', interval '1' day */
static enum status parse_interval(struct expression_parser *parser, const struct token *name,
                                  struct expression **out)
{
    static const char *const units[] = {"year", "month", "day", "hour", "minute", "second"};
    const struct token literal = parser->lexer.token;
    const char *unit = NULL;
    struct interval interval;

    enum status status = expression_advance(parser);
    for (size_t i = 0; status == STATUS_OK && unit == NULL && i < 6; i++) {
        if (expression_next_is(parser, units[i])) {
            unit = units[i];
            status = expression_advance(parser);
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!time_text_parse_interval(literal.text, literal.length, unit, &interval)) {
        return expression_fault_at(parser, name->column,
                                   "'%s' is no interval such as '1 day', '-90 minutes' or "
                                   "'2 hours 30 seconds'",
                                   literal.text);
    }
    status = expression_new(parser, time_interval_literal, TYPE_INTERVAL, 0, out);
    if (status == STATUS_OK) {
        (*out)->kind = EXPRESSION_INTERVAL_LITERAL;
        (*out)->interval = interval;
    }
    return status;
}

enum status expression_parse_typed_literal(struct expression_parser *parser,
                                           const struct token *name, struct expression **out,
                                           bool *found)
{
    bool with_zone = strcmp(name->text, "timestamp") == 0 && expression_next_is(parser, "with");
    struct expression *operand;

    *found = with_zone || parser->lexer.token.kind == TOKEN_STRING;
    if (!*found) {
        return STATUS_OK;
    }
    if (strcmp(name->text, "interval") == 0) {
        return parse_interval(parser, name, out);
    }
    struct cast_type type = {.letter = type_letter(name->text)};
    if (type.letter == '\0') {
        *found = false; /* a field, and a fault at what follows it */
        return STATUS_OK;
    }
    enum status status = parse_time_zone(parser, name);
    const struct token literal = parser->lexer.token;
    if (status == STATUS_OK && literal.kind != TOKEN_STRING) {
        return expression_parser_fault(parser, "wants a string literal behind the type's name");
    }
    status = status == STATUS_OK ? expression_advance(parser) : status;
    status =
        status == STATUS_OK
            ? expression_new_constant(parser, value_string(literal.text, literal.length), &operand)
            : status;
    return status == STATUS_OK ? new_cast(parser, operand, &type, name->column, out) : status;
}

/* --- everything that is a name and a parenthesis --- */

typedef enum status parse_form(struct expression_parser *parser, const struct token *name,
                               struct expression **out);

static const struct {
    const char *name;
    parse_form *parse;
} forms[] = {
    {"coalesce", parse_coalesce}, {"nullif", parse_nullif},   {"least", parse_extreme},
    {"greatest", parse_extreme},  {"trim", parse_trim},       {"substring", parse_substring},
    {"position", parse_position}, {"extract", parse_extract}, {"date_trunc", parse_date_trunc},
    {"cast", parse_cast_call},
};

static enum status parse_call(struct expression_parser *parser, const struct token *name,
                              struct expression **out)
{
    struct node_list list = {0};

    enum status status = expression_parse_list(parser, &list);
    return status == STATUS_OK ? call_over_list(parser, name->text, name->column, &list, out)
                               : status;
}

enum status expression_parse_call(struct expression_parser *parser, const struct token *name,
                                  struct expression **out)
{
    parse_form *parse = NULL;

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(forms[i].name, name->text) == 0) {
            parse = forms[i].parse;
        }
    }
    if (parse == NULL && function_find(name->text) == NULL) {
        return expression_fault_at(parser, name->column, "there is no function %s", name->text);
    }
    parse = parse == NULL ? parse_call : parse;
    enum status status = expression_parser_expect(parser, "(");
    status = status == STATUS_OK ? parse(parser, name, out) : status;
    return status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
}
