/* dovetail runs: the batch runs, newest first, and going back to one.
 *
 * Rolling back is one update of current_run. It is exact: batch rows are kept by the range of runs
 * they belong to, and the slices since the oldest retained run are all there
 * (batch_layer/retention.h). What the run that is left behind wrote is not built upon: the next run
 * recomputes everything, unless that run is served again by then (batch_layer/reuse.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "core/catalog/lock_wait.h"

/* For both: state and times of a run. */
#define RUN_COLUMNS                                                                                \
    "SELECT r.run, CASE WHEN r.run = c.run THEN 'current' ELSE r.state END AS state, r.kind,"      \
    " r.reason, to_char(r.started_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS started_at,"            \
    " round(extract(epoch FROM r.finished_at - r.started_at) * 1000)::bigint AS ms, r.records,"    \
    " r.rows_changed, round(r.load_ms)::bigint AS load_ms,"                                        \
    " round(r.prepare_ms)::bigint AS prepare_ms, round(r.process_ms)::bigint AS process_ms,"       \
    " round(r.audit_ms)::bigint AS audit_ms, round(r.store_ms)::bigint AS store_ms,"               \
    " r.spilled_bytes, r.peak_bytes, "
#define RUN_TABLES                                                                                 \
    " FROM dovetail_internal.run AS r CROSS JOIN dovetail_internal.current_run AS c "              \
    "ORDER BY r.run DESC"

static const char table_sql[] =
    RUN_COLUMNS " CASE WHEN r.mismatched > 0 THEN r.mismatched || ' of ' || r.audited || ' differ'"
                "      WHEN r.audited > 0 THEN r.audited || ' equal' END,"
                " (SELECT string_agg(k.topic || ' ' || k.offsets, '; ' ORDER BY k.topic) FROM ("
                "   SELECT topic, string_agg(CASE partition WHEN -1 THEN 'imported ' ELSE '' END"
                "    || next_offset, ',' ORDER BY partition) AS offsets"
                "   FROM dovetail_internal.run_cutoff WHERE run = r.run GROUP BY topic) AS k),"
                " COALESCE(r.message, 'recomputed: ' || r.why)" RUN_TABLES;

static const char json_sql[] =
    RUN_COLUMNS " r.spilled_runs, r.audited, r.mismatched, r.mismatches,"
                " (SELECT json_object_agg(k.topic, k.offsets) FROM ("
                "   SELECT topic, json_agg(next_offset ORDER BY partition) AS offsets"
                "   FROM dovetail_internal.run_cutoff WHERE run = r.run AND partition >= 0"
                "   GROUP BY topic) AS k) AS cutoffs,"
                " (SELECT json_object_agg(topic, next_offset) FROM dovetail_internal.run_cutoff"
                "   WHERE run = r.run AND partition = -1) AS imported,"
                " r.why, r.message" RUN_TABLES;

static bool print_table(const PGresult *result)
{
    static const char *const columns[] = {
        ">run",     "state",    "kind",        "reason",      "started",   ">ms",       ">records",
        ">changed", ">load ms", ">prepare ms", ">process ms", ">audit ms", ">store ms", ">spilled",
        ">peak",    "compared", "below",       "message",     NULL};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++)
            table_add(table,
                      PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column));
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

static int list(const struct session *session, bool as_json)
{
    struct error error = {0};
    PGresult *result = NULL;
    if (postgres_query(session->postgres, as_json ? json_sql : table_sql, 0, NULL, &result,
                       &error) != STATUS_OK) {
        PQclear(result);
        return command_fail(&error);
    }
    bool good = as_json ? command_print_json(result) : print_table(result);
    PQclear(result);
    if (!good) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

/* --- rollback --- */

/* The run must be there with its rows: retention locks current_run before it drops one. */
static enum status check_run(struct postgres *postgres, const char *run, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres, "SELECT state FROM dovetail_internal.run WHERE run = $1", 1, &run,
                       &result, error);
    if (status == STATUS_OK && PQntuples(result) == 0)
        status = error_set(error, STATUS_REJECT, "there is no run %s", run);
    else if (status == STATUS_OK && strcmp(PQgetvalue(result, 0, 0), "published") != 0)
        status = error_set(error, STATUS_REJECT,
                           "run %s is %s: only a published run can be served again", run,
                           PQgetvalue(result, 0, 0));
    PQclear(result);
    return status;
}

/* Every view must be readable under the run, or nothing changes. */
static enum status check_views(struct postgres *postgres, const char *run, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT string_agg(view, ', ' ORDER BY view)"
        " FROM dovetail_internal.view_version"
        " WHERE state = 'current' AND NOT dovetail_internal.version_reached(version)",
        0, NULL, &result, error);
    if (status == STATUS_OK && !PQgetisnull(result, 0, 0))
        status = error_set(error, STATUS_REJECT,
                           "run %s is older than the current version of: %s; it has no rows of it",
                           run, PQgetvalue(result, 0, 0));
    PQclear(result);
    return status;
}

