/* Routes, dispatch, start and stop: see serving/server.h.
 *
 * Invariant: one connection of the pool for each thread that may need one at a time (the HTTP
 * threads and the one that waits; live streams have a pool of their own), so taking one never has
 * to wait for another request. Nothing here needs PostgreSQL to be there at the start: requests are
 * answered with 503 until it is. */
#include "serving/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/program/program.h"
#include "serving/compress.h"
#include "serving/problem.h"

enum {
    STATEMENT_MS = 30000,
    DRAIN_MS = 40000, /* longer than the longest statement and the longest wait */
};

static const struct route routes[] = {
    {"/", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_dashboard, false},
    {"/dashboard/{file}", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_dashboard, false},
    {"/dashboard/vendor/{file}", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_dashboard, false},
    {"/v1/views", ROUTE_NO_PARAMETERS, ACCESS_TOKEN, handle_views, false},
    {"/v1/views/{view}", ROUTE_NO_PARAMETERS, ACCESS_TOKEN, handle_view, false},
    {"/v1/views/{view}/rows", ROUTE_OWN_PARAMETERS, ACCESS_TOKEN, handle_rows, false},
    {"/v1/views/{view}/live", ROUTE_OWN_PARAMETERS, ACCESS_TOKEN, handle_live, false},
    {"/v1/sources/{source}/events", ROUTE_OWN_PARAMETERS, ACCESS_TOKEN, handle_ingest, true},
    {"/v1/status", ROUTE_NO_PARAMETERS, ACCESS_ADMIN, handle_status, false},
    {"/livez", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_livez, false},
    {"/readyz", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_readyz, false},
    {"/metrics", ROUTE_IGNORES_THEM, ACCESS_ADMIN, handle_metrics, false},
    {"/openapi.json", ROUTE_IGNORES_THEM, ACCESS_OPEN, handle_openapi, false},
};

enum { ROUTE_COUNT = sizeof routes / sizeof routes[0] };

const struct route *server_routes(size_t *count)
{
    *count = ROUTE_COUNT;
    return routes;
}

/* --- dispatch --- */

static bool segment_matches(const char *pattern, size_t length, const char *segment)
{
    if (length > 0 && pattern[0] == '{')
        return segment[0] != '\0';
    return strlen(segment) == length && memcmp(pattern, segment, length) == 0;
}

static bool path_matches(const char *pattern, const struct http_request *request)
{
    size_t index = 0;
    pattern++; /* the leading '/' */
    while (*pattern != '\0') {
        size_t length = strcspn(pattern, "/");
        if (index >= request->segment_count || index >= HTTP_SEGMENT_MAX ||
            !segment_matches(pattern, length, request->segments[index]))
            return false;
        index++;
        pattern += length;
        pattern += *pattern == '/' ? 1 : 0;
    }
    return index == request->segment_count;
}

static size_t find_route(const struct http_request *request)
{
    size_t route = request->fault.status == 414 ? ROUTE_COUNT : 0; /* its path was not looked at */
    while (route < ROUTE_COUNT && !path_matches(routes[route].path, request))
        route++;
    return route;
}

static void respond_fault(const struct http_request *request, struct http_response *response)
{
    const char *parameter = request->fault.parameter[0] != '\0' ? request->fault.parameter : NULL;
    problem_respond(response, request->fault.status, parameter, "%s%s%s",
                    parameter != NULL ? parameter : "", parameter != NULL ? ": " : "",
                    request->fault.detail);
}

static void respond_method(const struct route *route, struct http_response *response)
{
    problem_respond(response, 405, NULL, "only %s answered here",
                    route->is_post ? "POST is" : "GET and HEAD are");
    respond_header(response, "Allow", route->is_post ? "POST" : "GET, HEAD");
}

