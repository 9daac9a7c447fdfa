/* dovetail query: one merged query, straight on PostgreSQL; no serving process is needed. */
#include "core/query/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"

enum { LIST_MAX = 128 };

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV };

/* The request with the storage behind its arrays. */
struct arguments {
    const char *view;
    enum format format;
    struct query_request request;
    struct query_filter filters[LIST_MAX];
    const char *group_by[LIST_MAX];
    const char *measures[LIST_MAX];
    struct query_order order[LIST_MAX];
    char *texts[LIST_MAX]; /* copies that were split in place; owned */
    size_t text_count;
};

enum option {
    OPTION_FROM,
    OPTION_TO,
    OPTION_WHERE,
    OPTION_WHERE_NULL,
    OPTION_GROUP_BY,
    OPTION_GRANULARITY,
    OPTION_ORDER,
    OPTION_LIMIT,
    OPTION_LAYER,
    OPTION_MEASURES,
    OPTION_TIMEZONE,
    OPTION_FORMAT,
};

static const struct option_spec specs[] = {
    [OPTION_FROM] = {"--from", true},
    [OPTION_TO] = {"--to", true},
    [OPTION_WHERE] = {"--where", true},
    [OPTION_WHERE_NULL] = {"--where-null", true},
    [OPTION_GROUP_BY] = {"--group-by", true},
    [OPTION_GRANULARITY] = {"--granularity", true},
    [OPTION_ORDER] = {"--order", true},
    [OPTION_LIMIT] = {"--limit", true},
    [OPTION_LAYER] = {"--layer", true},
    [OPTION_MEASURES] = {"--measures", true},
    [OPTION_TIMEZONE] = {"--timezone", true},
    [OPTION_FORMAT] = {"--format", true},
    {NULL, false},
};

/* A copy of `text` that may be cut; owned by *arguments. NULL after complaining. */
static char *keep_copy(struct arguments *arguments, const char *text)
{
    char *copy = arguments->text_count < LIST_MAX ? strdup(text) : NULL;
    if (copy == NULL) {
        command_complain("too many arguments");
        return NULL;
    }
    return arguments->texts[arguments->text_count++] = copy;
}

/* "a,b" into its items; an empty text has none. */
static bool split_list(struct arguments *arguments, const char *option, const char *text,
                       const char **items, size_t *count)
{
    char *rest = keep_copy(arguments, text);
    if (rest == NULL)
        return false;
    *count = 0;
    while (text[0] != '\0' && rest != NULL) {
        char *item = strsep(&rest, ",");
        if (item[0] == '\0' || *count == LIST_MAX) {
            command_complain("%s: \"%s\" is not a list of names", option, text);
            return false;
        }
        items[(*count)++] = item;
    }
    return true;
}

static bool take_filter(struct arguments *arguments, const char *text, bool is_null)
{
    struct query_request *request = &arguments->request;
    char *key = keep_copy(arguments, text);
    if (key == NULL || request->filter_count == LIST_MAX)
        return false;
    char *value = strchr(key, '=');
    if (!is_null && (value == NULL || value == key)) {
        command_complain("--where: \"%s\" is not KEY=VALUE", text);
        return false;
    }
    if (!is_null)
        *value++ = '\0';
    arguments->filters[request->filter_count++] =
        (struct query_filter){.key = key, .text = is_null ? NULL : value};
    request->filters = arguments->filters;
    return true;
}

/* "-flights,origin": a minus means descending. */
static bool take_order(struct arguments *arguments, const char *text)
{
    const char *columns[LIST_MAX];
    struct query_request *request = &arguments->request;
    if (!split_list(arguments, "--order", text, columns, &request->order_count))
        return false;
    for (size_t i = 0; i < request->order_count; i++) {
        bool descending = columns[i][0] == '-';
        arguments->order[i] =
            (struct query_order){.column = columns[i] + descending, .descending = descending};
    }
    request->order = arguments->order;
    return true;
}

static bool take_word(const char *option, const char *text, const char *const *words, int *out)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    command_complain("%s: \"%s\" is none of its values (see --help)", option, text);
    return false;
}

static bool take_layer(struct arguments *arguments, const char *text)
{
    static const char *const words[] = {"merged", "batch", "speed", NULL};
    int word;
    if (!take_word("--layer", text, words, &word))
        return false;
    static const enum query_layer layers[] = {QUERY_MERGED, QUERY_BATCH, QUERY_SPEED};
    arguments->request.layer = layers[word];
    return true;
}

static bool take_format(struct arguments *arguments, const char *text)
{
    static const char *const words[] = {"table", "json", "csv", NULL};
    int word;
    if (!take_word("--format", text, words, &word))
        return false;
    arguments->format = (enum format)word;
    return true;
}

