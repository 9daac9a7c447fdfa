/* From texts to a query request: see core/query/query_parse.h. */
#include "core/query/query_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void query_question_init(struct query_question *question)
{
    *question = (struct query_question){0};
    question->request.filters = question->filters;
    question->request.order = question->order;
    question->request.having = question->having;
    arena_init(&question->arena);
}

void query_question_deinit(struct query_question *question)
{
    arena_deinit(&question->arena);
}

/* --- lists of names --- */

/* "a,b" in pieces; nothing at all is no piece. */
static enum status split_names(struct query_question *question, const char *parameter,
                               const char *text, const char **names, size_t *count,
                               struct error *error)
{
    *count = 0;
    if (text[0] == '\0')
        return STATUS_OK;
    char *rest = arena_copy(&question->arena, text, strlen(text));
    if (rest == NULL)
        return error_no_memory(error);
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        if (name[0] == '\0')
            return error_set(error, STATUS_REJECT, "%s: a name is missing before or after a comma",
                             parameter);
        if (*count == QUERY_NAME_MAX)
            return error_set(error, STATUS_REJECT, "%s: has too many names", parameter);
        names[(*count)++] = name;
    }
    return STATUS_OK;
}

static enum status take_order(struct query_question *question, const char *text,
                              struct error *error)
{
    const char *names[QUERY_NAME_MAX];
    size_t *count = &question->request.order_count;
    enum status status = split_names(question, "order", text, names, count, error);
    for (size_t i = 0; status == STATUS_OK && i < *count; i++) {
        bool descending = names[i][0] == '-';
        question->order[i] = (struct query_order){.column = names[i] + (descending ? 1 : 0),
                                                  .descending = descending};
    }
    return status;
}

/* --- having: "flights>10,avg_delay<=3.5,best is null,first='a,b'" --- */

static const char *skip_spaces(const char *at)
{
    return at + strspn(at, " ");
}

static enum status bad_having(const char *at, struct error *error)
{
    char shown[40];
    snprintf(shown, sizeof shown, "%s", at);
    for (char *c = shown; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E)
            *c = '?';
    return error_set(error, STATUS_REJECT,
                     "having: a comparison such as flights>10 is expected at \"%s\"", shown);
}

/* Longer ones first. */
static const struct {
    const char *text;
    enum query_comparison comparison;
} comparisons[] = {
    {"<=", QUERY_LESS_OR_EQUAL}, {">=", QUERY_GREATER_OR_EQUAL},
    {"<>", QUERY_UNEQUAL},       {"!=", QUERY_UNEQUAL},
    {"<", QUERY_LESS},           {">", QUERY_GREATER},
    {"=", QUERY_EQUAL},
};

static bool read_comparison(const char **at, enum query_comparison *out)
{
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        size_t length = strlen(comparisons[i].text);
        if (strncmp(*at, comparisons[i].text, length) == 0) {
            *out = comparisons[i].comparison;
            *at += length;
            return true;
        }
    }
    return false;
}

/* 'text' with '' for each ' in it, as in SQL; or anything up to a comma, without spaces around. */
static enum status read_operand(struct query_question *question, const char **at, const char **out,
                                struct error *error)
{
    const char *text = *at;
    char *copy = arena_copy(&question->arena, text, strlen(text));
    size_t length = 0;
    if (copy == NULL)
        return error_no_memory(error);
    *out = copy;
    if (*text == '\'') {
        for (text++; *text != '\0' && (*text != '\'' || text[1] == '\''); text++) {
            text += *text == '\'' ? 1 : 0;
            copy[length++] = *text;
        }
        if (*text++ != '\'')
            return bad_having(*at, error);
    } else {
        length = strcspn(text, ",");
        text += length;
        while (length > 0 && copy[length - 1] == ' ')
            length--;
        if (length == 0)
            return bad_having(*at, error);
    }
    copy[length] = '\0';
    *at = text;
    return STATUS_OK;
}

