/* Watches the speed layer's positions move, from outside.
 *
 *     watch CONNINFO TOPIC RECORDS TIMEOUT_SECONDS
 *
 * Looks every few milliseconds how many records of TOPIC lie below P, until all RECORDS do. One
 * line on stdout: when P first moved (seconds since the epoch), records below P then, when all were
 * below P. "watching" goes to stderr when it has begun. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/support.h"

enum { STEP_NS = 4000000 };

static long long read_position(PGconn *connection, const char *topic)
{
    PGresult *result = PQexecPrepared(connection, "watch", 1, &topic, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        bench_fail("watch: %s", PQerrorMessage(connection));
    long long records = atoll(PQgetvalue(result, 0, 0));
    PQclear(result);
    return records;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        bench_fail("usage: watch CONNINFO TOPIC RECORDS TIMEOUT_SECONDS");
    long long wanted = atoll(argv[3]);
    double end = bench_seconds() + (double)bench_number(argv[4], "TIMEOUT_SECONDS", 1, 86400);
    PGconn *connection = PQconnectdb(argv[1]);
    PGresult *prepared = PQprepare(connection, "watch",
                                   "SELECT coalesce(sum(next_offset - base_offset), 0)::bigint "
                                   "FROM dovetail_internal.position WHERE topic = $1",
                                   1, NULL);
    if (PQresultStatus(prepared) != PGRES_COMMAND_OK)
        bench_fail("watch: %s", PQerrorMessage(connection));
    PQclear(prepared);
    fputs("watching\n", stderr);
    double first = 0;
    long long first_records = 0;
    for (;;) {
        long long records = read_position(connection, argv[2]);
        double now = bench_clock_seconds();
        if (records > 0 && first_records == 0) {
            first = now;
            first_records = records;
        }
        if (records >= wanted) {
            printf("%.6f %lld %.6f\n", first, first_records, now);
            break;
        }
        if (bench_seconds() > end)
            bench_fail("watch: after %s seconds %lld of %lld records are below P", argv[4], records,
                       wanted);
        nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
    }
    PQfinish(connection);
    return 0;
}