static bool take_option(struct arguments *arguments, enum option option, const char *value)
{
    struct query_request *request = &arguments->request;
    switch (option) {
    case OPTION_FROM:
        request->from = value;
        return true;
    case OPTION_TO:
        request->to = value;
        return true;
    case OPTION_WHERE:
    case OPTION_WHERE_NULL:
        return take_filter(arguments, value, option == OPTION_WHERE_NULL);
    case OPTION_GROUP_BY:
        request->group_by = arguments->group_by;
        return split_list(arguments, "--group-by", value, arguments->group_by,
                          &request->group_by_count);
    case OPTION_GRANULARITY:
        request->granularity = value;
        return true;
    case OPTION_TIMEZONE:
        request->timezone = value;
        return true;
    case OPTION_ORDER:
        return take_order(arguments, value);
    case OPTION_LIMIT:
        return option_int64("--limit", value, 1, INT64_MAX, &request->limit);
    case OPTION_LAYER:
        return take_layer(arguments, value);
    case OPTION_MEASURES:
        request->measures = arguments->measures;
        return split_list(arguments, "--measures", value, arguments->measures,
                          &request->measure_count);
    case OPTION_FORMAT:
        return take_format(arguments, value);
    }
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    struct option_reader reader = {.next = program->rest, .specs = specs};
    for (;;) {
        size_t index = 0;
        const char *value = NULL;
        switch (option_next(&reader, &index, &value)) {
        case OPTION_FOUND:
            if (!take_option(out, (enum option)index, value))
                return false;
            break;
        case OPTION_POSITIONAL:
            if (out->view != NULL) {
                command_complain("%s: unexpected argument (see --help)", value);
                return false;
            }
            out->view = value;
            break;
        case OPTION_FAULT:
            return false;
        case OPTION_END:
            if (out->view == NULL)
                command_complain("which view? (see --help)");
            return out->view != NULL;
        }
    }
}

static int print_answer(const struct query_answer *answer, enum format format)
{
    size_t length = 0;
    char *text = format == FORMAT_JSON  ? query_answer_json(answer, &length)
                 : format == FORMAT_CSV ? query_answer_csv(answer, &length)
                                        : query_answer_table(answer, &length);
    if (text == NULL) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    fwrite(text, 1, length, stdout);
    if (length > 0 && text[length - 1] != '\n')
        putchar('\n');
    free(text);
    return command_finish_output();
}

static int answer_query(const struct session *session, const struct arguments *arguments)
{
    int code = PROGRAM_OK;
    const struct catalog_version *version = session_view(session, arguments->view, &code);
    if (version == NULL)
        return code;
    struct error error = {0};
    struct query_answer *answer = NULL;
    enum status status =
        query_run(session->postgres, version, &arguments->request, &answer, &error);
    code = status == STATUS_OK ? print_answer(answer, arguments->format) : command_fail(&error);
    query_answer_destroy(answer);
    return code;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    struct session session = {0};
    int code = PROGRAM_USAGE;
    if (parse(program, &arguments))
        code = session_open(&session, program);
    if (code == PROGRAM_OK && session.config != NULL) {
        arguments.request.row_limit = INT64_MAX; /* a person's terminal, not a shared server */
        code = answer_query(&session, &arguments);
    }
    session_close(&session);
    for (size_t i = 0; i < arguments.text_count; i++)
        free(arguments.texts[i]);
    return code;
}

const struct command command_query = {
    .name = "query",
    .summary = "ask a view: batch and speed layer, merged",
    .help = "usage: dovetail query VIEW [OPTION]...\n"
            "\n"
            "Answers from batch and speed layer, merged, in one snapshot of PostgreSQL.\n"
            "\n"
            "  --from T, --to T    windows that start in [from, to): RFC 3339 or a date\n"
            "  --where KEY=VALUE   only groups with this key or looked-up column; may be repeated\n"
            "  --where-null KEY    only groups where the key is NULL\n"
            "  --group-by A,B      roll up to these keys and looked-up columns; empty: to none\n"
            "  --granularity D     roll up to longer windows, such as 1d; \"all\": to one\n"
            "  --timezone Z        of a granularity such as 1d, 1w or 1mo: America/New_York\n"
            "  --measures A,B      only these measures\n"
            "  --order A,-B        order by columns; - means descending\n"
            "  --limit N           at most N rows\n"
            "  --layer L           merged (default), batch or speed\n"
            "  --format F          table (default), json with the receipt, or csv\n"
            "\n"
            "options of all commands:",
    .run = run,
};
