/* dovetail status: where everything stands.
 *
 * Four statements in one snapshot, then the ends of the logs from Kafka. Where Kafka does not
 * answer, ends and lags are unknown and everything else is told all the same. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "core/kafka/kafka.h"

enum { KAFKA_TIMEOUT_MS = 3000 };

/* Cut-off, position and ledger of every partition. */
static const char partitions_sql[] =
    "SELECT s.source, p.topic, p.partition, p.base_offset, a.cutoff, a.position,"
    "       a.speed_position, p.owner, "
    "       to_char(a.watermark, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS watermark,"
    "       p.consumed, p.counted, p.filtered, p.duplicate, p.dead_lettered,"
    "       p.consumed = p.counted + p.filtered + p.duplicate + p.dead_lettered"
    "         AND p.consumed <= p.next_offset - p.base_offset AS balanced,"
    "       p.owner_pid IN (SELECT pid FROM pg_catalog.pg_stat_activity) AS alive,"
    "       (SELECT COALESCE(sum(to_offset - from_offset), 0)::bigint"
    "        FROM dovetail_internal.gap AS g"
    "        WHERE g.topic = p.topic AND g.partition = p.partition) AS lost,"
    "       (SELECT COALESCE(json_agg(json_build_object('from', g.from_offset, 'to', g.to_offset,"
    "          'reason', g.reason, 'accepted_by', g.accepted_by,"
    "          'accepted_at', to_char(g.accepted_at AT TIME ZONE 'UTC',"
    "                                 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
    "          ORDER BY g.from_offset), '[]') FROM dovetail_internal.gap AS g"
    "        WHERE g.topic = p.topic AND g.partition = p.partition) AS gaps,"
    "       (SELECT COALESCE(json_agg(json_build_object('layer', h.layer, 'message', h.message,"
    "          'since', to_char(h.since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
    "          ORDER BY h.layer DESC), '[]') FROM dovetail_internal.halted AS h"
    "        WHERE h.topic = p.topic AND h.partition = p.partition) AS halts "
    "FROM dovetail_internal.position AS p "
    "JOIN dovetail_internal.source AS s USING (topic) "
    "JOIN dovetail_internal.progress AS a USING (topic, partition) "
    "ORDER BY s.source, p.partition";

enum partition_column {
    PARTITION_SOURCE,
    PARTITION_TOPIC,
    PARTITION_NUMBER,
    PARTITION_BASE,
    PARTITION_CUTOFF,
    PARTITION_POSITION,
    PARTITION_SPEED,
    PARTITION_OWNER,
    PARTITION_WATERMARK,
    PARTITION_CONSUMED,
    PARTITION_COUNTED,
    PARTITION_FILTERED,
    PARTITION_DUPLICATE,
    PARTITION_DEAD,
    PARTITION_BALANCED,
    PARTITION_ALIVE,
    PARTITION_LOST,
    PARTITION_GAPS,
    PARTITION_HALTS,
};

static const char views_sql[] =
    "SELECT v.view, v.version, v.state, v.source,"
    "       dovetail_internal.version_reached(v.version) AS reached, r.run,"
    "       dovetail_internal.freshness_ms(s.topic),"
    "       (SELECT COALESCE(sum(l.rejected), 0) FROM dovetail_internal.view_ledger AS l"
    "        WHERE l.version = v.version) AS rejected "
    "FROM dovetail_internal.view_version AS v "
    "JOIN dovetail_internal.source AS s USING (source) "
    "CROSS JOIN dovetail_internal.current_run AS r "
    "WHERE v.state <> 'retired' ORDER BY v.view, v.version";

enum view_column {
    VIEW_NAME,
    VIEW_VERSION,
    VIEW_STATE,
    VIEW_SOURCE,
    VIEW_REACHED,
    VIEW_RUN,
    VIEW_FRESHNESS,
    VIEW_REJECTED,
};

