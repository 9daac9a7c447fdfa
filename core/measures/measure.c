/* Measures: parsing a call such as "sum(delay) FILTER (WHERE delay > 0)", and folding through it.
 *
 * The kinds themselves are in core/measures/, one file each; `kinds` is their only list. */
#include "core/measures/measure.h"

#include <stdlib.h>
#include <string.h>

#include "core/expressions/expression_node.h"
#include "core/expressions/expression_parser.h"
#include "core/measures/kinds.h"

static const struct measure_kind *const kinds[] = {
    &measure_count,
    &measure_sum,
    &measure_avg,
    &measure_min,
    &measure_max,
    &measure_count_distinct,
    &measure_approx_count_distinct,
    &measure_approx_percentile,
    &measure_histogram,
    &measure_bool_and,
    &measure_bool_or,
    &measure_var_pop.base,
    &measure_var_samp.base,
    &measure_variance.base,
    &measure_stddev_pop.base,
    &measure_stddev_samp.base,
    &measure_stddev.base,
    &measure_covar_pop.base,
    &measure_covar_samp.base,
    &measure_corr.base,
    &measure_regr_count.base,
    &measure_regr_avgx.base,
    &measure_regr_avgy.base,
    &measure_regr_sxx.base,
    &measure_regr_syy.base,
    &measure_regr_sxy.base,
    &measure_regr_slope.base,
    &measure_regr_intercept.base,
    &measure_regr_r2.base,
    &measure_first,
    &measure_last,
    &measure_arg_min,
    &measure_arg_max,
    NULL,
};

const struct measure_kind *const *measure_kinds(void)
{
    return kinds;
}

/* The kind's name and its opening parenthesis. */
static enum status parse_kind(struct expression_parser *parser, struct measure *measure)
{
    const struct token token = parser->lexer.token;

    for (size_t i = 0; token.kind == TOKEN_NAME && kinds[i] != NULL; i++) {
        if (!kinds[i]->distinct && strcmp(kinds[i]->name, token.text) == 0) {
            bool accepted;
            measure->kind = kinds[i];
            enum status status = expression_parser_accept(parser, token.text, &accepted);
            return status == STATUS_OK ? expression_parser_expect(parser, "(") : status;
        }
    }
    if (token.kind == TOKEN_NAME && strcmp(token.text, "approx_top_k") == 0) {
        return expression_parser_fault(
            parser,
            "approx_top_k is not supported: no bounded state of it is the same in every "
            "order of records; make a view grouped by the value, with count(*), and query it "
            "with order and limit: its top k are exact");
    }
    char known[512] = "";
    for (size_t i = 0; kinds[i] != NULL; i++) {
        if (kinds[i]->distinct) {
            continue;
        }
        strncat(known, i == 0 ? "" : ", ", sizeof known - strlen(known) - 1);
        strncat(known, kinds[i]->name, sizeof known - strlen(known) - 1);
    }
    return expression_parser_fault(parser, "wants a measure (%s), found \"%s\"", known, token.text);
}

/* name(DISTINCT x) is a kind of its own. */
static enum status parse_distinct(struct expression_parser *parser, struct measure *measure)
{
    bool distinct;

    if (parser->lexer.token.kind != TOKEN_NAME ||
        strcmp(parser->lexer.token.text, "distinct") != 0) {
        return STATUS_OK;
    }
    for (size_t i = 0; kinds[i] != NULL; i++) {
        if (kinds[i]->distinct && strcmp(kinds[i]->name, measure->kind->name) == 0) {
            measure->kind = kinds[i];
            return expression_parser_accept(parser, "distinct", &distinct);
        }
    }
    return expression_parser_fault(parser, "%s(DISTINCT ...) is not supported",
                                   measure->kind->name);
}

/* One constant, which may be computed from constants. */
static enum status parse_parameter(struct expression_parser *parser, struct measure *measure)
{
    struct expression *expression = NULL;

    if (measure->parameter_count == MEASURE_PARAMETER_MAX) {
        return expression_parser_fault(parser, "more than %d parameters", MEASURE_PARAMETER_MAX);
    }
    size_t column = parser->lexer.token.column;
    enum status status = expression_parse(parser, &expression);
    if (status != STATUS_OK) {
        return status;
    }
    if (!expression_is_constant(expression)) {
        return error_set(parser->error, STATUS_REJECT, "column %zu: wants a constant", column);
    }
    struct value *parameter = &measure->parameters[measure->parameter_count++];
    if (expression_evaluate(expression, NULL, &measure->arena, parameter, parser->error) !=
        STATUS_OK) {
        return error_wrap(parser->error, "column %zu", column);
    }
    return STATUS_OK;
}

/* The text from `start` up to the next token. */
static enum status copy_text(struct expression_parser *parser, const char *start, const char **out)
{
    *out = arena_copy(parser->arena, start, (size_t)(parser->lexer.counted - start));
    return *out == NULL ? error_no_memory(parser->error) : STATUS_OK;
}

