/* PostgreSQL servers of a test's own, which may be stopped, filled up, copied and lost.
 *
 * Each is made from Debian's binaries on a free port of 127.0.0.1, below the temporary directory;
 * started by root it runs as user postgres. It dies with the test. Main thread; what goes wrong
 * fails the test. */
#ifndef DOVETAIL_TESTS_SUPPORT_PGCLUSTER_H
#define DOVETAIL_TESTS_SUPPORT_PGCLUSTER_H

#include <stdbool.h>

struct pgcluster;

/* Makes and starts a server; `settings` are lines of postgresql.conf, or NULL. */
struct pgcluster *pgcluster_create(const char *settings);
/* A streaming replica of the one at `port`, which may be a proxy's. */
struct pgcluster *pgcluster_create_replica(int port);
/* On a file system of `megabytes` that the caller can fill up; NULL where nobody may mount one. */
struct pgcluster *pgcluster_create_small(int megabytes, const char *settings);
void pgcluster_destroy(struct pgcluster *cluster); /* accepts NULL */

int pgcluster_port(const struct pgcluster *cluster);
/* Conninfo of its superuser, database postgres; good while the cluster is. */
const char *pgcluster_conninfo(const struct pgcluster *cluster);

/* Returns when it answers. */
void pgcluster_start(struct pgcluster *cluster);
/* No checkpoint, sessions are cut off: recovery at the next start. */
void pgcluster_stop_immediately(struct pgcluster *cluster);
void pgcluster_promote(struct pgcluster *cluster);

/* Takes what room is left on its file system, or gives it back. */
void pgcluster_fill(struct pgcluster *cluster, bool full);

#endif
