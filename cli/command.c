/* What the commands share: see cli/command.h. */
#include "cli/command.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/postgres/pgbinary.h"

/* --- messages --- */

static bool progress_shown;

void command_complain(const char *format, ...)
{
    command_progress_end();
    va_list arguments;
    va_start(arguments, format);
    fputs("dovetail: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int command_fail(const struct error *error)
{
    command_complain("%s", error->text);
    return error->status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE;
}

void command_progress(const char *format, ...)
{
    if (isatty(STDERR_FILENO) != 1)
        return;
    va_list arguments;
    va_start(arguments, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, arguments);
    fflush(stderr);
    va_end(arguments);
    progress_shown = true;
}

void command_progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

int command_finish_output(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return PROGRAM_OK;
    command_complain("cannot write the output: %s", strerror(errno));
    return PROGRAM_FAILURE;
}

/* --- options --- */

/* The option that `argument` names; *inline_value is what stands behind its '=', or NULL. */
static const struct option_spec *find_option(const struct option_reader *reader,
                                             const char *argument, const char **inline_value)
{
    for (const struct option_spec *spec = reader->specs; spec->name != NULL; spec++) {
        size_t length = strlen(spec->name);
        if (strncmp(argument, spec->name, length) != 0)
            continue;
        if (argument[length] == '\0' || argument[length] == '=') {
            *inline_value = argument[length] == '=' ? argument + length + 1 : NULL;
            return spec;
        }
    }
    return NULL;
}

static enum option_result option_fault(const char *argument, const char *what)
{
    command_complain("%s: %s (see --help)", argument, what);
    return OPTION_FAULT;
}

enum option_result option_next(struct option_reader *reader, size_t *index, const char **value)
{
    const char *argument = *reader->next;
    if (argument == NULL)
        return OPTION_END;
    reader->next++;
    if (!reader->literal && strcmp(argument, "--") == 0) {
        reader->literal = true;
        return option_next(reader, index, value);
    }
    if (reader->literal || argument[0] != '-' || argument[1] == '\0') {
        *value = argument;
        return OPTION_POSITIONAL;
    }
    const char *inline_value = NULL;
    const struct option_spec *spec = find_option(reader, argument, &inline_value);
    if (spec == NULL)
        return option_fault(argument, "unknown option");
    *index = (size_t)(spec - reader->specs);
    *value = inline_value;
    if (!spec->has_value)
        return inline_value == NULL ? OPTION_FOUND : option_fault(spec->name, "takes no value");
    if (inline_value == NULL) {
        if (*reader->next == NULL)
            return option_fault(spec->name, "needs a value");
        *value = *reader->next++;
    }
    return OPTION_FOUND;
}

bool option_int64(const char *name, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < low || number > high) {
        command_complain("%s: \"%s\" is not a number from %lld to %lld", name, text, (long long)low,
                         (long long)high);
        return false;
    }
    *out = number;
    return true;
}

bool option_where(struct query_question *question, const char *text)
{
    struct error error;
    size_t length = strcspn(text, "=");
    if (length == 0 || text[length] == '\0') {
        command_complain("--where: \"%s\" is not KEY=VALUE", text);
        return false;
    }
    char *name = arena_copy(&question->arena, text, length);
    if (name != NULL && query_question_restrict(question, name, name, strcspn(name, "."),
                                                text + length + 1, &error) == STATUS_OK)
        return true;
    command_complain("--where: %s", name == NULL ? "out of memory" : error.text);
    return false;
}

bool option_one_view(const struct program_arguments *arguments, const struct option_spec *specs,
                     option_taker take, void *context, const char **view)
{
    struct option_reader reader = {.next = arguments->rest, .specs = specs};
    size_t index = 0;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_FOUND) {
            if (!take(context, index, value))
                return false;
        } else if (*view == NULL) {
            *view = value;
        } else {
            command_complain("%s: unexpected argument (see --help)", value);
            return false;
        }
    }
    if (*view == NULL)
        command_complain("which view? (see --help)");
    return *view != NULL;
}

bool option_format(const char *value, bool *as_json)
{
    *as_json = strcmp(value, "json") == 0;
    if (*as_json || strcmp(value, "table") == 0)
        return true;
    command_complain("--format: \"%s\" is neither table nor json", value);
    return false;
}

bool option_positionals(const struct program_arguments *arguments, const char **out, size_t count)
{
    static const struct option_spec none[] = {{NULL, false}};
    struct option_reader reader = {.next = arguments->rest, .specs = none};
    const char *value = NULL;
    size_t index;
    size_t found = 0;
    for (;;) {
        switch (option_next(&reader, &index, &value)) {
        case OPTION_POSITIONAL:
            if (found < count) {
                out[found++] = value;
                break;
            }
            command_complain("%s: unexpected argument (see --help)", value);
            return false;
        case OPTION_END:
            if (found == count)
                return true;
            command_complain("an argument is missing (see --help)");
            return false;
        case OPTION_FOUND:
        case OPTION_FAULT:
            return false;
        }
    }
}