static enum http_outcome dispatch(struct server *server, size_t route, struct http_request *request,
                                  struct http_response *response)
{
    bool path_fault = request->fault.status != 0 && request->fault.parameter[0] == '\0';
    /* Before all else: who is not known here learns nothing, not even which paths there are. */
    enum access_need need = route < ROUTE_COUNT ? routes[route].need : ACCESS_TOKEN;
    if (request->is_unknown) {
        problem_respond(response, 403, NULL,
                        "a client certificate of an authority that is known here is needed");
        return HTTP_RESPOND;
    }
    if (!access_check(server->access, need, request, response))
        return HTTP_RESPOND;
    if (path_fault) {
        respond_fault(request, response);
    } else if (route == ROUTE_COUNT) {
        problem_respond(response, 404, NULL, "there is nothing at this path; see /openapi.json");
    } else if (routes[route].is_post ? !request->is_post : !request->is_read) {
        respond_method(&routes[route], response);
    } else if (routes[route].parameters == ROUTE_IGNORES_THEM) {
        return routes[route].handle(server, request, response);
    } else if (request->fault.status != 0) {
        respond_fault(request, response);
    } else if (routes[route].parameters == ROUTE_NO_PARAMETERS && request->parameter_count > 0) {
        const char *name = request->parameters[0].name;
        problem_respond(response, 400, name, "%s: this path takes no parameters", name);
    } else {
        return routes[route].handle(server, request, response);
    }
    return HTTP_RESPOND;
}

/* Of whom a body is waited for: only of those whose request will be looked at. */
static size_t admit(struct http_request *request, void *context)
{
    struct server *server = context;
    struct http_response ignored = {0};
    size_t route = find_route(request);
    bool may = route < ROUTE_COUNT && routes[route].is_post && request->is_post &&
               request->fault.status == 0 && !request->is_unknown &&
               access_check(server->access, routes[route].need, request, &ignored);
    http_response_clear(&ignored);
    return may ? ingest_admit(server, request) : 0;
}

/* Whoever sent it may have given it up. Saying so costs next to nothing, so that a queue goes away
 * as soon as threads are free; the health checks cost no more. */
static bool is_overdue(const struct server *server, size_t route,
                       const struct http_request *request)
{
    return request->waited_ms > server->config->serving_queue_ms &&
           (route == ROUTE_COUNT || routes[route].need != ACCESS_OPEN);
}

static enum http_outcome handle(struct http_request *request, struct http_response *response,
                                void *context)
{
    struct server *server = context;
    size_t route = find_route(request);
    enum http_outcome outcome = HTTP_RESPOND;
    if (is_overdue(server, route, request))
        problem_respond(response, 503, NULL,
                        "more requests come than can be answered: this one waited for %lld ms",
                        (long long)request->waited_ms);
    else
        outcome = dispatch(server, route, request, response);
    if (outcome == HTTP_RESPOND) {
        compress_response(request, response);
        metrics_count(server->metrics, route, response->status,
                      program_monotonic_us() - request->started_us);
    }
    return outcome;
}

/* --- what handlers share --- */

enum status server_query_status(struct server *server, const char *sql, PGresult **result,
                                struct error *error)
{
    struct postgres *postgres = NULL;
    *result = NULL;
    enum status status = pool_take(server->pool, &postgres, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(postgres, sql, 0, NULL, result, error);
    if (status == STATUS_RETRY && pool_renew(server->pool, postgres, error)) {
        PQclear(*result);
        *result = NULL;
        status = postgres_query(postgres, sql, 0, NULL, result, error);
    }
    pool_give_back(server->pool, postgres);
    if (status == STATUS_FATAL &&
        (strcmp(error->sqlstate, "42P01") == 0 || strcmp(error->sqlstate, "3F000") == 0))
        status = error_set(error, STATUS_RETRY,
                           "the database has no tables of Dovetail: run "
                           "`dovetail init`");
    return status;
}

bool server_query(struct server *server, const char *sql, PGresult **result,
                  struct http_response *response)
{
    struct error error;
    if (server_query_status(server, sql, result, &error) == STATUS_OK)
        return true;
    problem_respond_error(response, &error);
    return false;
}

bool server_take_catalogue(struct server *server, struct postgres **postgres,
                           struct catalogue **catalogue, struct http_response *response)
{
    struct error error;
    *catalogue = NULL;
    enum status status = pool_take(server->pool, postgres, &error);
    if (status == STATUS_OK) {
        status = catalogue_refresh(server->catalogues, *postgres, &error);
        if (status == STATUS_RETRY && pool_renew(server->pool, *postgres, &error))
            status = catalogue_refresh(server->catalogues, *postgres, &error);
    }
    if (status == STATUS_OK) {
        *catalogue = catalogue_take(server->catalogues);
        return true;
    }
    if (status == STATUS_REJECT) /* of the database, not of the request */
        problem_respond(response, 503, NULL, "%s", error.text);
    else
        problem_respond_error(response, &error);
    pool_give_back(server->pool, *postgres);
    *postgres = NULL;
    return false;
}

/* For the glance. A lost connection is renewed by who needs it next. */
static enum status look(void *context, struct query_mark *out, struct error *error)
{
    struct server *server = context;
    struct postgres *postgres = NULL;
    enum status status = pool_take(server->pool, &postgres, error);
    if (status == STATUS_OK)
        status = query_mark_read(postgres, out, error);
    pool_give_back(server->pool, postgres);
    return status;
}

/* --- start and stop --- */

/* A thread waits for PostgreSQL most of the time, so there are a few more than processors: with
 * fewer, one slow roll-up would hold up every connection of its thread. */
static int thread_count(const struct config *config)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (config->serving_threads > 0)
        return (int)config->serving_threads;
    return processors < 4 ? 4 : (int)processors;
}