static enum status switch_once(struct postgres *postgres, const char *run, char *previous,
                               size_t previous_size, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status == STATUS_OK)
        status =
            postgres_query(postgres, "SELECT run FROM dovetail_internal.current_run FOR UPDATE", 0,
                           NULL, &result, error);
    if (status == STATUS_OK)
        snprintf(previous, previous_size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    result = NULL;
    if (status == STATUS_OK)
        status = check_run(postgres, run, error);
    if (status == STATUS_OK)
        status = postgres_query(postgres, "UPDATE dovetail_internal.current_run SET run = $1", 1,
                                &run, &result, error);
    PQclear(result);
    if (status == STATUS_OK)
        status = check_views(postgres, run, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_run; COMMIT", error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

static enum status switch_run(struct postgres *postgres, const char *run, char *previous,
                              size_t previous_size, struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do
        status = switch_once(postgres, run, previous, previous_size, error);
    while (lock_wait_again(&wait, postgres, status, error));
    return status;
}

/* What the speed layer had counted before it was given up is in its rows still. */
static enum status tell_gaps(struct postgres *postgres, const char *run, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT g.topic, g.partition, g.from_offset, LEAST(g.speed_offset, g.to_offset)"
        " FROM dovetail_internal.gap AS g"
        " LEFT JOIN dovetail_internal.run_cutoff AS c"
        "   ON c.run = $1 AND c.topic = g.topic AND c.partition = g.partition"
        " WHERE LEAST(g.speed_offset, g.to_offset) > g.from_offset"
        "   AND COALESCE(c.next_offset, 0) <= g.from_offset"
        " ORDER BY g.topic, g.partition, g.from_offset",
        1, &run, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++)
        command_complain("topic %s partition %s: answers have offsets %s to %s again, which were"
                         " given up (dovetail resume) after the speed layer had counted them;"
                         " the next batch run takes them out, and until then dovetail verify finds"
                         " a difference",
                         PQgetvalue(result, row, 0), PQgetvalue(result, row, 1),
                         PQgetvalue(result, row, 2), PQgetvalue(result, row, 3));
    PQclear(result);
    return status;
}

static int rollback(const struct session *session, const char *run, bool as_json)
{
    struct error error = {0};
    char previous[24];
    enum status status = switch_run(session->postgres, run, previous, sizeof previous, &error);
    if (status != STATUS_OK)
        return command_fail(&error);
    if (as_json)
        printf("{\"run\": %s, \"previous\": %s}\n", run, previous);
    else
        printf("run %s is served now, instead of run %s\n", run, previous);
    status = tell_gaps(session->postgres, run, &error);
    return status == STATUS_OK ? command_finish_output() : command_fail(&error);
}

/* --- the command --- */

struct arguments {
    bool rolls_back;
    bool as_json;
    const char *run;
};

static bool take_positional(struct arguments *out, const char *value, int position)
{
    int64_t number;
    if (position == 0 && (strcmp(value, "list") == 0 || strcmp(value, "rollback") == 0)) {
        out->rolls_back = value[0] == 'r';
        return true;
    }
    if (position == 1 && out->rolls_back) {
        out->run = value;
        return option_int64("RUN", value, 0, INT64_MAX, &number);
    }
    command_complain("%s: unexpected (see --help)", value);
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    static const struct option_spec specs[] = {{"--format", true}, {NULL, false}};
    struct option_reader reader = {.next = program->rest, .specs = specs};
    int positionals = 0;
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_POSITIONAL) {
            if (!take_positional(out, value, positionals++))
                return false;
            continue;
        }
        if (!option_format(value, &out->as_json))
            return false;
    }
    if (out->rolls_back && out->run == NULL)
        command_complain("runs rollback: wants the number of a run (see dovetail runs list)");
    return !out->rolls_back || out->run != NULL;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {0};
    struct session session = {0};
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK)
        code = arguments.rolls_back ? rollback(&session, arguments.run, arguments.as_json)
                                    : list(&session, arguments.as_json);
    session_close(&session);
    return code;
}

const struct command command_runs = {
    .name = "runs",
    .summary = "the batch runs",
    .help =
        "usage: dovetail runs [list] [--format table|json]\n"
        "       dovetail runs rollback RUN [--format table|json]\n"
        "\n"
        "list      the batch runs, newest first: whether a run recomputed everything or added to\n"
        "          the rows of the one before, what each stage cost, how many groups were "
        "compared\n"
        "          with what those rows and the speed layer say of the same records, and the\n"
        "          offsets below which it has every record. With json also which groups differ.\n"
        "rollback  serves an earlier published run again, from one instant to the next. Answers\n"
        "          stay exact: what came since that run is taken from the speed layer. The next\n"
        "          batch run goes on from the newest data, and recomputes everything. Offsets\n"
        "          that were given up since (dovetail resume), but had been counted by the speed\n"
        "          layer, are in the answers again until that run; each is told.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
