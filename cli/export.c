/* dovetail export: all merged rows of a view, however many, and the receipt that belongs to them.
 *
 * Invariant: rows and receipt are of one snapshot. The view is locked before the snapshot is taken,
 * so that it cannot become another version's in between. PostgreSQL merges (dovetail.<view>) and
 * sorts, and the rows are written as they come, so memory does not depend on their number. A file
 * gets its name when it is whole and durable; the receipt comes last. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "core/query/query.h"
#include "core/query/query_parse.h"
#include "core/query/query_text.h"

enum { PROGRESS_EVERY = 100000 };

struct arguments {
    const char *view;
    const char *output;  /* NULL: stdout */
    const char *receipt; /* NULL: stderr */
    bool as_json;
    struct query_question question;
};

/* Columns are window_start, window_end, keys with what is looked up, measures, provisional. */
struct exporting {
    const struct arguments *arguments;
    struct postgres *postgres;
    const struct view *view;
    const struct query_answer *answer; /* with the receipt */
    size_t column_count;
    struct pgbinary_field *fields;
    struct query_text row; /* the one that is written */
    FILE *out;
    int64_t rows;
};

/* --- columns --- */

static size_t key_count(const struct view *view)
{
    return view->key_count + view->looked_up_count;
}

static const char *column_name(const struct view *view, size_t index)
{
    if (index < 2)
        return index == 0 ? "window_start" : "window_end";
    index -= 2;
    if (index < key_count(view))
        return view->keys[index].name;
    index -= key_count(view);
    return index < view->measure_count ? view->measures[index].name : "provisional";
}

static enum value_type column_type(const struct view *view, size_t index)
{
    if (index < 2)
        return VALUE_TIMESTAMP;
    index -= 2;
    if (index < key_count(view))
        return view->keys[index].type;
    index -= key_count(view);
    return index < view->measure_count ? view->measures[index].measure->result_type : VALUE_BOOLEAN;
}

/* --- texts --- */

static enum status put_time(struct query_text *text, bool as_json,
                            const struct pgbinary_field *field, struct error *error)
{
    int64_t us;
    enum status status = pgbinary_get_timestamp(field, &us, error);
    if (status != STATUS_OK)
        return status;
    if (as_json)
        query_put_char(text, '"');
    query_put_time(text, us);
    if (as_json)
        query_put_char(text, '"');
    return STATUS_OK;
}

/* Times come as PostgreSQL has them, everything else as text. */
static enum status put_field(struct exporting *exporting, size_t index, struct error *error)
{
    const struct pgbinary_field *field = &exporting->fields[index];
    const char *data = (const char *)field->data;
    bool as_json = exporting->arguments->as_json;
    struct query_text *text = &exporting->row;
    enum value_type type = column_type(exporting->view, index);
    if (data == NULL) {
        if (as_json)
            query_put_text(text, "null");
    } else if (type == VALUE_TIMESTAMP) {
        return put_time(text, as_json, field, error);
    } else if (type == VALUE_INTEGERS && as_json) { /* {1,2}, as PostgreSQL has it */
        query_put_char(text, '[');
        query_put(text, data + 1, field->length - 2);
        query_put_char(text, ']');
    } else if (type == VALUE_STRING && as_json) {
        query_put_json_string(text, data, field->length);
    } else if (type == VALUE_STRING || type == VALUE_INTEGERS) {
        query_put_csv_string(text, data, field->length);
    } else {
        query_put(text, data, field->length);
    }
    return STATUS_OK;
}

static enum status put_row(struct exporting *exporting, struct error *error)
{
    bool as_json = exporting->arguments->as_json;
    struct query_text *text = &exporting->row;
    enum status status = STATUS_OK;
    text->length = 0;
    for (size_t i = 0; status == STATUS_OK && i < exporting->column_count; i++) {
        if (i > 0 || as_json)
            query_put_char(text, i == 0 ? '{' : ',');
        if (as_json) {
            query_put_char(text, '"');
            query_put_text(text, column_name(exporting->view, i));
            query_put_text(text, "\":");
        }
        status = put_field(exporting, i, error);
    }
    query_put_text(text, as_json ? "}\n" : "\r\n");
    return status == STATUS_OK && text->failed ? error_no_memory(error) : status;
}

