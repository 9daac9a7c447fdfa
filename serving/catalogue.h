/* The catalogue as serving holds it: loaded on first use, replaced whole when the database has
 * another one, counted by its users. Any thread. */
#ifndef DOVETAIL_SERVING_CATALOGUE_H
#define DOVETAIL_SERVING_CATALOGUE_H

#include "core/catalog/catalog.h"
#include "core/http/http.h"
#include "serving/access.h"

/* One loaded catalogue. Good until it is released. */
struct catalogue {
    struct catalog *catalog;
    int64_t run; /* current when it was loaded */
    /* private */
    char *fingerprint;
    int users;
};

struct catalogue_holder;

struct catalogue_holder *catalogue_holder_create(void) MUST_CHECK; /* NULL: out of memory */
void catalogue_holder_destroy(struct catalogue_holder *holder);

/* The newest one loaded; NULL when there is none yet. */
struct catalogue *catalogue_take(struct catalogue_holder *holder);
void catalogue_release(struct catalogue_holder *holder, struct catalogue *catalogue);

/* Loads the catalogue if the database's is another one than the newest loaded (one small query).
 * STATUS_REJECT: the database has no tables of ours, or of another version. */
enum status catalogue_refresh(struct catalogue_holder *holder, struct postgres *postgres,
                              struct error *error) MUST_CHECK;

/* Whether a view of this name is registered, readable or not. */
bool catalogue_has_view(const struct catalogue *catalogue, const char *view);
/* Why a view has no version that can be asked. 404: there is no such view. 503: its first version
 * is not published yet, or this program refuses its definition. 403: no version of it is one for
 * the caller's rows, or there is no such view. */
void catalogue_respond_no_version(const struct catalogue *catalogue, const char *view,
                                  const struct access_token *caller,
                                  struct http_response *response);

#endif