static bool read_words(const char **at, const char *words)
{
    size_t length = strlen(words);
    if (strncmp(*at, words, length) != 0)
        return false;
    *at += length;
    return true;
}

static enum status read_having(struct query_question *question, const char **at,
                               struct query_having *out, struct error *error)
{
    const char *begin = skip_spaces(*at);
    size_t length = strspn(begin, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (length == 0)
        return bad_having(begin, error);
    *out = (struct query_having){.measure = arena_copy(&question->arena, begin, length)};
    if (out->measure == NULL)
        return error_no_memory(error);
    *at = skip_spaces(begin + length);
    if (read_words(at, "is null")) {
        out->comparison = QUERY_NULL;
        return STATUS_OK;
    }
    if (read_words(at, "is not null")) {
        out->comparison = QUERY_NOT_NULL;
        return STATUS_OK;
    }
    if (!read_comparison(at, &out->comparison))
        return bad_having(begin, error);
    *at = skip_spaces(*at);
    return read_operand(question, at, &out->text, error);
}

static enum status take_having(struct query_question *question, const char *text,
                               struct error *error)
{
    struct query_request *request = &question->request;
    for (const char *at = text;; at++) {
        if (request->having_count == QUERY_NAME_MAX)
            return error_set(error, STATUS_REJECT, "having: has too many comparisons");
        enum status status =
            read_having(question, &at, &question->having[request->having_count], error);
        if (status != STATUS_OK)
            return status;
        request->having_count++;
        at = skip_spaces(at);
        if (*at == '\0')
            return STATUS_OK;
        if (*at != ',')
            return bad_having(at, error);
    }
}

/* --- single values --- */

static enum status take_limit(const char *text, int64_t *out, struct error *error)
{
    char *end = NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *out < 1)
        return error_set(error, STATUS_REJECT, "limit: a whole number from 1 to %lld is expected",
                         (long long)INT64_MAX);
    return STATUS_OK;
}

static enum status take_layer(const char *text, enum query_layer *out, struct error *error)
{
    if (strcmp(text, "merged") == 0)
        *out = QUERY_MERGED;
    else if (strcmp(text, "batch") == 0)
        *out = QUERY_BATCH;
    else if (strcmp(text, "speed") == 0)
        *out = QUERY_SPEED;
    else
        return error_set(error, STATUS_REJECT, "layer: merged, batch or speed is expected");
    return STATUS_OK;
}

static enum status take_explain(const char *text, bool *out, struct error *error)
{
    *out = strcmp(text, "1") == 0;
    if (!*out && strcmp(text, "0") != 0)
        return error_set(error, STATUS_REJECT, "explain: 1 or 0 is expected");
    return STATUS_OK;
}