static enum status parse_argument(struct expression_parser *parser, struct measure *measure)
{
    size_t first = measure->kind->first_parameter;
    bool more;

    if (first == 0 || measure->argument_count < first) {
        if (measure->argument_count == MEASURE_ARGUMENT_MAX) {
            return expression_parser_fault(parser, "more than %d arguments", MEASURE_ARGUMENT_MAX);
        }
        size_t argument = measure->argument_count++;
        const char *start = parser->lexer.counted;
        enum status parsed = expression_parse(parser, &measure->arguments[argument]);
        return parsed == STATUS_OK ? copy_text(parser, start, &measure->argument_texts[argument])
                                   : parsed;
    }
    const size_t column = parser->lexer.token.column;
    enum status status = expression_parser_accept(parser, "[", &more);
    if (status == STATUS_OK && (measure->has_array || (more && measure->parameter_count > 0))) {
        return error_set(parser->error, STATUS_REJECT,
                         "column %zu: an array [...] stands alone: nothing before or after it",
                         column);
    }
    if (status != STATUS_OK || !more) {
        return status == STATUS_OK ? parse_parameter(parser, measure) : status;
    }
    measure->has_array = true;
    while (status == STATUS_OK && more) {
        status = parse_parameter(parser, measure);
        status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    }
    return status == STATUS_OK ? expression_parser_expect(parser, "]") : status;
}

/* `*` or a list of arguments, and the closing parenthesis. */
static enum status parse_arguments(struct expression_parser *parser, struct measure *measure)
{
    bool more;

    enum status status = expression_parser_accept(parser, "*", &more);
    if (status == STATUS_OK && more) {
        return expression_parser_expect(parser, ")");
    }
    status = status == STATUS_OK ? parse_distinct(parser, measure) : status;
    for (more = true; status == STATUS_OK && more;) {
        status = parse_argument(parser, measure);
        status = status == STATUS_OK ? expression_parser_accept(parser, ",", &more) : status;
    }
    return status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
}

static enum status parse_filter(struct expression_parser *parser, struct measure *measure)
{
    const char *start = parser->lexer.counted;
    bool filtered;

    measure->filter_text = "";
    enum status status = expression_parser_accept(parser, "filter", &filtered);
    if (status != STATUS_OK || !filtered) {
        return status;
    }
    status = expression_parser_expect(parser, "(");
    status = status == STATUS_OK ? expression_parser_expect(parser, "where") : status;
    status = status == STATUS_OK ? expression_parse_condition(parser, "WHERE", &measure->filter)
                                 : status;
    status = status == STATUS_OK ? expression_parser_expect(parser, ")") : status;
    return status == STATUS_OK ? copy_text(parser, start, &measure->filter_text) : status;
}

enum status measure_create(const char *text, const struct source *source, struct measure **out,
                           struct error *error)
{
    struct expression_parser parser;
    struct measure *measure = calloc(1, sizeof *measure);

    *out = NULL;
    if (measure == NULL) {
        return error_no_memory(error);
    }
    arena_init(&measure->arena);
    measure->plain_field = SIZE_MAX;
    enum status status = expression_parser_init(&parser, text, source, &measure->arena, error);
    status = status == STATUS_OK ? parse_kind(&parser, measure) : status;
    status = status == STATUS_OK ? parse_arguments(&parser, measure) : status;
    status = status == STATUS_OK ? parse_filter(&parser, measure) : status;
    status = status == STATUS_OK ? expression_parser_expect_end(&parser) : status;
    if (status == STATUS_OK && measure->argument_count == 0) {
        measure->plain_field = 0;
    } else if (status == STATUS_OK) {
        measure->argument_type = expression_type(measure->arguments[0]);
        if (measure->argument_count == 1 && measure->arguments[0]->kind == EXPRESSION_FIELD) {
            measure->plain_field = measure->arguments[0]->field;
        }
    }
    if (status == STATUS_OK && measure->kind->bind(measure, error) != STATUS_OK) {
        status = error_wrap(error, "column 1: %s", measure->kind->name);
    }
    if (status != STATUS_OK) {
        measure_destroy(measure);
        return status;
    }
    *out = measure;
    return STATUS_OK;
}

void measure_destroy(struct measure *measure)
{
    if (measure != NULL) {
        arena_deinit(&measure->arena);
        free(measure);
    }
}

enum status measure_prepare(const struct measure *measure, const struct value *fields,
                            struct arena *scratch, struct measure_input *input, struct error *error)
{
    input->skip = false;
    if (measure->filter != NULL) {
        struct value condition;
        enum status status =
            expression_evaluate(measure->filter, fields, scratch, &condition, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (condition.is_null || !condition.boolean) {
            input->skip = true;
            return STATUS_OK;
        }
    }
    if (measure->plain_field != SIZE_MAX) {
        input->arguments = &fields[measure->plain_field];
        return STATUS_OK;
    }
    input->arguments = input->evaluated;
    for (size_t i = 0; i < measure->argument_count; i++) {
        enum status status = expression_evaluate(measure->arguments[i], fields, scratch,
                                                 &input->evaluated[i], error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}