static enum status take_row(const uint8_t *row, size_t length, void *context, struct error *error)
{
    struct exporting *exporting = context;
    enum status status =
        pgbinary_split_row(row, length, exporting->fields, exporting->column_count, error);
    if (status == STATUS_OK)
        status = put_row(exporting, error);
    if (status == STATUS_OK && fwrite(exporting->row.data, 1, exporting->row.length,
                                      exporting->out) != exporting->row.length)
        status = error_set(error, STATUS_FATAL, "cannot write the output: %s", strerror(errno));
    if (status == STATUS_OK && program_stopping())
        status = error_set(error, STATUS_RETRY, "interrupted");
    if (++exporting->rows % PROGRESS_EVERY == 0)
        command_progress("%" PRId64 " rows", exporting->rows);
    return status;
}

static void put_header(const struct exporting *exporting)
{
    if (exporting->arguments->as_json)
        return;
    for (size_t i = 0; i < exporting->column_count; i++)
        fprintf(exporting->out, i == 0 ? "%s" : ",%s", column_name(exporting->view, i));
    fputs("\r\n", exporting->out);
}

/* --- the statement --- */

static bool put_literal(FILE *sql, struct postgres *postgres, const char *before, const char *text)
{
    char *literal = postgres_literal(postgres, text);
    if (literal == NULL)
        return false;
    fprintf(sql, "%s%s", before, literal);
    PQfreemem(literal);
    return true;
}

/* The texts were checked with the receipt: PostgreSQL reads each as the key's type. */
static bool put_filter(FILE *sql, struct postgres *postgres, const struct query_filter *filter)
{
    bool good = true;
    fprintf(sql, filter->kind == QUERY_PREFIX ? " AND starts_with(\"%s\"" : " AND \"%s\"",
            filter->key);
    switch (filter->kind) {
    case QUERY_IS:
        return put_literal(sql, postgres, " = ", filter->texts[0]);
    case QUERY_IN:
        for (size_t i = 0; good && i < filter->text_count; i++)
            good = put_literal(sql, postgres, i == 0 ? " IN (" : ", ", filter->texts[i]);
        putc(')', sql);
        return good;
    case QUERY_PREFIX:
        good = put_literal(sql, postgres, ", ", filter->texts[0]);
        putc(')', sql);
        return good;
    case QUERY_IS_NULL:
        fputs(" IS NULL", sql);
        return true;
    case QUERY_IS_NOT_NULL:
        fputs(" IS NOT NULL", sql);
        return true;
    }
    return false;
}

static bool put_conditions(FILE *sql, const struct exporting *exporting)
{
    const struct query_request *request = &exporting->arguments->question.request;
    bool good = true;
    fputs(" WHERE true", sql);
    if (request->from != NULL)
        good = put_literal(sql, exporting->postgres, " AND window_start >= ", request->from);
    if (good && request->to != NULL)
        good = put_literal(sql, exporting->postgres, " AND window_start < ", request->to);
    for (size_t i = 0; good && i < request->filter_count; i++)
        good = put_filter(sql, exporting->postgres, &request->filters[i]);
    return good;
}

static char *copy_sql(const struct exporting *exporting)
{
    const struct view *view = exporting->view;
    char *text = NULL;
    size_t length;
    FILE *sql = open_memstream(&text, &length);
    if (sql == NULL)
        return NULL;
    fputs("COPY (SELECT ", sql);
    for (size_t i = 0; i < exporting->column_count; i++)
        fprintf(sql, "%s\"%s\"%s", i == 0 ? "" : ", ", column_name(view, i),
                column_type(view, i) == VALUE_TIMESTAMP ? "" : "::text");
    fprintf(sql, " FROM dovetail.\"%s\" AS _row", view->name);
    bool good = put_conditions(sql, exporting);
    fputs(" ORDER BY", sql);
    /* A bare name would be the text that is selected, and 10 stand before 9. Where sessions of two
     * groups begin at one time, the key decides and not the end, as in a query. */
    for (size_t i = 0; i < 2 + key_count(view); i++)
        if (i != 1)
            fprintf(sql, "%s _row.\"%s\"", i == 0 ? "" : ",", column_name(view, i));
    fputs(") TO STDOUT (FORMAT binary)", sql);
    if (fclose(sql) == 0 && good)
        return text;
    free(text);
    return NULL;
}