/* Imported records: those of the served run, and all that are archived. */
static const char imports_sql[] =
    "SELECT s.source, s.topic, COALESCE(c.next_offset, 0), a.archived, a.files,"
    "       COALESCE(c.consumed, 0), COALESCE(c.counted, 0), COALESCE(c.filtered, 0),"
    "       COALESCE(c.duplicate, 0), COALESCE(c.dead_lettered, 0),"
    "       COALESCE(c.consumed = c.counted + c.filtered + c.duplicate + c.dead_lettered"
    "         AND c.consumed IN (0, c.next_offset), true) "
    "FROM dovetail_internal.source AS s "
    "JOIN (SELECT topic, max(end_offset) AS archived, count(*) AS files"
    "      FROM dovetail_internal.import GROUP BY topic) AS a USING (topic) "
    "CROSS JOIN dovetail_internal.current_run AS r "
    "LEFT JOIN dovetail_internal.run_cutoff AS c"
    "  ON c.run = r.run AND c.topic = s.topic AND c.partition = -1 "
    "ORDER BY s.source";

enum import_column {
    IMPORT_SOURCE,
    IMPORT_TOPIC,
    IMPORT_CUTOFF,
    IMPORT_ARCHIVED,
    IMPORT_FILES,
    IMPORT_CONSUMED,
    IMPORT_COUNTED,
    IMPORT_FILTERED,
    IMPORT_DUPLICATE,
    IMPORT_DEAD,
    IMPORT_BALANCED,
};

struct report {
    PGresult *partitions;
    PGresult *imports;
    PGresult *views;
    const struct catalog *catalog;
    int64_t *ends;                  /* of the partitions' logs; -1 = unknown */
    char problem[ERROR_TEXT_BYTES]; /* of Kafka, or empty */
};

/* --- reading --- */

