/* GET /metrics: Prometheus's text format. Counters of this process, and what the database says of
 * the layers; without PostgreSQL the former alone, and dovetail_postgres_up 0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

/* Columns: topic, partition, then those of `families`, in order. Texts that are numbers already. */
static const char partitions_sql[] =
    "SELECT p.topic, p.partition, a.base_offset, a.cutoff, a.position, a.speed_position,"
    " extract(epoch FROM a.watermark), greatest(0, extract(epoch FROM now() - a.as_of)),"
    " p.consumed, p.counted, p.filtered, p.duplicate, p.dead_lettered,"
    " (SELECT count(*) FROM dovetail_internal.halted h"
    "  WHERE h.topic = p.topic AND h.partition = p.partition AND h.layer = 'speed'),"
    " (SELECT count(*) FROM dovetail_internal.halted h"
    "  WHERE h.topic = p.topic AND h.partition = p.partition AND h.layer = 'batch'),"
    " (SELECT coalesce(sum(g.to_offset - g.from_offset), 0) FROM dovetail_internal.gap g"
    "  WHERE g.topic = p.topic AND g.partition = p.partition)"
    " FROM dovetail_internal.position p"
    " JOIN dovetail_internal.progress a USING (topic, partition)"
    " ORDER BY p.topic, p.partition";

/* One row: a column for each of `run_lines`. The last run that was published, now or before. */
static const char runs_sql[] =
    "SELECT c.run, a.failed, a.held, a.mismatched, a.full_at,"
    " r.load_ms / 1000, r.prepare_ms / 1000, r.process_ms / 1000, r.audit_ms / 1000,"
    " r.store_ms / 1000, r.records, r.rows_changed, r.audited, r.mismatched,"
    " r.spilled_bytes, r.spilled_runs, r.peak_bytes,"
    " extract(epoch FROM r.finished_at)"
    " FROM dovetail_internal.current_run c"
    " CROSS JOIN (SELECT count(*) FILTER (WHERE state = 'failed') AS failed,"
    "  count(*) FILTER (WHERE state = 'held') AS held,"
    "  coalesce(sum(mismatched), 0) AS mismatched,"
    "  extract(epoch FROM max(finished_at) FILTER (WHERE kind = 'full'"
    "   AND state IN ('published', 'dropped'))) AS full_at FROM dovetail_internal.run) a"
    " LEFT JOIN LATERAL (SELECT * FROM dovetail_internal.run"
    "  WHERE state IN ('published', 'dropped') AND kind IS NOT NULL"
    "  ORDER BY run DESC LIMIT 1) r ON true";

/* Topics that records were imported for. */
static const char imports_sql[] =
    "SELECT i.topic, max(i.end_offset), coalesce(max(c.next_offset), 0), count(*)"
    " FROM dovetail_internal.import i LEFT JOIN dovetail_internal.run_cutoff c"
    "  ON c.run = (SELECT run FROM dovetail_internal.current_run)"
    "  AND c.topic = i.topic AND c.partition = -1"
    " GROUP BY i.topic ORDER BY i.topic";

static const struct {
    const char *name;
    const char *help;
} import_lines[] = {
    {"dovetail_imported_records", "Records from imported files that the archive has."},
    {"dovetail_imported_answered_records", "Of these the ones that answers have."},
    {"dovetail_imported_files", "Files that were imported."},
};

static const struct {
    const char *name;
    const char *type;
    const char *help;
    const char *stage; /* a label */
} run_lines[] = {
    {"dovetail_current_run", "gauge", "The batch run that is served.", NULL},
    {"dovetail_failed_runs", "gauge", "Batch runs that failed, of those listed.", NULL},
    {"dovetail_held_runs", "gauge", "Batch runs that were held because something differed.", NULL},
    {"dovetail_mismatched_groups_total", "counter",
     "Groups in which runs differed from what the rows or the speed layer said.", NULL},
    {"dovetail_full_run_timestamp_seconds", "gauge",
     "When everything was last recomputed from the archive.", NULL},
    {"dovetail_run_stage_seconds", "gauge", "What the last run cost.", "load"},
    {"dovetail_run_stage_seconds", NULL, NULL, "prepare"},
    {"dovetail_run_stage_seconds", NULL, NULL, "process"},
    {"dovetail_run_stage_seconds", NULL, NULL, "audit"},
    {"dovetail_run_stage_seconds", NULL, NULL, "store"},
    {"dovetail_run_records", "gauge", "Records that the last run folded.", NULL},
    {"dovetail_run_rows_changed", "gauge", "Rows that the last run closed and wrote.", NULL},
    {"dovetail_run_compared_groups", "gauge", "Groups that the last run compared.", NULL},
    {"dovetail_run_mismatched_groups", "gauge", "Groups that differed in the last run.", NULL},
    {"dovetail_run_spilled_bytes", "gauge", "What the last run wrote to batch.spill.", NULL},
    {"dovetail_run_spilled_runs", "gauge", "In how many sorted runs.", NULL},
    {"dovetail_run_peak_bytes", "gauge", "The largest resident size of the last run.", NULL},
    {"dovetail_run_timestamp_seconds", "gauge", "When the last run was published.", NULL},
};