static enum status export_rows(struct exporting *exporting, struct error *error)
{
    exporting->column_count = key_count(exporting->view) + exporting->view->measure_count + 3;
    exporting->fields = calloc(exporting->column_count, sizeof *exporting->fields);
    char *sql = copy_sql(exporting);
    enum status status =
        exporting->fields == NULL || sql == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK) {
        put_header(exporting);
        status = postgres_copy_out(exporting->postgres, sql, take_row, exporting, error);
    }
    command_progress_end();
    free(sql);
    free(exporting->fields);
    free(exporting->row.data);
    return status;
}

/* --- files --- */

static enum status file_failure(struct error *error, const char *path)
{
    return error_set(error, STATUS_FATAL, "%s: %s", path, strerror(errno));
}

/* The new name in its directory. */
static bool sync_directory(const char *path)
{
    char *copy = strdup(path);
    int fd = copy == NULL ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    int number = errno;
    if (fd >= 0)
        close(fd);
    free(copy);
    errno = number;
    return good;
}

/* Whole and durable under its name, or not there. */
static enum status close_file(FILE *file, const char *temporary, const char *path,
                              struct error *error)
{
    bool written = fflush(file) == 0 && ferror(file) == 0 && fsync(fileno(file)) == 0;
    int number = errno;
    written = fclose(file) == 0 && written;
    if (written && rename(temporary, path) == 0 && sync_directory(path))
        return STATUS_OK;
    if (!written)
        errno = number;
    return file_failure(error, path);
}

static enum status write_receipt(const struct exporting *exporting, struct error *error)
{
    const char *path = exporting->arguments->receipt;
    size_t length;
    char *text = query_receipt_json(&exporting->answer->receipt, &length);
    if (text == NULL)
        return error_no_memory(error);
    FILE *file = path == NULL ? stderr : fopen(path, "w");
    enum status status = file == NULL ? file_failure(error, path) : STATUS_OK;
    if (file != NULL && (fprintf(file, "%s\n", text) < 0 || fflush(file) != 0))
        status = file_failure(error, path == NULL ? "stderr" : path);
    if (file != NULL && path != NULL && fclose(file) != 0 && status == STATUS_OK)
        status = file_failure(error, path);
    free(text);
    return status;
}

static enum status export_to_file(struct exporting *exporting, struct error *error)
{
    const char *path = exporting->arguments->output;
    char *temporary = NULL;
    if (path == NULL) {
        exporting->out = stdout;
        enum status status = export_rows(exporting, error);
        if (status == STATUS_OK && (fflush(stdout) != 0 || ferror(stdout) != 0))
            status = file_failure(error, "stdout");
        return status;
    }
    if (asprintf(&temporary, "%s.part", path) < 0)
        return error_no_memory(error);
    exporting->out = fopen(temporary, "w");
    enum status status =
        exporting->out == NULL ? file_failure(error, temporary) : export_rows(exporting, error);
    if (status == STATUS_OK)
        status = close_file(exporting->out, temporary, path, error);
    else if (exporting->out != NULL)
        fclose(exporting->out);
    if (status != STATUS_OK)
        unlink(temporary);
    free(temporary);
    return status;
}

/* --- the command --- */

static enum status export_view(struct exporting *exporting, const struct catalog_version *version,
                               struct error *error)
{
    struct query_answer *answer = NULL;
    struct error ignored;
    enum status status = postgres_executef(exporting->postgres, error,
                                           "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                                           " LOCK TABLE dovetail.\"%s\" IN ACCESS SHARE MODE",
                                           exporting->view->name);
    if (status == STATUS_OK)
        status = query_receipt_here(exporting->postgres, version,
                                    &exporting->arguments->question.request, &answer, error);
    exporting->answer = answer;
    if (status == STATUS_OK)
        status = export_to_file(exporting, error);
    if (status == STATUS_OK)
        status = write_receipt(exporting, error);
    (void)!postgres_execute(exporting->postgres, "ROLLBACK", &ignored); /* nothing was changed */
    query_answer_destroy(answer);
    return status;
}