static enum status read_database(struct postgres *postgres, struct report *report,
                                 struct error *error)
{
    enum status status =
        postgres_execute(postgres, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (status == STATUS_OK)
        status = postgres_query(postgres, partitions_sql, 0, NULL, &report->partitions, error);
    if (status == STATUS_OK)
        status = postgres_query(postgres, imports_sql, 0, NULL, &report->imports, error);
    if (status == STATUS_OK)
        status = postgres_query(postgres, views_sql, 0, NULL, &report->views, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    return status;
}

/* Stops at the first failure: the next partition would only wait as long. */
static enum status read_ends(const struct config *config, struct report *report)
{
    int count = PQntuples(report->partitions);
    struct error error = {0};
    struct kafka_consumer *consumer = NULL;
    report->ends = malloc(((size_t)count + 1) * sizeof *report->ends);
    if (report->ends == NULL)
        return STATUS_FATAL;
    for (int row = 0; row < count; row++)
        report->ends[row] = -1;
    enum status status = kafka_consumer_assign(config->kafka, NULL, 0, &consumer, &error);
    for (int row = 0; status == STATUS_OK && row < count; row++) {
        int64_t low;
        int64_t high;
        status = kafka_consumer_watermarks(
            consumer, PQgetvalue(report->partitions, row, PARTITION_TOPIC),
            (int32_t)postgres_int64(report->partitions, row, PARTITION_NUMBER), KAFKA_TIMEOUT_MS,
            &low, &high, &error);
        if (status == STATUS_OK)
            report->ends[row] = high;
    }
    kafka_consumer_close(consumer);
    if (status != STATUS_OK)
        snprintf(report->problem, sizeof report->problem, "%s", error.text);
    return STATUS_OK;
}

static int64_t lag_of(const struct report *report, int row)
{
    int64_t position = postgres_int64(report->partitions, row, PARTITION_POSITION);
    int64_t end = report->ends[row];
    return end < 0 ? -1 : end > position ? end - position : 0;
}

/* --- as a table --- */

static const char *cell(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

static bool print_partitions(const struct report *report)
{
    static const char *const columns[] = {
        "source",    ">partition", ">base", ">C",        ">P",        ">speed",
        ">end",      ">lag",       "owner", "watermark", ">consumed", ">counted",
        ">filtered", ">duplicate", ">dead", ">lost",     "balanced",  NULL};
    static const int ledger[] = {PARTITION_CONSUMED,  PARTITION_COUNTED, PARTITION_FILTERED,
                                 PARTITION_DUPLICATE, PARTITION_DEAD,    PARTITION_LOST};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    const PGresult *rows = report->partitions;
    for (int row = 0; row < PQntuples(rows); row++) {
        table_add(table, cell(rows, row, PARTITION_SOURCE));
        table_add(table, cell(rows, row, PARTITION_NUMBER));
        table_add(table, cell(rows, row, PARTITION_BASE));
        table_add(table, cell(rows, row, PARTITION_CUTOFF));
        table_add(table, cell(rows, row, PARTITION_POSITION));
        table_add(table, cell(rows, row, PARTITION_SPEED));
        if (report->ends[row] < 0) {
            table_add(table, NULL);
            table_add(table, NULL);
        } else {
            table_addf(table, "%" PRId64, report->ends[row]);
            table_addf(table, "%" PRId64, lag_of(report, row));
        }
        const char *owner = cell(rows, row, PARTITION_OWNER);
        if (owner == NULL)
            table_add(table, "nobody");
        else
            table_addf(table, "%s%s", owner,
                       postgres_bool(rows, row, PARTITION_ALIVE) ? "" : " (gone)");
        table_add(table, cell(rows, row, PARTITION_WATERMARK));
        for (size_t i = 0; i < sizeof ledger / sizeof ledger[0]; i++)
            table_add(table, cell(rows, row, ledger[i]));
        table_add(table, postgres_bool(rows, row, PARTITION_BALANCED) ? "✓" : "✗");
    }
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

static bool print_imports(const struct report *report)
{
    static const char *const columns[] = {"imported into", ">files",   ">records",  ">in the run",
                                          ">consumed",     ">counted", ">filtered", ">duplicate",
                                          ">dead",         "balanced", NULL};
    static const int numbers[] = {IMPORT_FILES,     IMPORT_ARCHIVED, IMPORT_CUTOFF,
                                  IMPORT_CONSUMED,  IMPORT_COUNTED,  IMPORT_FILTERED,
                                  IMPORT_DUPLICATE, IMPORT_DEAD};
    const PGresult *rows = report->imports;
    if (PQntuples(rows) == 0)
        return true;
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    for (int row = 0; row < PQntuples(rows); row++) {
        table_add(table, cell(rows, row, IMPORT_SOURCE));
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
            table_add(table, cell(rows, row, numbers[i]));
        table_add(table, postgres_bool(rows, row, IMPORT_BALANCED) ? "✓" : "✗");
    }
    putchar('\n');
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

static bool is_refused(const struct catalog *catalog, const PGresult *rows, int row)
{
    for (size_t i = 0; i < catalog->refusal_count; i++)
        if (catalog->refusals[i].view != NULL &&
            catalog->refusals[i].version == postgres_int64(rows, row, VIEW_VERSION))
            return true;
    return false;
}

static bool print_views(const struct report *report)
{
    static const char *const columns[] = {"view", ">version",   "state",     "source",
                                          ">run", ">freshness", ">rejected", NULL};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    const PGresult *rows = report->views;
    for (int row = 0; row < PQntuples(rows); row++) {
        bool current = strcmp(PQgetvalue(rows, row, VIEW_STATE), "current") == 0;
        bool readable = current && postgres_bool(rows, row, VIEW_REACHED);
        table_add(table, cell(rows, row, VIEW_NAME));
        table_add(table, cell(rows, row, VIEW_VERSION));
        table_add(table, is_refused(report->catalog, rows, row) ? "refused"
                         : readable                             ? "current"
                         : current                              ? "not readable"
                                                                : "building");
        table_add(table, cell(rows, row, VIEW_SOURCE));
        table_add(table, readable ? cell(rows, row, VIEW_RUN) : NULL);
        if (readable && !PQgetisnull(rows, row, VIEW_FRESHNESS))
            table_addf(table, "%" PRId64 " ms", postgres_int64(rows, row, VIEW_FRESHNESS));
        else
            table_add(table, NULL);
        table_add(table, cell(rows, row, VIEW_REJECTED));
    }
    bool good = table_print(table, stdout);
    table_destroy(table);
    return good;
}

/* Below the table, because they are sentences: what stands still and why, and what was given up. */
static void print_troubles(const struct report *report)
{
    for (size_t i = 0; i < report->catalog->refusal_count; i++) {
        char text[ERROR_TEXT_BYTES];
        catalog_refusal_describe(&report->catalog->refusals[i], text, sizeof text);
        printf("refused: %s; neither layer goes on with the topic\n", text);
    }
    const PGresult *rows = report->partitions;
    for (int row = 0; row < PQntuples(rows); row++) {
        json_t *halts = json_loads(PQgetvalue(rows, row, PARTITION_HALTS), 0, NULL);
        json_t *gaps = json_loads(PQgetvalue(rows, row, PARTITION_GAPS), 0, NULL);
        size_t index;
        json_t *item;
        json_array_foreach (halts, index, item) {
            printf("halted: the %s layer since %s: %s\n",
                   json_string_value(json_object_get(item, "layer")),
                   json_string_value(json_object_get(item, "since")),
                   json_string_value(json_object_get(item, "message")));
        }
        json_array_foreach (gaps, index, item) {
            printf("given up: %s[%s] offsets %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT
                   ", by %s at %s\n",
                   cell(rows, row, PARTITION_TOPIC), cell(rows, row, PARTITION_NUMBER),
                   json_integer_value(json_object_get(item, "from")),
                   json_integer_value(json_object_get(item, "to")),
                   json_string_value(json_object_get(item, "accepted_by")),
                   json_string_value(json_object_get(item, "accepted_at")));
        }
        json_decref(halts);
        json_decref(gaps);
    }
}

static int print_tables(const struct report *report)
{
    bool good = print_partitions(report);
    print_troubles(report);
    good = good && print_imports(report);
    putchar('\n');
    if (!good || !print_views(report)) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

/* --- as JSON --- */

static json_t *json_cell(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? json_null()
                                            : json_string(PQgetvalue(result, row, column));
}

static json_t *json_number(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? json_null()
                                            : json_integer(postgres_int64(result, row, column));
}

static json_t *partition_json(const struct report *report, int row)
{
    const PGresult *rows = report->partitions;
    bool known = report->ends[row] >= 0;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o,"
        " s:{s:o, s:o, s:o, s:o, s:o, s:b}}",
        "source", json_cell(rows, row, PARTITION_SOURCE), "topic",
        json_cell(rows, row, PARTITION_TOPIC), "partition",
        json_number(rows, row, PARTITION_NUMBER), "base", json_number(rows, row, PARTITION_BASE),
        "cutoff", json_number(rows, row, PARTITION_CUTOFF), "position",
        json_number(rows, row, PARTITION_POSITION), "speed_position",
        json_number(rows, row, PARTITION_SPEED), "end",
        known ? json_integer(report->ends[row]) : json_null(), "lag",
        known ? json_integer(lag_of(report, row)) : json_null(), "owner",
        json_cell(rows, row, PARTITION_OWNER), "owner_alive",
        postgres_bool(rows, row, PARTITION_ALIVE), "watermark",
        json_cell(rows, row, PARTITION_WATERMARK), "lost", json_number(rows, row, PARTITION_LOST),
        "gaps", json_loads(PQgetvalue(rows, row, PARTITION_GAPS), 0, NULL), "halted",
        json_loads(PQgetvalue(rows, row, PARTITION_HALTS), 0, NULL), "ledger", "consumed",
        json_number(rows, row, PARTITION_CONSUMED), "counted",
        json_number(rows, row, PARTITION_COUNTED), "filtered",
        json_number(rows, row, PARTITION_FILTERED), "duplicate",
        json_number(rows, row, PARTITION_DUPLICATE), "dead_lettered",
        json_number(rows, row, PARTITION_DEAD), "balanced",
        postgres_bool(rows, row, PARTITION_BALANCED));
}

static json_t *import_json(const struct report *report, int row)
{
    const PGresult *rows = report->imports;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:b}}", "source",
        json_cell(rows, row, IMPORT_SOURCE), "topic", json_cell(rows, row, IMPORT_TOPIC), "files",
        json_number(rows, row, IMPORT_FILES), "archived", json_number(rows, row, IMPORT_ARCHIVED),
        "cutoff", json_number(rows, row, IMPORT_CUTOFF), "ledger", "consumed",
        json_number(rows, row, IMPORT_CONSUMED), "counted", json_number(rows, row, IMPORT_COUNTED),
        "filtered", json_number(rows, row, IMPORT_FILTERED), "duplicate",
        json_number(rows, row, IMPORT_DUPLICATE), "dead_lettered",
        json_number(rows, row, IMPORT_DEAD), "balanced", postgres_bool(rows, row, IMPORT_BALANCED));
}

static json_t *view_json(const struct report *report, int row)
{
    const PGresult *rows = report->views;
    bool current = strcmp(PQgetvalue(rows, row, VIEW_STATE), "current") == 0;
    return json_pack(
        "{s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "view", json_cell(rows, row, VIEW_NAME),
        "version", json_number(rows, row, VIEW_VERSION), "state", json_cell(rows, row, VIEW_STATE),
        "readable", current && postgres_bool(rows, row, VIEW_REACHED), "source",
        json_cell(rows, row, VIEW_SOURCE), "run", json_number(rows, row, VIEW_RUN), "freshness_ms",
        json_number(rows, row, VIEW_FRESHNESS), "rejected", json_number(rows, row, VIEW_REJECTED));
}

static int print_json(const struct report *report)
{
    json_t *partitions = json_array();
    json_t *views = json_array();
    json_t *imports = json_array();
    for (int row = 0; row < PQntuples(report->partitions); row++)
        json_array_append_new(partitions, partition_json(report, row));
    for (int row = 0; row < PQntuples(report->imports); row++)
        json_array_append_new(imports, import_json(report, row));
    for (int row = 0; row < PQntuples(report->views); row++)
        json_array_append_new(views, view_json(report, row));
    char *refused = catalog_refusals_json(report->catalog);
    json_t *all =
        json_pack("{s:o, s:o, s:o, s:o}", "partitions", partitions, "imports", imports, "views",
                  views, "refused", refused != NULL ? json_loads(refused, 0, NULL) : NULL);
    free(refused);
    char *text = all != NULL ? json_dumps(all, JSON_INDENT(2)) : NULL;
    json_decref(all);
    if (text == NULL) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    puts(text);
    free(text);
    return command_finish_output();
}

/* --- the command --- */

static int report_status(const struct session *session, bool as_json)
{
    struct error error = {0};
    struct report report = {.catalog = session->catalog};
    int code = PROGRAM_FAILURE;
    enum status status = read_database(session->postgres, &report, &error);
    if (status == STATUS_OK && read_ends(session->config, &report) != STATUS_OK)
        status = error_no_memory(&error);
    if (status != STATUS_OK)
        code = command_fail(&error);
    else
        code = as_json ? print_json(&report) : print_tables(&report);
    if (report.problem[0] != '\0') {
        command_complain("%s", report.problem);
        code = PROGRAM_FAILURE;
    }
    PQclear(report.partitions);
    PQclear(report.imports);
    PQclear(report.views);
    free(report.ends);
    return code;
}

static int run(const struct program_arguments *arguments)
{
    static const struct option_spec specs[] = {{"--format", true}, {NULL, false}};
    struct option_reader reader = {.next = arguments->rest, .specs = specs};
    struct session session = {0};
    bool as_json = false;
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) == OPTION_FOUND) {
        if (!option_format(value, &as_json))
            return PROGRAM_USAGE;
    }
    if (result == OPTION_POSITIONAL)
        command_complain("%s: unexpected argument (see --help)", value);
    if (result != OPTION_END)
        return PROGRAM_USAGE;
    int code = session_open(&session, arguments);
    if (code == PROGRAM_OK)
        code = report_status(&session, as_json);
    session_close(&session);
    return code;
}

const struct command command_status = {
    .name = "status",
    .summary = "positions, lag and ledger of partitions; runs and freshness of views",
    .help =
        "usage: dovetail status [--format table|json]\n"
        "\n"
        "For each partition: where its history begins (base), the current run's cut-off (C), the\n"
        "offset that answers have every record below (P, as in receipts), how far the speed layer\n"
        "has come (speed; less than P where a run is ahead), the end of the log, how far P is\n"
        "behind it (lag), the owner, and the speed layer's ledger, with a ✓ where consumed =\n"
        "counted + filtered + duplicate + dead.\n"
        "lost: offsets that an operator gave up (dovetail resume). Below the table: partitions\n"
        "that a layer cannot go on with, and why; what was given up; and definitions that this\n"
        "release refuses: their topics stand still, and nobody can ask the views.\n"
        "For each source with imported records: how many files and records, how many of these the\n"
        "served run has, and their ledger in it.\n"
        "For each view: version, state, the run that is served, and how far back in time a\n"
        "record may lie that is not in the answer yet (freshness; empty while that is not known\n"
        "of every partition).\n"
        "Exits with 1 where Kafka did not answer, and then leaves end and lag out.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