static const struct {
    const char *name;
    const char *type;
    const char *help;
    const char *label; /* NULL, or one more label: see write_family */
} families[] = {
    {"dovetail_base_offset", "gauge", "Where the history of a partition begins.", NULL},
    {"dovetail_cutoff_offset", "gauge", "C: the batch rows have every record below.", NULL},
    {"dovetail_position_offset", "gauge", "P: answers have every record below.", NULL},
    {"dovetail_speed_offset", "gauge", "The speed rows have every record below.", NULL},
    {"dovetail_watermark_timestamp_seconds", "gauge", "Greatest event time seen.", NULL},
    {"dovetail_freshness_seconds", "gauge",
     "Answers have every record that was in the log this long ago.", NULL},
    {"dovetail_records_total", "counter", "The ledger of the speed layer.", "consumed"},
    {"dovetail_records_total", NULL, NULL, "counted"},
    {"dovetail_records_total", NULL, NULL, "filtered"},
    {"dovetail_records_total", NULL, NULL, "duplicate"},
    {"dovetail_records_total", NULL, NULL, "dead_lettered"},
    {"dovetail_halted", "gauge", "1 where a layer cannot go on with a partition.", "speed"},
    {"dovetail_halted", NULL, NULL, "batch"},
    {"dovetail_lost_offsets", "gauge", "Offsets that an operator gave up.", NULL},
};

enum { LAYERS_COLUMN = 13 }; /* labels from here on are of layers, before of outcomes */

/* A topic's name has nothing to escape (Kafka allows [a-zA-Z0-9._-]); anything else is left out. */
static bool is_plain(const char *topic)
{
    return topic[strcspn(topic, "\"\\\n")] == '\0';
}

static void write_family(const PGresult *result, size_t family, FILE *out)
{
    if (families[family].type != NULL)
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", families[family].name, families[family].help,
                families[family].name, families[family].type);
    for (int row = 0; row < PQntuples(result); row++) {
        int column = (int)family + 2;
        const char *label = families[family].label;
        if (PQgetisnull(result, row, column) || !is_plain(PQgetvalue(result, row, 0)))
            continue;
        fprintf(out, "%s{topic=\"%s\",partition=\"%s\"%s%s%s} %s\n", families[family].name,
                PQgetvalue(result, row, 0), PQgetvalue(result, row, 1),
                label == NULL            ? ""
                : column < LAYERS_COLUMN ? ",outcome=\""
                                         : ",layer=\"",
                label != NULL ? label : "", label != NULL ? "\"" : "",
                PQgetvalue(result, row, column));
    }
}

static void write_runs(const PGresult *result, FILE *out)
{
    for (size_t i = 0; i < sizeof run_lines / sizeof run_lines[0]; i++) {
        const char *stage = run_lines[i].stage;
        if (run_lines[i].type != NULL)
            fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", run_lines[i].name, run_lines[i].help,
                    run_lines[i].name, run_lines[i].type);
        if (!PQgetisnull(result, 0, (int)i))
            fprintf(out, "%s%s%s%s %s\n", run_lines[i].name, stage != NULL ? "{stage=\"" : "",
                    stage != NULL ? stage : "", stage != NULL ? "\"}" : "",
                    PQgetvalue(result, 0, (int)i));
    }
}

static void write_imports(const PGresult *result, FILE *out)
{
    for (size_t i = 0; i < sizeof import_lines / sizeof import_lines[0]; i++) {
        fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", import_lines[i].name, import_lines[i].help,
                import_lines[i].name);
        for (int row = 0; row < PQntuples(result); row++)
            if (is_plain(PQgetvalue(result, row, 0)))
                fprintf(out, "%s{topic=\"%s\"} %s\n", import_lines[i].name,
                        PQgetvalue(result, row, 0), PQgetvalue(result, row, (int)i + 1));
    }
}

