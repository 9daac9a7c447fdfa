/* The catalogue as serving holds it: see serving/catalogue.h.
 *
 * Invariant: fingerprint and catalogue are of one snapshot, so an equal fingerprint is an equal
 * catalogue. The lock guards `newest` and every user count; it is never held during I/O. */
#include "serving/catalogue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "serving/problem.h"

struct catalogue_holder {
    pthread_mutex_t lock;
    struct catalogue *newest; /* counts as one user */
};

/* Everything that changes what catalog_load answers: versions, their states and lookups, and the
 * run, which decides about readability. */
static const char fingerprint_sql[] =
    "SELECT r.run, pg_catalog.concat(r.run, '/',"
    " (SELECT pg_catalog.string_agg(pg_catalog.concat(v.version, v.state,"
    "   pg_catalog.md5(v.lookups)), ',' ORDER BY v.version)"
    "  FROM dovetail_internal.view_version v WHERE v.state <> 'retired'), '/',"
    " (SELECT pg_catalog.string_agg(s.source || s.registered_at, ',' ORDER BY s.source)"
    "  FROM dovetail_internal.source s))"
    " FROM dovetail_internal.current_run r";

struct catalogue_holder *catalogue_holder_create(void)
{
    struct catalogue_holder *holder = calloc(1, sizeof *holder);
    if (holder != NULL)
        pthread_mutex_init(&holder->lock, NULL);
    return holder;
}

static void catalogue_free(struct catalogue *catalogue)
{
    if (catalogue == NULL)
        return;
    catalog_destroy(catalogue->catalog);
    free(catalogue->fingerprint);
    free(catalogue);
}

void catalogue_holder_destroy(struct catalogue_holder *holder)
{
    if (holder == NULL)
        return;
    catalogue_free(holder->newest);
    pthread_mutex_destroy(&holder->lock);
    free(holder);
}

struct catalogue *catalogue_take(struct catalogue_holder *holder)
{
    pthread_mutex_lock(&holder->lock);
    struct catalogue *catalogue = holder->newest;
    if (catalogue != NULL)
        catalogue->users++;
    pthread_mutex_unlock(&holder->lock);
    return catalogue;
}

void catalogue_release(struct catalogue_holder *holder, struct catalogue *catalogue)
{
    if (catalogue == NULL)
        return;
    pthread_mutex_lock(&holder->lock);
    bool last = --catalogue->users == 0;
    pthread_mutex_unlock(&holder->lock);
    if (last)
        catalogue_free(catalogue);
}

static void replace(struct catalogue_holder *holder, struct catalogue *catalogue)
{
    catalogue->users = 1;
    pthread_mutex_lock(&holder->lock);
    struct catalogue *old = holder->newest;
    holder->newest = catalogue;
    pthread_mutex_unlock(&holder->lock);
    catalogue_release(holder, old);
}

/* Missing tables or a missing schema: `dovetail init` was not run. */
static enum status query_fingerprint(struct postgres *postgres, int64_t *run, char **out,
                                     struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres, fingerprint_sql, 0, NULL, &result, error);
    if (status == STATUS_FATAL &&
        (strcmp(error->sqlstate, "42P01") == 0 || strcmp(error->sqlstate, "3F000") == 0))
        status = error_set(error, STATUS_REJECT,
                           "the database has no tables of Dovetail: run "
                           "`dovetail init`");
    if (status == STATUS_OK && PQntuples(result) != 1)
        status = error_set(error, STATUS_FATAL, "the table current_run is empty");
    if (status == STATUS_OK) {
        *run = postgres_int64(result, 0, 0);
        *out = strdup(PQgetvalue(result, 0, 1));
        if (*out == NULL)
            status = error_no_memory(error);
    }
    PQclear(result);
    return status;
}

static enum status load(struct postgres *postgres, struct catalogue *catalogue, struct error *error)
{
    enum status status =
        postgres_execute(postgres, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (status == STATUS_OK)
        status = query_fingerprint(postgres, &catalogue->run, &catalogue->fingerprint, error);
    if (status == STATUS_OK)
        status = catalog_load(postgres, &catalogue->catalog, error);
    struct error ignored;
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    else if (postgres_execute(postgres, "ROLLBACK", &ignored) != STATUS_OK)
        return status; /* the connection is broken, the pool renews it */
    return status;
}

static bool is_newest(struct catalogue_holder *holder, const char *fingerprint)
{
    pthread_mutex_lock(&holder->lock);
    bool same = holder->newest != NULL && strcmp(holder->newest->fingerprint, fingerprint) == 0;
    pthread_mutex_unlock(&holder->lock);
    return same;
}

/* At each new catalogue, not at each request. */
static void tell_refusals(const struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        char text[ERROR_TEXT_BYTES];
        catalog_refusal_describe(&catalog->refusals[i], text, sizeof text);
        program_log(LOG_ERR, "%s", text);
    }
}

enum status catalogue_refresh(struct catalogue_holder *holder, struct postgres *postgres,
                              struct error *error)
{
    int64_t run;
    char *fingerprint = NULL;
    enum status status = query_fingerprint(postgres, &run, &fingerprint, error);
    if (status != STATUS_OK)
        return status;
    bool same = is_newest(holder, fingerprint);
    free(fingerprint);
    if (same)
        return STATUS_OK;
    struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (catalogue == NULL)
        return error_no_memory(error);
    status = load(postgres, catalogue, error);
    if (status == STATUS_OK) {
        tell_refusals(catalogue->catalog);
        replace(holder, catalogue);
    } else {
        catalogue_free(catalogue);
    }
    return status;
}

/* --- views that cannot be asked --- */

bool catalogue_has_view(const struct catalogue *catalogue, const char *view)
{
    for (size_t i = 0; i < catalogue->catalog->version_count; i++)
        if (strcmp(catalogue->catalog->versions[i].view->name, view) == 0)
            return true;
    return catalog_refused_view(catalogue->catalog, view) != NULL;
}

/* Some version of it, which may be one that is being built. */
static bool fits_caller(const struct catalogue *catalogue, const char *view,
                        const struct access_token *caller)
{
    for (size_t i = 0; i < catalogue->catalog->version_count; i++) {
        const struct view *one = catalogue->catalog->versions[i].view;
        if (strcmp(one->name, view) == 0 && access_fits_view(caller, one))
            return true;
    }
    return false;
}

void catalogue_respond_no_version(const struct catalogue *catalogue, const char *view,
                                  const struct access_token *caller, struct http_response *response)
{
    const struct catalog_refusal *refusal = catalog_refused_view(catalogue->catalog, view);
    if (access_has_rows(caller) && !fits_caller(catalogue, view, caller))
        access_refuse_view(response);
    else if (refusal != NULL)
        problem_respond(response, 503, NULL,
                        "version %d of the view \"%s\" is refused by this program: %s",
                        refusal->version, view, refusal->reason);
    else if (catalogue_has_view(catalogue, view))
        problem_respond(response, 503, NULL,
                        "the view \"%s\" is still being built: no batch run covers it yet", view);
    else
        problem_respond(response, 404, NULL, "there is no view of this name; see /v1/views");
}