bool query_is_parameter(const char *name)
{
    static const char *const names[] = {"from",        "to",       "group_by", "measures",
                                        "granularity", "timezone", "having",   "order",
                                        "limit",       "cursor",   "layer",    "explain"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

enum status query_question_take(struct query_question *question, const char *name,
                                const char *value, bool *known, struct error *error)
{
    struct query_request *request = &question->request;
    *known = query_is_parameter(name);
    if (strcmp(name, "from") == 0)
        request->from = value;
    else if (strcmp(name, "to") == 0)
        request->to = value;
    else if (strcmp(name, "granularity") == 0)
        request->granularity = value;
    else if (strcmp(name, "timezone") == 0)
        request->timezone = value;
    else if (strcmp(name, "cursor") == 0)
        request->cursor = value;
    else if (strcmp(name, "having") == 0)
        return take_having(question, value, error);
    else if (strcmp(name, "order") == 0)
        return take_order(question, value, error);
    else if (strcmp(name, "layer") == 0)
        return take_layer(value, &request->layer, error);
    else if (strcmp(name, "explain") == 0)
        return take_explain(value, &request->explain, error);
    else if (strcmp(name, "limit") == 0)
        return take_limit(value, &request->limit, error);
    else if (strcmp(name, "group_by") == 0) {
        request->group_by = question->group_by;
        return split_names(question, name, value, question->group_by, &request->group_by_count,
                           error);
    } else if (strcmp(name, "measures") == 0) {
        request->measures = question->measures;
        return split_names(question, name, value, question->measures, &request->measure_count,
                           error);
    }
    return STATUS_OK;
}

/* --- restrictions of keys --- */

static enum status bad_list(const char *name, struct error *error)
{
    return error_set(error, STATUS_REJECT,
                     "%s: values separated by commas are expected; one with a comma or a "
                     "quotation mark goes in quotation marks, those inside doubled",
                     name);
}

/* One value of a list, from `at` to the comma or the end behind it; into `out`, 0-terminated. */
static bool read_item(const char **at, char **out)
{
    const char *in = *at;
    char *end = *out;
    if (*in == '"') {
        for (in++; *in != '\0' && (*in != '"' || in[1] == '"'); in++) {
            in += *in == '"' ? 1 : 0;
            *end++ = *in;
        }
        if (*in++ != '"')
            return false;
    } else {
        while (*in != '\0' && *in != ',' && *in != '"')
            *end++ = *in++;
    }
    if (*in != '\0' && *in != ',')
        return false;
    *end++ = '\0';
    *at = in;
    *out = end;
    return true;
}

static enum status read_list(struct query_question *question, const char *name, const char *text,
                             struct query_filter *filter, struct error *error)
{
    size_t length = strlen(text);
    char *copy = arena_alloc(&question->arena, length + QUERY_IN_MAX + 1);
    const char **items = arena_alloc(&question->arena, QUERY_IN_MAX * sizeof *items);
    if (copy == NULL || items == NULL)
        return error_no_memory(error);
    filter->texts = items;
    for (const char *at = text;; at++) {
        if (filter->text_count == QUERY_IN_MAX)
            return error_set(error, STATUS_REJECT, "%s: more than %d values", name, QUERY_IN_MAX);
        items[filter->text_count++] = copy;
        if (!read_item(&at, &copy))
            return bad_list(name, error);
        if (*at == '\0')
            return STATUS_OK;
    }
}

static enum status read_one(struct query_question *question, const char *value,
                            struct query_filter *filter, struct error *error)
{
    const char **text = arena_alloc(&question->arena, sizeof *text);
    if (text == NULL)
        return error_no_memory(error);
    *text = value;
    filter->texts = text;
    filter->text_count = 1;
    return STATUS_OK;
}

enum status query_question_restrict(struct query_question *question, const char *parameter,
                                    const char *key, size_t key_length, const char *value,
                                    struct error *error)
{
    struct query_request *request = &question->request;
    const char *suffix = key + key_length;
    const char *name = arena_copy(&question->arena, parameter, strlen(parameter));
    struct query_filter *filter = &question->filters[request->filter_count];
    if (request->filter_count == QUERY_FILTER_MAX)
        return error_set(error, STATUS_REJECT, "%s: there are more restrictions than keys",
                         parameter);
    *filter =
        (struct query_filter){.key = arena_copy(&question->arena, key, key_length), .name = name};
    if (filter->key == NULL || name == NULL)
        return error_no_memory(error);
    request->filter_count++;
    if (strcmp(suffix, ".in") == 0) {
        filter->kind = QUERY_IN;
        return read_list(question, name, value, filter, error);
    }
    if (strcmp(suffix, ".is") == 0) {
        bool is_null = strcmp(value, "null") == 0;
        filter->kind = is_null ? QUERY_IS_NULL : QUERY_IS_NOT_NULL;
        return is_null || strcmp(value, "not_null") == 0
                   ? STATUS_OK
                   : error_set(error, STATUS_REJECT, "%s: null or not_null is expected", name);
    }
    filter->kind = strcmp(suffix, ".prefix") == 0 ? QUERY_PREFIX : QUERY_IS;
    if (filter->kind == QUERY_IS && suffix[0] != '\0')
        return error_set(error, STATUS_REJECT, "%s: there are KEY, KEY.in, KEY.prefix and KEY.is",
                         name);
    return read_one(question, value, filter, error);
}
