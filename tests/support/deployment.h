/* A deployment of its own for one test: a fresh database, topics with a random suffix, and a
 * directory with dovetail.json and schemas/. deployment_destroy removes all of it, whatever
 * happened; with DOVETAIL_KEEP set everything but the processes stays for a look.
 *
 * Belongs to the test's main thread. What goes wrong fails the test. */
#ifndef DOVETAIL_TESTS_SUPPORT_DEPLOYMENT_H
#define DOVETAIL_TESTS_SUPPORT_DEPLOYMENT_H

#include <jansson.h>
#include <libpq-fe.h>
#include <limits.h>

#include "tests/support/child.h"

struct deployment {
    char directory[64];
    char config[80]; /* dovetail.json in it */
    char suffix[20]; /* of its topics */
    char database[64];
    char postgres[512]; /* conninfo of the database */
    const char *server; /* borrowed: conninfo of where databases are made */
    int port;           /* of its serving process, once started */
    json_t *settings;   /* what dovetail.json says */
    struct child *serving;
};

/* Makes directory, database and dovetail.json: short intervals, so that much happens. */
struct deployment *deployment_create(void);
/* With the database on another server, a conninfo of somebody who may create databases. It is not
 * dropped: it goes with the server. */
struct deployment *deployment_create_on(const char *conninfo);
void deployment_destroy(struct deployment *deployment); /* accepts NULL */

/* Replaces one setting, such as ("speed", "slice_interval_ms", json_integer(500)): takes `value`.
 */
void deployment_set(struct deployment *deployment, const char *section, const char *key,
                    json_t *value);

/* The topic of a source: unique to this deployment; good until the next call but 7. */
const char *deployment_topic(const struct deployment *deployment, const char *source);

/* A file below the directory, such as "schemas/views/a.json". */
void deployment_write(const struct deployment *deployment, const char *path, const char *text);
void deployment_remove(const struct deployment *deployment, const char *path);

/* Writes a definition; a source gets its topic from here. */
void deployment_define_source(const struct deployment *deployment, const char *json);
void deployment_define_view(const struct deployment *deployment, const char *json);

/* Starts a program with --config and the arguments up to NULL. */
struct child *deployment_start(const struct deployment *deployment, const char *program, ...)
    __attribute__((sentinel));
/* Runs it to its end; the exit code must be `expected`. */
struct child *deployment_run(const struct deployment *deployment, int expected, const char *program,
                             ...) __attribute__((sentinel));

/* Starts dovetail-serving on a free port and waits until /readyz answers 200. */
void deployment_serve(struct deployment *deployment);
/* The same for one that the test has started by itself, at the port that is configured. */
void deployment_await_serving(struct deployment *deployment, struct child *serving);

/* A connection to the database; the caller closes it. */
PGconn *deployment_connect(const struct deployment *deployment);

/* One number of the database, over a connection that stays, because tests ask again and again. -1
 * for NULL or no row. */
int64_t deployment_number(const struct deployment *deployment, const char *sql);
/* The same; false: the database is away, or has no such number yet. */
bool deployment_has_number(const struct deployment *deployment, const char *sql, int64_t *out);

#endif