/* --- sessions --- */

int session_load_config(struct session *session, const struct program_arguments *arguments)
{
    struct error error = {0};
    if (config_load(arguments->config_path, &session->config, &error) == STATUS_OK)
        return PROGRAM_OK;
    return command_fail(&error);
}

int session_connect(struct session *session)
{
    struct error error = {0};
    if (postgres_connect(session->config->postgres, "dovetail", &session->postgres, &error) ==
        STATUS_OK)
        return PROGRAM_OK;
    return command_fail(&error);
}

int session_load_catalog(struct session *session)
{
    struct error error = {0};
    if (catalog_load(session->postgres, &session->catalog, &error) == STATUS_OK)
        return PROGRAM_OK;
    return command_fail(&error);
}

int session_open(struct session *session, const struct program_arguments *arguments)
{
    int code = session_load_config(session, arguments);
    if (code == PROGRAM_OK)
        code = session_connect(session);
    if (code == PROGRAM_OK)
        code = session_load_catalog(session);
    return code;
}

void session_close(struct session *session)
{
    catalog_destroy(session->catalog);
    postgres_close(session->postgres);
    config_destroy(session->config);
    *session = (struct session){0};
}

const struct catalog_version *session_view(const struct session *session, const char *name,
                                           int *exit_code)
{
    const struct catalog_version *version = catalog_current(session->catalog, name);
    if (version != NULL)
        return version;
    *exit_code = PROGRAM_FAILURE;
    const struct catalog_refusal *refusal = catalog_refused_view(session->catalog, name);
    if (refusal != NULL) {
        char text[ERROR_TEXT_BYTES];
        catalog_refusal_describe(refusal, text, sizeof text);
        command_complain("%s", text);
        return NULL;
    }
    for (size_t i = 0; i < session->catalog->version_count; i++) {
        if (strcmp(session->catalog->versions[i].view->name, name) == 0) {
            command_complain("view %s is being built: run `dovetail-batch run`", name);
            return NULL;
        }
    }
    *exit_code = PROGRAM_USAGE;
    command_complain(
        "view %s is not registered: no such definition, or `dovetail init` has not run "
        "since",
        name);
    return NULL;
}

int session_partition(const struct session *session, const struct source *source, int64_t partition)
{
    struct error error = {0};
    PGresult *result = NULL;
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)partition);
    enum status status =
        postgres_query(session->postgres,
                       "SELECT FROM dovetail_internal.position"
                       " WHERE topic = $1 AND partition = $2 UNION ALL "
                       "SELECT FROM dovetail_internal.segment"
                       " WHERE topic = $1 AND partition = $2 LIMIT 1",
                       2, (const char *const[]){source->topic, number}, &result, &error);
    bool found = status == STATUS_OK && PQntuples(result) > 0;
    PQclear(result);
    if (status != STATUS_OK)
        return command_fail(&error);
    if (found)
        return PROGRAM_OK;
    if (partition < 0)
        command_complain("--partition: nothing has been imported into source %s", source->name);
    else
        command_complain("--partition: topic %s of source %s has no partition %s", source->topic,
                         source->name, number);
    return PROGRAM_USAGE;
}

static void print_fault(const char *text, void *context)
{
    (void)context;
    command_complain("%s", text);
}

int command_load_definitions(const struct config *config, struct definitions *out)
{
    struct error error = {0};
    *out = (struct definitions){0};
    enum status status = definitions_load(config->schemas, out, print_fault, NULL, &error);
    if (status == STATUS_OK)
        return PROGRAM_OK;
    if (status != STATUS_REJECT)
        return command_fail(&error);
    return PROGRAM_USAGE; /* the faults are printed */
}

/* pg_type.dat; no column that the engine reads has it. */
enum { JSON_OID = 114 };

static json_t *json_cell(const PGresult *result, int row, int column)
{
    const char *text = PQgetvalue(result, row, column);
    if (PQgetisnull(result, row, column))
        return json_null();
    switch (PQftype(result, column)) {
    case PG_OID_BOOL:
        return json_boolean(text[0] == 't');
    case PG_OID_INT4:
    case PG_OID_INT8:
        return json_integer(postgres_int64(result, row, column));
    case JSON_OID: {
        json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
        return json != NULL ? json : json_string(text);
    }
    default:
        return json_string(text);
    }
}

bool command_print_json(const PGresult *result)
{
    json_t *rows = json_array();
    for (int row = 0; row < PQntuples(result); row++) {
        json_t *object = json_object();
        for (int column = 0; column < PQnfields(result); column++)
            json_object_set_new(object, PQfname(result, column), json_cell(result, row, column));
        json_array_append_new(rows, object);
    }
    char *text = json_dumps(rows, JSON_INDENT(2));
    json_decref(rows);
    if (text != NULL)
        puts(text);
    free(text);
    return text != NULL;
}
