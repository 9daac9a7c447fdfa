/* GET /v1/status: how far the layers have come.
 *
 * PostgreSQL makes the document: one statement is one snapshot. The end of the log and the lag are
 * not in it, because serving does not talk to Kafka; `dovetail status` has them. Which definitions
 * this program refuses only the catalogue knows that it has loaded. */
#include <stdlib.h>
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

/* clang-format would take the macro within the text for a call, and move the lines out of sight. */
/* clang-format off */
#define TIME(column)                                                                               \
    "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

static const char status_sql[] =
    "WITH topics AS ("
    " SELECT topic, min(w.watermark) AS watermark,"
    "  dovetail_internal.freshness_ms(topic) AS freshness_ms,"
    "  json_agg(json_build_object('partition', partition, 'base', w.base_offset,"
    "   'cutoff', w.cutoff, 'position', w.position, 'speed_position', w.speed_position,"
    "   'slice_start', slice_start,"
    "   'watermark', " TIME("w.watermark") ", 'as_of', " TIME("w.as_of") ","
    "   'owner', owner, 'owner_alive', owner_pid IS NOT NULL AND EXISTS"
    "    (SELECT FROM pg_stat_activity a WHERE a.pid = owner_pid),"
    "   'ledger', json_build_object('consumed', consumed, 'counted', counted,"
    "    'filtered', filtered, 'duplicate', duplicate, 'dead_lettered', dead_lettered),"
    "   'gaps', (SELECT coalesce(json_agg(json_build_object('from', g.from_offset,"
    "     'to', g.to_offset, 'accepted_at', " TIME("g.accepted_at") ") ORDER BY g.from_offset),"
    "     '[]'::json) FROM dovetail_internal.gap g"
    "     WHERE g.topic = part.topic AND g.partition = part.partition),"
    "   'halted', (SELECT coalesce(json_agg(json_build_object('layer', h.layer,"
    "     'message', h.message, 'since', " TIME("h.since") ") ORDER BY h.layer DESC),"
    "     '[]'::json) FROM dovetail_internal.halted h"
    "     WHERE h.topic = part.topic AND h.partition = part.partition))"
    "   ORDER BY partition) AS partitions"
    " FROM dovetail_internal.position part"
    " JOIN dovetail_internal.progress w USING (topic, partition)"
    " GROUP BY topic"
    "), versions AS ("
    " SELECT v.view, json_agg(json_build_object('version', v.version, 'state', v.state,"
    "   'readable', v.state = 'current' AND dovetail_internal.version_reached(v.version),"
    "   'registered_at', " TIME("v.registered_at") ","
    "   'watermark', " TIME("t.watermark") ", 'freshness_ms', t.freshness_ms,"
    "   'ledger', (SELECT json_build_object('counted', coalesce(sum(l.counted), 0),"
    "     'filtered', coalesce(sum(l.filtered), 0), 'rejected', coalesce(sum(l.rejected), 0))"
    "     FROM dovetail_internal.view_ledger l WHERE l.version = v.version))"
    "   ORDER BY v.version) AS versions"
    " FROM dovetail_internal.view_version v JOIN dovetail_internal.source s USING (source)"
    " LEFT JOIN topics t USING (topic)"
    " WHERE v.state <> 'retired' GROUP BY v.view"
    ")"
    " SELECT json_build_object("
    "  'now', " TIME("now()") ","
    "  'run', (SELECT run FROM dovetail_internal.current_run),"
    "  'sources', (SELECT coalesce(json_agg(json_build_object('source', s.source,"
    "    'topic', s.topic, 'watermark', " TIME("t.watermark") ", 'freshness_ms', t.freshness_ms,"
    "    'partitions', coalesce(t.partitions, '[]'::json), 'imported', (SELECT json_build_object("
    "      'archived', max(i.end_offset), 'cutoff', coalesce(max(c.next_offset), 0),"
    "      'ledger', json_build_object('consumed', coalesce(max(c.consumed), 0),"
    "      'counted', coalesce(max(c.counted), 0), 'filtered', coalesce(max(c.filtered), 0),"
    "      'duplicate', coalesce(max(c.duplicate), 0),"
    "      'dead_lettered', coalesce(max(c.dead_lettered), 0)))"
    "     FROM dovetail_internal.import i LEFT JOIN dovetail_internal.run_cutoff c"
    "      ON c.run = (SELECT run FROM dovetail_internal.current_run)"
    "      AND c.topic = i.topic AND c.partition = -1"
    "     WHERE i.topic = s.topic HAVING count(*) > 0)) ORDER BY s.source), '[]'::json)"
    "    FROM dovetail_internal.source s LEFT JOIN topics t USING (topic)),"
    "  'views', (SELECT coalesce(json_agg(json_build_object('view', view,"
    "    'versions', versions) ORDER BY view), '[]'::json) FROM versions),"
    "  'refused', $1::json,"
    "  'runs', (SELECT coalesce(json_agg(json_build_object('run', r.run, 'state', r.state,"
    "    'reason', r.reason, 'started_at', " TIME("r.started_at") ","
    "    'finished_at', " TIME("r.finished_at") ", 'records', r.records,"
    "    'rows_changed', r.rows_changed, 'load_ms', r.load_ms, 'prepare_ms', r.prepare_ms,"
    "    'process_ms', r.process_ms, 'audit_ms', r.audit_ms, 'store_ms', r.store_ms,"
    "    'spilled_bytes', r.spilled_bytes, 'spilled_runs', r.spilled_runs,"
    "    'peak_bytes', r.peak_bytes,"
    "    'kind', r.kind, 'why', r.why, 'audited', r.audited, 'mismatched', r.mismatched,"
    "    'mismatches', r.mismatches, 'message', r.message)"
    "    ORDER BY r.run DESC), '[]'::json)"
    "    FROM (SELECT * FROM dovetail_internal.run ORDER BY run DESC LIMIT 20) r)"
    " )::text";
/* clang-format on */

enum http_outcome handle_status(struct server *server, struct http_request *request,
                                struct http_response *response)
{
    (void)request;
    struct postgres *postgres;
    struct catalogue *catalogue;
    struct error error = {0};
    PGresult *result = NULL;
    if (!server_take_catalogue(server, &postgres, &catalogue, response))
        return HTTP_RESPOND;
    char *refused = catalog_refusals_json(catalogue->catalog);
    enum status status = refused == NULL
                             ? error_no_memory(&error)
                             : postgres_query(postgres, status_sql, 1,
                                              (const char *const[]){refused}, &result, &error);
    if (status == STATUS_OK) {
        const char *text = PQgetvalue(result, 0, 0);
        respond_body(response, "application/json", strdup(text), strlen(text));
    } else {
        problem_respond_error(response, &error);
    }
    PQclear(result);
    free(refused);
    catalogue_release(server->catalogues, catalogue);
    pool_give_back(server->pool, postgres);
    return HTTP_RESPOND;
}
