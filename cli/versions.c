/* dovetail versions: the versions of views, and going back to one.
 *
 * Going back registers the old definition again, as if it were in the definition's file and
 * `dovetail init` were run: it is built beside the version that is served and replaces it with a
 * batch run, for HTTP, SQL and both layers at the same instant. There is no quicker way that is
 * exact, because a version that is not served is not computed either. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "core/catalog/lock_wait.h"

static const char versions_sql[] =
    "SELECT view, version, state, source,"
    "       to_char(registered_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS registered_at,"
    "       to_char(current_since, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS current_since,"
    "       to_char(retired_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS retired_at,"
    "       built_run,"
    "       to_regclass('dovetail_internal.speed_' || version) IS NOT NULL AS has_tables "
    "FROM dovetail_internal.view_version WHERE $1::text IS NULL OR view = $1 "
    "ORDER BY view, version DESC";

enum action { ACTION_LIST, ACTION_SHOW, ACTION_SWITCH };

struct arguments {
    enum action action;
    bool has_action;
    bool as_json;
    bool has_format;
    const char *view;    /* NULL: all */
    const char *version; /* NULL: none */
};

/* --- list --- */

static bool print_table(const PGresult *result)
{
    static const char *const columns[] = {
        "view",          ">version", "state",         "source", "registered",
        "current since", "retired",  ">built by run", "tables", NULL};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++) {
            const char *text =
                PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
            if (column == PQnfields(result) - 1)
                text = postgres_bool(result, row, column) ? "yes" : "dropped";
            table_add(table, text);
        }
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

static int list(struct postgres *postgres, const struct arguments *arguments)
{
    struct error error = {0};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres, versions_sql, 1, &arguments->view, &result, &error);
    if (status == STATUS_OK && PQntuples(result) == 0 && arguments->view != NULL)
        status = error_set(&error, STATUS_REJECT, "view %s has no version", arguments->view);
    bool good = status == STATUS_OK &&
                (arguments->as_json ? command_print_json(result) : print_table(result));
    PQclear(result);
    if (status != STATUS_OK)
        return command_fail(&error);
    if (!good) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

/* --- show --- */

static int show(struct postgres *postgres, const struct arguments *arguments)
{
    struct error error = {0};
    PGresult *result = NULL;
    const char *const parameters[] = {arguments->view, arguments->version};
    enum status status = postgres_query(postgres,
                                        "SELECT definition FROM dovetail_internal.view_version"
                                        " WHERE view = $1 AND version = $2::integer",
                                        2, parameters, &result, &error);
    if (status == STATUS_OK && PQntuples(result) == 0)
        status = error_set(&error, STATUS_REJECT, "view %s has no version %s", arguments->view,
                           arguments->version);
    json_t *json = status == STATUS_OK ? json_loads(PQgetvalue(result, 0, 0), 0, NULL) : NULL;
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(2)) : NULL;
    if (status == STATUS_OK && text == NULL)
        status = error_no_memory(&error);
    if (text != NULL)
        puts(text);
    free(text);
    json_decref(json);
    PQclear(result);
    return status == STATUS_OK ? command_finish_output() : command_fail(&error);
}

/* --- switch --- */

