/* dovetail runs list: the batch runs, newest first. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"

static const char runs_sql[] =
    "SELECT r.run, CASE WHEN r.run = c.run THEN 'current' ELSE r.state END, r.reason,"
    "       to_char(r.started_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    "       round(extract(epoch FROM r.finished_at - r.started_at) * 1000), r.records,"
    "       r.rows_changed, round(r.load_ms), round(r.prepare_ms), round(r.process_ms),"
    "       round(r.store_ms), r.message "
    "FROM dovetail_internal.run AS r CROSS JOIN dovetail_internal.current_run AS c "
    "ORDER BY r.run DESC";

static const char *const names[] = {"run",        "state",      "reason",       "started_at",
                                    "ms",         "records",    "rows_changed", "load_ms",
                                    "prepare_ms", "process_ms", "store_ms",     "message"};

enum { COLUMN_COUNT = sizeof names / sizeof names[0] };

static bool is_number(int column)
{
    return column == 0 || (column >= 4 && column < COLUMN_COUNT - 1);
}

static bool print_table(const PGresult *result)
{
    static const char *const columns[] = {
        ">run",     "state",       "reason",      "started",   ">ms",     ">records", ">changed",
        ">load ms", ">prepare ms", ">process ms", ">store ms", "message", NULL};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < COLUMN_COUNT; column++)
            table_add(table,
                      PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column));
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

static bool print_json(const PGresult *result)
{
    json_t *runs = json_array();
    for (int row = 0; row < PQntuples(result); row++) {
        json_t *run = json_object();
        for (int column = 0; column < COLUMN_COUNT; column++) {
            json_t *value = PQgetisnull(result, row, column) ? json_null()
                            : is_number(column) ? json_integer(postgres_int64(result, row, column))
                                                : json_string(PQgetvalue(result, row, column));
            json_object_set_new(run, names[column], value);
        }
        json_array_append_new(runs, run);
    }
    char *text = json_dumps(runs, JSON_INDENT(2));
    json_decref(runs);
    if (text != NULL)
        puts(text);
    free(text);
    return text != NULL;
}

static int list(const struct session *session, bool as_json)
{
    struct error error = {0};
    PGresult *result = NULL;
    if (postgres_query(session->postgres, runs_sql, 0, NULL, &result, &error) != STATUS_OK) {
        PQclear(result);
        return command_fail(&error);
    }
    bool good = as_json ? print_json(result) : print_table(result);
    PQclear(result);
    if (!good) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

static int run(const struct program_arguments *arguments)
{
    static const struct option_spec specs[] = {{"--format", true}, {NULL, false}};
    struct option_reader reader = {.next = arguments->rest, .specs = specs};
    struct session session = {0};
    bool as_json = false;
    bool listed = false;
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return PROGRAM_USAGE;
        if (result == OPTION_POSITIONAL && !listed && strcmp(value, "list") == 0) {
            listed = true;
            continue;
        }
        as_json = strcmp(value, "json") == 0;
        if (result == OPTION_POSITIONAL || (!as_json && strcmp(value, "table") != 0)) {
            command_complain("%s: unexpected (see --help)", value);
            return PROGRAM_USAGE;
        }
    }
    int code = session_open(&session, arguments);
    if (code == PROGRAM_OK)
        code = list(&session, as_json);
    session_close(&session);
    return code;
}

const struct command command_runs = {
    .name = "runs",
    .summary = "the batch runs",
    .help = "usage: dovetail runs list [--format table|json]\n"
            "\n"
            "Lists the batch runs, newest first, with what each stage cost.\n"
            "\n"
            "options of all commands:",
    .run = run,
};