static int run_export(const struct session *session, const struct arguments *arguments)
{
    int code = PROGRAM_OK;
    struct error error = {0};
    const struct catalog_version *version = session_view(session, arguments->view, &code);
    if (version == NULL)
        return code;
    struct exporting exporting = {
        .arguments = arguments, .postgres = session->postgres, .view = version->view};
    if (export_view(&exporting, version, &error) == STATUS_OK)
        return PROGRAM_OK;
    return command_fail(&error);
}

enum option {
    OPTION_FROM,
    OPTION_TO,
    OPTION_WHERE,
    OPTION_FORMAT,
    OPTION_OUTPUT,
    OPTION_SHORT_OUTPUT,
    OPTION_RECEIPT,
};

static const struct option_spec specs[] = {
    [OPTION_FROM] = {"--from", true},       [OPTION_TO] = {"--to", true},
    [OPTION_WHERE] = {"--where", true},     [OPTION_FORMAT] = {"--format", true},
    [OPTION_OUTPUT] = {"--output", true},   [OPTION_SHORT_OUTPUT] = {"-o", true},
    [OPTION_RECEIPT] = {"--receipt", true}, {NULL, false}};

static bool take_range(struct arguments *arguments, enum option option, const char *value)
{
    bool known;
    struct error error;
    if (query_question_take(&arguments->question, option == OPTION_FROM ? "from" : "to", value,
                            &known, &error) == STATUS_OK)
        return true;
    command_complain("--%s", error.text);
    return false;
}

static bool take_option(void *context, size_t index, const char *value)
{
    struct arguments *arguments = context;
    enum option option = (enum option)index;
    switch (option) {
    case OPTION_FROM:
    case OPTION_TO:
        return take_range(arguments, option, value);
    case OPTION_WHERE:
        return option_where(&arguments->question, value);
    case OPTION_OUTPUT:
    case OPTION_SHORT_OUTPUT:
        arguments->output = value;
        return true;
    case OPTION_RECEIPT:
        arguments->receipt = value;
        return true;
    case OPTION_FORMAT:
        arguments->as_json = strcmp(value, "json") == 0;
        if (!arguments->as_json && strcmp(value, "csv") != 0)
            command_complain("--format: \"%s\" is neither csv nor json", value);
        return arguments->as_json || strcmp(value, "csv") == 0;
    }
    return false;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    struct session session = {0};
    query_question_init(&arguments.question);
    int code = PROGRAM_USAGE;
    if (option_one_view(program, specs, take_option, &arguments, &arguments.view))
        code = session_open(&session, program);
    if (code == PROGRAM_OK && session.config != NULL)
        code = run_export(&session, &arguments);
    session_close(&session);
    query_question_deinit(&arguments.question);
    return code;
}

const struct command command_export = {
    .name = "export",
    .summary = "all rows of a view into a file, with their receipt",
    .help =
        "usage: dovetail export VIEW [OPTION]...\n"
        "\n"
        "All merged rows, however many, ordered by window and keys, in one snapshot of "
        "PostgreSQL;\n"
        "memory does not grow with them. The receipt says where they stand, as that of a query.\n"
        "\n"
        "  --format F          csv (default; RFC 4180, NULL is an empty field, an empty string\n"
        "                      \"\") or json (an object a line)\n"
        "  --from T, --to T    windows that start in [from, to): RFC 3339 or a date\n"
        "  --where KEY=VALUE   as in dovetail query; may be repeated, for another key\n"
        "  -o, --output FILE   instead of stdout; it is there when it is whole\n"
        "  --receipt FILE      the receipt as JSON goes there, and not to stderr; written last\n"
        "\n"
        "options of all commands:",
    .run = run,
};
