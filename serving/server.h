/* The server's state, and its table of routes: one file for each handler, one row for each route.
 */
#ifndef DOVETAIL_SERVING_SERVER_H
#define DOVETAIL_SERVING_SERVER_H

#include "core/program/config.h"
#include "core/query/query.h"
#include "serving/access.h"
#include "serving/cache.h"
#include "serving/catalogue.h"
#include "core/http/http.h"
#include "serving/glance.h"
#include "serving/ingest.h"
#include "serving/live.h"
#include "serving/metrics.h"
#include "serving/pool.h"
#include "serving/udp.h"
#include "core/http/tls.h"
#include "serving/wait.h"

struct server {
    const struct config *config;
    struct pool *pool;
    struct catalogue_holder *catalogues;
    struct metrics *metrics;
    struct cache *cache;
    struct glance *glance;
    struct waiters *waiters;
    struct live *live;
    struct http_server *http;
    struct access *access;
    struct tls *tls;            /* NULL: plain HTTP */
    struct query_budget budget; /* of all requests together */
    struct ingest *ingest;      /* NULL: nobody may send events */
    struct udp *udp;            /* NULL: not by UDP */
};

/* Runs in a thread of the HTTP server; may block as long as PostgreSQL's statement_timeout. */
typedef enum http_outcome (*route_handler)(struct server *server, struct http_request *request,
                                           struct http_response *response);

enum route_parameters {
    ROUTE_NO_PARAMETERS,  /* any parameter is a fault */
    ROUTE_OWN_PARAMETERS, /* the handler checks them */
    ROUTE_IGNORES_THEM,
};

struct route {
    const char *path; /* "/v1/views/{view}": braces take any one segment */
    enum route_parameters parameters;
    enum access_need need;
    route_handler handle;
    bool is_post; /* POST, and nothing else; else GET and HEAD */
};

/* All routes. Metrics number them in this order, and requests that match none behind the last. */
const struct route *server_routes(size_t *count);

enum status server_start(const struct config *config, struct server **out,
                         struct error *error) MUST_CHECK;
/* Finishes what is being answered, then ends every thread and connection. Accepts NULL. */
void server_stop(struct server *server);

/* A connection, and a catalogue that is as new as the database's. On failure *response has the
 * problem; on success both are given back by the caller. */
bool server_take_catalogue(struct server *server, struct postgres **postgres,
                           struct catalogue **catalogue, struct http_response *response) MUST_CHECK;

/* One statement without parameters whose text results are for a status page; retried once where the
 * connection was lost. On failure *response has the problem. The caller clears *result. */
bool server_query(struct server *server, const char *sql, PGresult **result,
                  struct http_response *response) MUST_CHECK;
/* The same, told as an error. */
enum status server_query_status(struct server *server, const char *sql, PGresult **result,
                                struct error *error) MUST_CHECK;

/* --- handlers, each in a file of its name --- */

enum http_outcome handle_rows(struct server *server, struct http_request *request,
                              struct http_response *response);
enum http_outcome handle_live(struct server *server, struct http_request *request,
                              struct http_response *response);
enum http_outcome handle_ingest(struct server *server, struct http_request *request,
                                struct http_response *response);
/* How many bytes of events may come with the request, before they have come; 0: none. */
size_t ingest_admit(const struct server *server, const struct http_request *request);
enum http_outcome handle_views(struct server *server, struct http_request *request,
                               struct http_response *response);
enum http_outcome handle_view(struct server *server, struct http_request *request,
                              struct http_response *response);
enum http_outcome handle_status(struct server *server, struct http_request *request,
                                struct http_response *response);
enum http_outcome handle_livez(struct server *server, struct http_request *request,
                               struct http_response *response);
enum http_outcome handle_readyz(struct server *server, struct http_request *request,
                                struct http_response *response);
enum http_outcome handle_metrics(struct server *server, struct http_request *request,
                                 struct http_response *response);
enum http_outcome handle_openapi(struct server *server, struct http_request *request,
                                 struct http_response *response);
enum http_outcome handle_dashboard(struct server *server, struct http_request *request,
                                   struct http_response *response);

#endif