enum status server_start(const struct config *config, struct server **out, struct error *error)
{
    struct server *server = calloc(1, sizeof *server);
    *out = NULL;
    if (server == NULL)
        return error_no_memory(error);
    int threads = thread_count(config);
    server->config = config;
    server->budget.limit_bytes = (size_t)config->serving_memory_bytes;
    server->catalogues = catalogue_holder_create();
    server->metrics = metrics_create(ROUTE_COUNT + 1);
    server->cache = cache_create((size_t)config->serving_cache_bytes);
    enum status status = STATUS_OK;
    if (server->catalogues == NULL || server->metrics == NULL || server->cache == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = pool_create(config->postgres, threads + 3, STATEMENT_MS, &server->pool, error);
    if (status == STATUS_OK)
        status = glance_create(look, server, &server->glance, error);
    if (status == STATUS_OK)
        status = access_create(config, &server->access, error);
    if (status == STATUS_OK)
        status = waiters_create(server->pool, &server->waiters, error);
    if (status == STATUS_OK)
        status = live_create(server, threads, &server->live, error);
    if (status == STATUS_OK)
        status = tls_load(config, &server->tls, error);
    if (status == STATUS_OK && ingest_is_configured(config))
        status = ingest_create(config, &server->ingest, error);
    if (status == STATUS_OK && config->serving_udp_listen != NULL)
        status = udp_create(config, server->pool, server->catalogues, server->ingest, &server->udp,
                            error);
    if (status == STATUS_OK) {
        bool anybody_may = config->serving_token_count > 0 ||
                           config->serving_tls_client_ca != NULL ||
                           config->serving_allow_unauthenticated;
        const struct http_options options = {
            .listen = config->serving_listen,
            .key = "serving.listen",
            .threads = threads,
            .tls = server->tls,
            .connections = (int)config->serving_connections,
            .connections_per_address = (int)config->serving_connections_per_address,
            .receive_timeout_ms = config->serving_receive_timeout_ms,
            .respond_timeout_ms = config->serving_respond_timeout_ms,
            .loopback_only = anybody_may ? NULL
                                         : "whoever reaches it could read every view: configure "
                                           "serving.tokens or serving.tls_client_ca, or say that "
                                           "this is meant with serving.allow_unauthenticated",
            .handler = handle,
            .admit = admit,
            .body_memory_bytes = (size_t)config->serving_ingest_memory_bytes,
            .context = server,
        };
        status = http_server_start(&options, &server->http, error);
    }
    if (status != STATUS_OK) {
        server_stop(server);
        return status;
    }
    *out = server;
    return STATUS_OK;
}

void server_stop(struct server *server)
{
    if (server == NULL)
        return;
    if (server->waiters != NULL)
        waiters_close(server->waiters); /* libmicrohttpd cannot stop with suspended requests */
    if (server->live != NULL)
        live_close(server->live); /* nor with these */
    if (server->glance != NULL)
        glance_close(server->glance); /* nor with these */
    if (server->ingest != NULL)
        ingest_close(server->ingest); /* nor with these: those that are there end by themselves */
    if (server->http != NULL)
        http_server_drain(server->http, DRAIN_MS);
    http_server_destroy(server->http);
    udp_stop(server->udp);
    ingest_destroy(server->ingest);
    udp_destroy(server->udp);
    waiters_destroy(server->waiters);
    live_destroy(server->live);
    pool_destroy(server->pool);
    catalogue_holder_destroy(server->catalogues);
    metrics_destroy(server->metrics);
    glance_destroy(server->glance);
    cache_destroy(server->cache);
    access_destroy(server->access);
    tls_destroy(server->tls);
    free(server);
}
