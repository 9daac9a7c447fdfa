/* dovetail query: one merged query, straight on PostgreSQL; no serving process is needed. */
#include "core/query/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "core/query/query_parse.h"

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_NDJSON, FORMAT_CSV };

struct arguments {
    const char *view;
    enum format format;
    struct query_question question;
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
    OPTION_HAVING,
    OPTION_CURSOR,
    OPTION_EXPLAIN,
    OPTION_FORMAT,
};

static const struct option_spec specs[] = {
    [OPTION_FROM] = {"--from", true},         [OPTION_TO] = {"--to", true},
    [OPTION_WHERE] = {"--where", true},       [OPTION_WHERE_NULL] = {"--where-null", true},
    [OPTION_GROUP_BY] = {"--group-by", true}, [OPTION_GRANULARITY] = {"--granularity", true},
    [OPTION_ORDER] = {"--order", true},       [OPTION_LIMIT] = {"--limit", true},
    [OPTION_LAYER] = {"--layer", true},       [OPTION_MEASURES] = {"--measures", true},
    [OPTION_TIMEZONE] = {"--timezone", true}, [OPTION_HAVING] = {"--having", true},
    [OPTION_CURSOR] = {"--cursor", true},     [OPTION_EXPLAIN] = {"--explain", false},
    [OPTION_FORMAT] = {"--format", true},     {NULL, false},
};

/* The parameter of the HTTP interface that an option is; NULL: it is none of them. */
static const char *const parameters[] = {
    [OPTION_FROM] = "from",         [OPTION_TO] = "to",
    [OPTION_GROUP_BY] = "group_by", [OPTION_GRANULARITY] = "granularity",
    [OPTION_ORDER] = "order",       [OPTION_LIMIT] = "limit",
    [OPTION_LAYER] = "layer",       [OPTION_MEASURES] = "measures",
    [OPTION_TIMEZONE] = "timezone", [OPTION_HAVING] = "having",
    [OPTION_CURSOR] = "cursor",     [OPTION_EXPLAIN] = "explain",
    [OPTION_FORMAT] = NULL,
};

/* After the refusal of a parameter, which begins with its name. */
static bool refuse(const char *option, const struct error *error)
{
    const char *reason = strchr(error->text, ':');
    command_complain("%s%s", option, reason != NULL ? reason : error->text);
    return false;
}

static bool take_null(struct arguments *arguments, const char *key)
{
    char name[128];
    struct error error;
    snprintf(name, sizeof name, "%.100s.is", key);
    if (query_question_restrict(&arguments->question, key, name, strlen(name) - 3, "null",
                                &error) == STATUS_OK)
        return true;
    command_complain("--where-null: %s", error.text);
    return false;
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

static bool take_format(struct arguments *arguments, const char *text)
{
    static const char *const words[] = {"table", "json", "ndjson", "csv", NULL};
    int word;
    if (!take_word("--format", text, words, &word))
        return false;
    arguments->format = (enum format)word;
    return true;
}

static bool take_option(void *context, size_t index, const char *value)
{
    struct arguments *arguments = context;
    enum option option = (enum option)index;
    bool known;
    struct error error;
    if (option == OPTION_WHERE)
        return option_where(&arguments->question, value);
    if (option == OPTION_WHERE_NULL)
        return take_null(arguments, value);
    if (option == OPTION_FORMAT)
        return take_format(arguments, value);
    if (option == OPTION_EXPLAIN)
        value = "1";
    return query_question_take(&arguments->question, parameters[option], value, &known, &error) ==
               STATUS_OK ||
           refuse(specs[option].name, &error);
}

static int print_answer(const struct query_answer *answer, enum format format)
{
    size_t length = 0;
    char *text = format == FORMAT_JSON     ? query_answer_json(answer, &length, NULL)
                 : format == FORMAT_NDJSON ? query_answer_ndjson(answer, &length, NULL)
                 : format == FORMAT_CSV    ? query_answer_csv(answer, &length)
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
        query_run(session->postgres, version, &arguments->question.request, &answer, &error);
    code = status == STATUS_OK ? print_answer(answer, arguments->format) : command_fail(&error);
    query_answer_destroy(answer);
    return code;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    query_question_init(&arguments.question);
    struct session session = {0};
    int code = PROGRAM_USAGE;
    if (option_one_view(program, specs, take_option, &arguments, &arguments.view))
        code = session_open(&session, program);
    if (code == PROGRAM_OK && session.config != NULL) {
        arguments.question.request.row_limit =
            INT64_MAX; /* a person's terminal, not a shared server */
        code = answer_query(&session, &arguments);
    }
    session_close(&session);
    query_question_deinit(&arguments.question);
    return code;
}

const struct command command_query = {
    .name = "query",
    .summary = "ask a view: batch and speed layer, merged",
    .help =
        "usage: dovetail query VIEW [OPTION]...\n"
        "\n"
        "Answers from batch and speed layer, merged, in one snapshot of PostgreSQL.\n"
        "\n"
        "  --from T, --to T    windows that start in [from, to): RFC 3339 or a date\n"
        "  --where KEY=VALUE   only groups with this key or looked-up column; may be repeated,\n"
        "                      for another key\n"
        "  --where KEY.in=A,B  with one of these; a value with a comma or a quotation mark\n"
        "                      goes in quotation marks, those inside doubled\n"
        "  --where KEY.prefix=A  with strings that begin so\n"
        "  --where KEY.is=null or KEY.is=not_null\n"
        "  --where-null KEY    the same as --where KEY.is=null\n"
        "  --group-by A,B      roll up to these keys and looked-up columns; empty: to none\n"
        "  --granularity D     roll up to longer windows, such as 1d; \"all\": to one\n"
        "  --timezone Z        of a granularity such as 1d, 1w or 1mo: America/New_York\n"
        "  --measures A,B      only these measures\n"
        "  --having A>10,B<=2.5  only rows whose measures compare so: = <> < <= > >=, is null,\n"
        "                      is not null; texts in 'single quotes'\n"
        "  --order A,-B        order by columns; - means descending\n"
        "  --limit N           at most N rows\n"
        "  --cursor C          the rows behind those of the answer that gave this cursor\n"
        "  --layer L           merged (default), batch or speed\n"
        "  --explain           what each layer gave, rows read, time of each stage\n"
        "  --format F          table (default), json with the receipt, ndjson (a row a line,\n"
        "                      then the receipt), or csv\n"
        "\n"
        "options of all commands:",
    .run = run,
};