/* Names are of [a-z0-9_]. */
static void write_refusals(struct server *server, FILE *out)
{
    struct http_response ignored = {0};
    struct postgres *postgres;
    struct catalogue *catalogue;
    if (!server_take_catalogue(server, &postgres, &catalogue, &ignored)) {
        http_response_clear(&ignored);
        return;
    }
    pool_give_back(server->pool, postgres);
    const struct catalog *catalog = catalogue->catalog;
    fputs("# HELP dovetail_refused_definition 1 for a registered definition that this program does"
          " not accept; a source's own has no view.\n# TYPE dovetail_refused_definition gauge\n",
          out);
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        const struct catalog_refusal *refusal = &catalog->refusals[i];
        fprintf(out, "dovetail_refused_definition{source=\"%s\",view=\"%s\",version=\"%d\"} 1\n",
                refusal->source, refusal->view != NULL ? refusal->view : "", refusal->version);
    }
    catalogue_release(server->catalogues, catalogue);
}

static void write_layers(struct server *server, FILE *out)
{
    struct error error;
    PGresult *partitions = NULL;
    PGresult *runs = NULL;
    PGresult *imports = NULL;
    bool up = server_query_status(server, partitions_sql, &partitions, &error) == STATUS_OK &&
              server_query_status(server, runs_sql, &runs, &error) == STATUS_OK &&
              server_query_status(server, imports_sql, &imports, &error) == STATUS_OK;
    fprintf(out,
            "# HELP dovetail_postgres_up Whether PostgreSQL answers.\n"
            "# TYPE dovetail_postgres_up gauge\ndovetail_postgres_up %d\n",
            up);
    if (up) {
        write_runs(runs, out);
        for (size_t family = 0; family < sizeof families / sizeof families[0]; family++)
            write_family(partitions, family, out);
        write_imports(imports, out);
        write_refusals(server, out);
    }
    PQclear(imports);
    PQclear(partitions);
    PQclear(runs);
}

static void write_requests(struct server *server, FILE *out)
{
    size_t count;
    const struct route *routes = server_routes(&count);
    const char **names = calloc(count + 1, sizeof *names);
    if (names == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        names[i] = routes[i].path;
    names[count] = "other";
    metrics_write(server->metrics, names, out);
    free(names);
}

static void write_process(struct server *server, FILE *out)
{
    struct cache_counts counts;
    cache_read_counts(server->cache, &counts);
    const struct {
        const char *name;
        const char *type;
        const char *help;
        uint64_t value;
    } lines[] = {
        {"dovetail_cache_hits_total", "counter", "Answers that were kept.", counts.hits},
        {"dovetail_cache_misses_total", "counter",
         "Answers that might have been kept and were computed.", counts.misses},
        {"dovetail_cache_evictions_total", "counter", "Kept answers that made room.",
         counts.evictions},
        {"dovetail_cache_held_total", "counter",
         "Questions to PostgreSQL whether anything had moved, when nothing had.", counts.held},
        {"dovetail_cache_moved_total", "counter", "The same, when something had.", counts.moved},
        {"dovetail_cache_answers", "gauge", "Answers that are kept.", counts.answers},
        {"dovetail_cache_bytes", "gauge", "Memory of these.", counts.bytes},
        {"dovetail_cache_limit_bytes", "gauge", "Their bound.", counts.limit_bytes},
        {"dovetail_live_streams", "gauge", "Live streams that are open.", live_count(server->live)},
        {"dovetail_memory_bytes", "gauge", "What queries and live streams hold of their bound.",
         atomic_load(&server->budget.used_bytes)},
        {"dovetail_memory_limit_bytes", "gauge", "That bound, serving.memory.",
         server->budget.limit_bytes},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", lines[i].name, lines[i].help,
                lines[i].name, lines[i].type, lines[i].name, lines[i].value);
}

enum http_outcome handle_metrics(struct server *server, struct http_request *request,
                                 struct http_response *response)
{
    (void)request;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out != NULL) {
        write_requests(server, out);
        write_process(server, out);
        ingest_write_metrics(server->ingest, out);
        udp_write_metrics(server->udp, out);
        write_layers(server, out);
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    respond_body(response, "text/plain; version=0.0.4; charset=utf-8", text, length);
    return HTTP_RESPOND;
}