static enum status register_once(struct postgres *postgres, const struct arguments *arguments,
                                 enum catalog_change *change, struct error *error)
{
    enum status status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status == STATUS_OK)
        status = catalog_lock(postgres, error);
    if (status == STATUS_OK)
        status = catalog_switch_version(postgres, arguments->view, atoi(arguments->version), change,
                                        error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

static enum status register_version(struct postgres *postgres, const struct arguments *arguments,
                                    enum catalog_change *change, struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do
        status = register_once(postgres, arguments, change, error);
    while (lock_wait_again(&wait, postgres, status, error));
    return status;
}

static int switch_back(struct postgres *postgres, const struct arguments *arguments)
{
    struct error error = {0};
    enum catalog_change change = CATALOG_UNCHANGED;
    PGresult *result = NULL;
    enum status status = register_version(postgres, arguments, &change, &error);
    if (status == STATUS_OK)
        status = postgres_query(postgres,
                                "SELECT version, state = 'building'"
                                " FROM dovetail_internal.view_version"
                                " WHERE view = $1 AND state <> 'retired'"
                                " ORDER BY version DESC LIMIT 1",
                                1, &arguments->view, &result, &error);
    if (status == STATUS_OK && PQntuples(result) == 1) {
        const char *version = PQgetvalue(result, 0, 0);
        if (arguments->as_json)
            printf(
                "{\"view\": \"%s\", \"version\": %s, \"state\": \"%s\", \"definition_of\": %s}\n",
                arguments->view, version, postgres_bool(result, 0, 1) ? "building" : "current",
                arguments->version);
        else if (postgres_bool(result, 0, 1))
            printf("view %s: version %s is registered with the definition of version %s and becomes"
                   " current with the next `dovetail-batch run`\n",
                   arguments->view, version, arguments->version);
        else
            printf("view %s: version %s is served, with the definition of version %s\n",
                   arguments->view, version, arguments->version);
        if (!arguments->as_json)
            printf("keep it: `dovetail versions show %s %s` is what its file must say before the"
                   " next `dovetail init`\n",
                   arguments->view, arguments->version);
    }
    PQclear(result);
    return status == STATUS_OK ? command_finish_output() : command_fail(&error);
}

/* --- the command --- */

static bool take_action(struct arguments *out, const char *value)
{
    static const char *const words[] = {"list", "show", "switch"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, words[i]) == 0) {
            out->action = (enum action)i;
            return true;
        }
    }
    command_complain("%s: neither list nor show nor switch (see --help)", value);
    return false;
}

static bool take_positional(struct arguments *out, const char *value)
{
    int64_t number;
    if (!out->has_action) {
        out->has_action = true;
        return take_action(out, value);
    }
    if (out->view == NULL) {
        out->view = value;
        return true;
    }
    if (out->action == ACTION_SHOW && out->has_format && !out->as_json) {
        command_complain("--format: a definition is shown as json alone");
        return false;
    }
    if (out->action != ACTION_LIST && out->version == NULL) {
        out->version = value;
        return option_int64("VERSION", value, 1, INT32_MAX, &number);
    }
    command_complain("%s: unexpected (see --help)", value);
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    static const struct option_spec specs[] = {{"--format", true}, {NULL, false}};
    struct option_reader reader = {.next = program->rest, .specs = specs};
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_POSITIONAL) {
            if (!take_positional(out, value))
                return false;
            continue;
        }
        if (!option_format(value, &out->as_json))
            return false;
        out->has_format = true;
    }
    if (out->action == ACTION_SHOW && out->has_format && !out->as_json) {
        command_complain("--format: a definition is shown as json alone");
        return false;
    }
    if (out->action != ACTION_LIST && out->version == NULL) {
        command_complain("which version of which view? (see dovetail versions list)");
        return false;
    }
    return true;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    struct session session = {0};
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK && arguments.action == ACTION_LIST)
        code = list(session.postgres, &arguments);
    else if (code == PROGRAM_OK && arguments.action == ACTION_SHOW)
        code = show(session.postgres, &arguments);
    else if (code == PROGRAM_OK)
        code = switch_back(session.postgres, &arguments);
    session_close(&session);
    return code;
}

const struct command command_versions = {
    .name = "versions",
    .summary = "the versions of views",
    .help =
        "usage: dovetail versions [list [VIEW]] [--format table|json]\n"
        "       dovetail versions show VIEW VERSION\n"
        "       dovetail versions switch VIEW VERSION [--format table|json]\n"
        "\n"
        "list    the versions, newest first; of retired ones those whose definition is kept, "
        "which\n"
        "        are as many as runs are (batch.retained_runs)\n"
        "show    the definition that a version has, as JSON\n"
        "switch  goes back to the definition of an earlier version, or gives up the one that is\n"
        "        being built: it is registered as a new version, built beside the one that is\n"
        "        served, and replaces it from one instant to the next when a batch run has\n"
        "        covered it. The definition's file stays as it is, and the next `dovetail init`\n"
        "        registers what that says.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
