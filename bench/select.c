/* One row by its index, over libpq alone: what a point query costs without Dovetail.
 *
 *     select CONNINFO SQL PARAMETERS CONNECTIONS SECONDS
 *
 * Prepares SQL and executes it again and again, each time with the next line of the file PARAMETERS
 * (parameters separated by tabs), on CONNECTIONS connections with a thread each. One line on
 * stdout: requests, requests a second, median and 99th percentile of the latency in milliseconds.
 * Every request must give at least one row. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support.h"

enum { PARAMETERS_MAX = 8, CONNECTIONS_MAX = 64 };

struct parameters {
    char **values; /* line by line */
    size_t line_count;
    int width;
};

struct worker {
    pthread_t thread;
    const char *conninfo;
    const char *sql;
    const struct parameters *parameters;
    size_t first_line;
    double seconds;
    double *latencies_ms;
    size_t count;
    size_t capacity;
};

/* Splits a line at its tabs; the pieces are never freed. */
static int split(char *line, char **out)
{
    int width = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *piece = strtok(line, "\t"); piece != NULL; piece = strtok(NULL, "\t")) {
        if (width == PARAMETERS_MAX)
            bench_fail("select: more than %d parameters in a line", PARAMETERS_MAX);
        out[width++] = strdup(piece);
    }
    return width;
}

static void read_parameters(const char *path, struct parameters *out)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL)
        bench_fail("select: %s cannot be opened", path);
    while (getline(&line, &room, file) > 0) {
        char *pieces[PARAMETERS_MAX];
        int width = split(line, pieces);
        if (out->line_count == 0)
            out->width = width;
        if (width == 0 || width != out->width)
            bench_fail("select: the lines of %s differ in their number of parameters", path);
        size_t held = out->line_count * (size_t)width;
        out->values = realloc(out->values, (held + (size_t)width) * sizeof *out->values);
        if (out->values == NULL)
            bench_fail("out of memory");
        memcpy(out->values + held, pieces, (size_t)width * sizeof *pieces);
        out->line_count++;
    }
    free(line);
    fclose(file);
    if (out->line_count == 0)
        bench_fail("select: %s is empty", path);
}

static void note(struct worker *worker, double latency_ms)
{
    if (worker->count == worker->capacity) {
        worker->capacity = worker->capacity == 0 ? 65536 : worker->capacity * 2;
        worker->latencies_ms =
            realloc(worker->latencies_ms, worker->capacity * sizeof *worker->latencies_ms);
        if (worker->latencies_ms == NULL)
            bench_fail("out of memory");
    }
    worker->latencies_ms[worker->count++] = latency_ms;
}

static void check(PGconn *connection, PGresult *result, ExecStatusType wanted)
{
    if (PQresultStatus(result) != wanted)
        bench_fail("select: %s", PQerrorMessage(connection));
    if (wanted == PGRES_TUPLES_OK && PQntuples(result) == 0)
        bench_fail("select: no row");
    PQclear(result);
}

static void *work(void *context)
{
    struct worker *worker = context;
    const struct parameters *parameters = worker->parameters;
    int width = parameters->width;
    PGconn *connection = PQconnectdb(worker->conninfo);
    if (PQstatus(connection) != CONNECTION_OK)
        bench_fail("select: %s", PQerrorMessage(connection));
    check(connection, PQprepare(connection, "point", worker->sql, width, NULL), PGRES_COMMAND_OK);
    double start = bench_seconds();
    double now = start;
    for (size_t line = worker->first_line; now - start < worker->seconds; line++) {
        const char *const *values =
            (const char *const *)parameters->values + line % parameters->line_count * (size_t)width;
        check(connection, PQexecPrepared(connection, "point", width, values, NULL, NULL, 1),
              PGRES_TUPLES_OK);
        double then = now;
        now = bench_seconds();
        note(worker, (now - then) * 1e3);
    }
    PQfinish(connection);
    return NULL;
}

static void report(const struct worker *workers, size_t worker_count, double seconds)
{
    size_t count = 0;
    for (size_t i = 0; i < worker_count; i++)
        count += workers[i].count;
    double *all = malloc((count + 1) * sizeof *all);
    if (all == NULL)
        bench_fail("out of memory");
    size_t filled = 0;
    for (size_t i = 0; i < worker_count; i++) {
        memcpy(all + filled, workers[i].latencies_ms, workers[i].count * sizeof *all);
        filled += workers[i].count;
    }
    double median = bench_quantile(all, count, 0.5);
    double p99 = bench_quantile(all, count, 0.99);
    printf("%zu %.1f %.4f %.4f\n", count, (double)count / seconds, median, p99);
    free(all);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        bench_fail("usage: select CONNINFO SQL PARAMETERS CONNECTIONS SECONDS");
    struct parameters parameters = {0};
    static struct worker workers[CONNECTIONS_MAX];
    size_t worker_count = (size_t)bench_number(argv[4], "CONNECTIONS", 1, CONNECTIONS_MAX);
    double seconds = (double)bench_number(argv[5], "SECONDS", 1, 3600);
    read_parameters(argv[3], &parameters);
    for (size_t i = 0; i < worker_count; i++) {
        workers[i] = (struct worker){.conninfo = argv[1],
                                     .sql = argv[2],
                                     .parameters = &parameters,
                                     .first_line = i * parameters.line_count / worker_count,
                                     .seconds = seconds};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            bench_fail("select: a thread cannot be started");
    }
    for (size_t i = 0; i < worker_count; i++)
        pthread_join(workers[i].thread, NULL);
    report(workers, worker_count, seconds);
    return 0;
}
